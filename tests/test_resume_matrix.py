"""Going on is exact in every setting: whatever the settings are, a training that was stopped comes to the same bits."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count, permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from octavo import checkpoint, resumption, training
from octavo.checkpoint import newest_valid
from octavo.config import Asked, ModelConfig, RunConfig, TrainConfig
from octavo.data import Batches
from octavo.disk import seal
from octavo.errors import DamagedError, RunError
from octavo.events import Stepped
from octavo.model import GPT
from octavo.parallel import Spread
from octavo.randomness import seed_for
from octavo.saved import checkpoint_folder, read_facts, steps_saved
from octavo.standing import NEWER, Standing
from octavo.trainer import Trainer
from sweeps import SWEEPS
from test_nothing_lost import left, same

STEPS = 12
AXES: dict[str, tuple[Any, Any]] = {
    "dtype": ("float32", "bfloat16"),
    "dropout": (0.0, 0.1),
    "micro_batches": (1, 4),
    "tokenizer": ("character", "bpe"),
    "optimizer": ("muon", "adamw"),
}
PAIRS = (0b00000, 0b10111, 0b01011, 0b01101, 0b10110, 0b11000)  # of any two settings, every pair of values
SEEDS = -(-SWEEPS["resumed trainings"][1] // 2 ** len(AXES))
ALL = [(number, seed) for seed in range(SEEDS) for number in range(2 ** len(AXES))][: SWEEPS["resumed trainings"][1]]


def setting(number: int) -> dict[str, Any]:
    return {name: values[number >> place & 1] for place, (name, values) in enumerate(AXES.items())}


pytestmark = pytest.mark.usefixtures("workplace", "unchecked")


def begin(out: str, *, seed: int = 0, tokenizer: str = "character", optimizer: str = "muon", **train: Any) -> Trainer:
    modern = {"dialect": "modern" if optimizer == "muon" else "gpt2"}
    model = ModelConfig(**modern, layers=2, heads=2, width=32, context=16)
    base = RunConfig(
        model=model,
        train=TrainConfig(steps=STEPS, batch=4, eval_every=5, seed=seed, optimizer=optimizer, **train),
    )
    asked = Asked(seed=seed, tokenizer=tokenizer, vocab_size=300 if tokenizer == "bpe" else None, device="cpu")
    return training.begin(["text.txt"], asked, out=out, base=base)


def until(trainer: Trainer, step: int | None) -> None:
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == step:
            trainer.stop()


def interrupted(out: str, stops: list[int], **settings: Any) -> None:
    until(begin(out, **settings), stops[0])
    for stop in [*stops[1:], None]:
        until(training.resume(Path(out), Asked()), stop)


def test_six_settings_hold_every_pair_of_values() -> None:
    rows = [list(setting(number).values()) for number in PAIRS]
    assert len(rows) == SWEEPS["resumed trainings"][0]
    for one, other in permutations(range(len(AXES)), 2):
        assert len({(row[one], row[other]) for row in rows}) == 4


@pytest.mark.parametrize(
    ("number", "seed"),
    [(number, 0) for number in PAIRS]
    + [pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in [(number, 0) for number in PAIRS]],
)
def test_three_interruptions_change_no_bit(number: int, seed: int) -> None:
    settings = {**setting(number), "seed": seed}
    until(begin("whole", **settings), None)
    stops = sorted(Random(f"{number} {seed}").sample(range(1, STEPS), 3))
    interrupted("run", stops, **settings)
    assert same(left("run", STEPS), left("whole", STEPS))


def edited(out: str, step: int, change: Callable[[dict[str, Any]], object]) -> None:
    """A checkpoint whose facts are others, sealed as if they had been saved so."""
    folder = checkpoint_folder(Path(out), step)
    facts = json.loads((folder / "training.json").read_text())
    change(facts)
    (folder / "training.json").write_text(json.dumps(facts))
    seal(folder)


@pytest.mark.parametrize("name", [*sorted(Standing.__dataclass_fields__.keys() - NEWER), "config", "text_sha256"])
def test_no_fact_may_be_missing(name: str) -> None:
    until(begin("run"), 7)
    edited("run", 7, lambda facts: facts.pop(name))
    with pytest.raises((DamagedError, RunError)):
        training.resume(Path("run"), Asked())


def test_no_tensor_may_be_missing() -> None:
    until(begin("run"), 7)
    folder = checkpoint_folder(Path("run"), 7)
    path = folder / "state.safetensors"
    state = {name: tensor.clone() for name, tensor in checkpoint.load_file(path).items()}
    for name in state:
        checkpoint.save_file({other: state[other] for other in state if other != name}, path)
        seal(folder)
        with pytest.raises(DamagedError, match=name.split(".", 1)[1]):
            training.resume(Path("run"), Asked())


def forget_the_optimizers(patch: pytest.MonkeyPatch) -> None:
    real = resumption.restore

    def restore(folder: Path, model: GPT, optimizers: Sequence[torch.optim.Optimizer], spread: Spread) -> None:
        real(folder, model, optimizers, spread)
        for optimizer in optimizers:
            optimizer.state.clear()

    patch.setattr(resumption, "restore", restore)


def forget_the_weights(patch: pytest.MonkeyPatch) -> None:
    real = resumption.restore

    def restore(folder: Path, model: GPT, optimizers: Sequence[torch.optim.Optimizer], spread: Spread) -> None:
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        real(folder, model, optimizers, spread)
        with torch.no_grad():
            model.get_parameter("norm.weight").copy_(before["norm.weight"])

    patch.setattr(resumption, "restore", restore)


def forget_the_step_in_dropout(patch: pytest.MonkeyPatch) -> None:
    def another(stream: str, *numbers: int) -> int:
        return seed_for(stream, *numbers) + (stream == "dropout")

    patch.setattr("octavo.learner.seed_for", another)


def forget_the_data(patch: pytest.MonkeyPatch) -> None:
    real, begun = Batches.rows, count()
    patch.setattr(Batches, "rows", lambda self, step, start, stop: real(self, next(begun), start, stop))


def forget_to_cut_the_logs(patch: pytest.MonkeyPatch) -> None:
    with Path("run/metrics.jsonl").open("a") as log:
        log.write('{"step": 8, "train_loss": 1.0}\n')
    patch.setattr("octavo.journal.Journal.cut", lambda self, step: self.close())


def forget_the_best(patch: pytest.MonkeyPatch) -> None:
    real = Standing.of
    patch.setattr(Standing, "of", lambda facts: real({**facts, "best": BEST}))


BEST = {"step": 1, "val_loss": 0.0, "val_nats_per_character": 0.0, "val_bits_per_byte": 0.0}


@pytest.mark.parametrize(
    "forget",
    [
        forget_the_optimizers,
        forget_the_weights,
        forget_the_step_in_dropout,
        forget_the_data,
        forget_to_cut_the_logs,
        forget_the_best,
    ],
)
def test_what_is_forgotten_is_noticed(forget: Callable[[pytest.MonkeyPatch], None]) -> None:
    """The tests above would fail if a resume left out one of these things."""
    until(begin("whole", dropout=0.1), None)
    until(begin("run", dropout=0.1), 7)
    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        until(training.resume(Path("run"), Asked()), None)
    assert not same(left("run", STEPS), left("whole", STEPS))


def flips(content: bytes, draw: Random, times: int) -> Iterator[bytes]:
    for _ in range(times):
        data, bit = bytearray(content), draw.randrange(8 * len(content))
        data[bit // 8] ^= 1 << bit % 8
        yield bytes(data)


def cuts(content: bytes, draw: Random, times: int) -> Iterator[bytes]:
    for _ in range(times):
        yield content[: draw.randrange(len(content))]


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.timeout(7200)
def test_every_flipped_bit_and_every_truncation_is_noticed(slow: bool) -> None:
    until(begin("run"), 7)
    draw, noticed, before = Random(0), 0, steps_saved(Path("run"))[1]
    files = sorted(checkpoint_folder(Path("run"), 7).iterdir())
    for way, name in ((flips, "flipped bits"), (cuts, "truncations")):
        for index, file in enumerate(files):
            content, share = file.read_bytes(), SWEEPS[name][slow] // len(files)
            rest = SWEEPS[name][slow] % len(files) if index == 0 else 0
            for changed in way(content, draw, share + rest):
                file.write_bytes(changed)
                with pytest.raises(DamagedError):
                    read_facts(checkpoint_folder(Path("run"), 7))
                assert newest_valid(Path("run"), on_damage=lambda line: None)[0] == before
                noticed += 1
            file.write_bytes(content)
    assert noticed == sum(SWEEPS[name][slow] for name in ("flipped bits", "truncations"))
    assert newest_valid(Path("run"), on_damage=lambda line: None)[0] == 7
