"""The training loop and the run it leaves: exact, resumable, and honest about its best weights."""

import gc
import io
import itertools
import json
import math
import shutil
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

import octavo
from octavo import step, toml, training
from octavo.checkpoint import newest_valid, snapshot_steps
from octavo.config import Asked
from octavo.errors import ConfigError, OctavoError, RunError, SaveError, UserError
from octavo.evaluation import examine, held_out
from octavo.events import Evaluated, Event, Finished, Note, Sampled, Saved, Stepped
from octavo.making import LARGE
from octavo.model import GPT
from octavo.processes import Processes
from octavo.saved import checkpoint_folder, read_facts, snapshots, steps_saved
from octavo.standing import Standing
from octavo.step import StepResult
from octavo.tokenizers import BPETokenizer
from octavo.trainer import Trainer
from test_repeating import Again
from texts import sentences
from warm import Warm

CLOCK = ("seconds", "tokens_per_second")
TINY = {"layers": 2, "heads": 2, "width": 32, "context": 16, "batch": 4, "eval_every": 4}


pytestmark = pytest.mark.usefixtures("workplace")


def begin(out: str = "run", **asked: Any) -> Trainer:
    return training.begin(["text.txt"], Asked(**{**TINY, **asked}), out=out)


def whole(trainer: Trainer) -> list[Event]:
    return list(trainer.events())


def until(trainer: Trainer, step: int) -> list[Event]:
    events = []
    for event in trainer.events():
        events.append(event)
        if isinstance(event, Stepped) and event.step == step:
            trainer.stop()
    return events


def state(run: Path | str, step: int) -> dict[str, torch.Tensor]:
    return load_file(checkpoint_folder(Path(run), step) / "state.safetensors")


def metrics(run: Path | str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def assert_same_state(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]), name


@pytest.mark.parametrize(
    "asked",
    [
        {"dialect": "modern", "dropout": 0.1},
        {"dialect": "gpt2", "dropout": 0.1},
        {"dialect": "modern", "dtype": "bfloat16", "tokenizer": "bpe", "vocab_size": 300},
    ],
    ids=["modern", "gpt2", "bfloat16"],
)
def test_training_2n_steps_equals_n_stop_new_process_n_more_bitwise(asked: dict[str, Any], warm: Warm) -> None:
    whole(begin("one", steps=12, **asked))
    until(begin("two", steps=12, **asked), 5)
    assert steps_saved(Path("two"))[0] == 5
    more = warm.octavo("train", "--resume", "two")
    assert more.wait() == 0, more.errors
    assert_same_state(state("one", 12), state("two", 12))
    assert metrics("one") == metrics("two")
    for name in ("model.safetensors", "config.json", "samples.jsonl"):
        assert (Path("one") / name).read_bytes() == (Path("two") / name).read_bytes()


def test_how_often_is_evaluated_does_not_change_what_is_learned() -> None:
    whole(begin("often", steps=6, eval_every=1))
    whole(begin("once", steps=6, eval_every=100))
    assert_same_state(state("often", 6), state("once", 6))


def heard_steps(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the steps of trainings are asked to do from now on."""
    heard: list[dict[str, Any]] = []

    def training_step(model: Any, optimizers: Any, pieces: Any, **words: Any) -> StepResult:
        heard.append({"pieces": pieces, **words})
        return real(model, optimizers, pieces, **words)

    real = step.training_step
    monkeypatch.setattr("octavo.repeating.training_step", training_step)
    return heard


def test_every_step_is_taken_as_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = begin("planned", steps=100, dtype="bfloat16").config
    base = replace(config, train=replace(config.train, clip=0.25, micro_batches=2))
    heard = heard_steps(monkeypatch)
    until(training.begin(["text.txt"], Asked(), base=base, out="run"), 3)
    assert [(len(words["pieces"]), words["clip"], words["spread"].dtype) for words in heard] == [
        (2, 0.25, torch.bfloat16)
    ] * 3
    assert [words["rate"] for words in heard] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize("large", [1, LARGE])
def test_another_seed_begins_with_other_weights_and_reads_other_rows(
    monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr("octavo.making.LARGE", large)
    heard, weights = heard_steps(monkeypatch), []
    for number, seed in enumerate((0, 0, 1)):
        trainer = begin(str(number), steps=2, seed=seed)
        weights.append(trainer.model.embed.weight.detach().clone())
        trainer.learn(0, micro_batches=1, rate=1.0)
    tokens = [words["pieces"][0][0] for words in heard]
    for one, again, other in (weights, tokens):
        assert torch.equal(one, again) and not torch.equal(one, other)


def test_what_dropout_hides_is_drawn_anew_in_each_step_piece_and_process(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, steps = heard_steps(monkeypatch), list(itertools.product(range(2), range(3)))
    for seed in range(2):
        trainer = begin(str(seed), steps=3, seed=seed, dropout=0.1)
        for rank, number in steps:
            trainer.processes = Processes(rank, size=2)
            trainer.learn(number, micro_batches=2, rate=1.0)
    seeds = [seed for words in heard for seed in words["seeds"]]
    assert len(set(seeds)) == len(seeds) == 2 * 2 * 3 * 2


def test_in_bfloat16_a_training_comes_near_to_what_it_comes_to_in_float32() -> None:
    both = [whole(begin(dtype, steps=4, dialect="gpt2", dtype=dtype)) for dtype in ("float32", "bfloat16")]
    for kind, name in ((Stepped, "train_loss"), (Evaluated, "val_loss")):
        wide, narrow = ([getattr(event, name) for event in events if isinstance(event, kind)] for events in both)
        assert narrow != wide and narrow == pytest.approx(wide, rel=0.02)


def test_a_training_tells_what_happens_in_order() -> None:
    events = whole(begin(steps=8))
    assert isinstance(events[0], Evaluated) and events[0].step == 0
    assert [event.step for event in events if isinstance(event, Stepped)] == list(range(1, 9))
    assert [event.step for event in events if isinstance(event, Evaluated)] == [0, 4, 8]
    assert [event.step for event in events if isinstance(event, Sampled)] == [4, 8]
    assert [event.step for event in events if isinstance(event, Saved)] == [4, 8]
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.reason == "done" and finished.steps == 8


def test_a_run_holds_all_that_the_design_names_and_nothing_else() -> None:
    whole(begin(steps=8))
    assert sorted(path.name for path in Path("run").iterdir()) == [
        "checkpoints",
        "config.json",
        "generation_config.json",
        "loss.svg",
        "metrics.jsonl",
        "model.safetensors",
        "octavo.toml",
        "samples.jsonl",
        "snapshots",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    usual = ["step", "seconds", "tokens", "lr", "train_loss", "grad_norm", "tokens_per_second"]
    assert list(lines[0]) == usual
    assert list(lines[3]) == [*usual, "val_loss", "val_nats_per_character", "val_bits_per_byte"]
    assert [line["tokens"] for line in lines[:2]] == [64, 128]
    kept = sorted(int(path.stem.removeprefix("step-")) for path in Path("run/snapshots").iterdir())
    assert kept == snapshot_steps(8)
    assert {weight.dtype for weight in load_file("run/snapshots/step-8.safetensors").values()} == {torch.bfloat16}
    picture = ElementTree.parse("run/loss.svg").getroot()
    assert [len(line.attrib["points"].split()) for line in picture.findall("{*}polyline")] == [8, 2]
    told = {f"training, {lines[-1]['train_loss']:.3f}", f"held out, {lines[-1]['val_loss']:.3f}"}
    assert told <= set(picture.itertext())


def test_the_figures_of_each_step_are_logged_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rates, results = [0.0], list[float](), list[StepResult]()

    def learn(self: Trainer, number: int, micro_batches: int, rate: float) -> Any:
        clock[0] += 0.25
        rates.append(rate)
        results.append(real(self, number, micro_batches, rate))
        return results[-1]

    real = Trainer.learn
    monkeypatch.setattr("octavo.trainer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(Trainer, "learn", learn)
    events = until(begin(steps=200, lr=0.01), 6)
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]  # it warms up for a fiftieth of its steps
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    stepped, evaluated = ([event for event in events if isinstance(event, kind)] for kind in (Stepped, Evaluated))
    looked = {event.step: event for event in evaluated}
    for number, (line, event, rate, result) in enumerate(zip(lines, stepped, rates, results, strict=True), 1):
        told = {name: looked[number] if name.startswith("val_") else event for name in line}
        assert {name: getattr(event, name) for name, event in told.items()} == line
        assert line["lr"] == pytest.approx(0.01 * rate)
        assert (line["train_loss"], line["grad_norm"]) == (result.loss, result.grad_norm) and result.grad_norm > 0
        assert (line["step"], line["seconds"], line["tokens_per_second"]) == (number, 0.25 * number, 256.0)


def test_of_a_large_model_few_snapshots_are_kept_and_the_last_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = begin(steps=8)
    size = 2 * sum(weight.numel() for weight in trainer.model.parameters())
    monkeypatch.setattr("octavo.checkpoint.SNAPSHOT_BYTES", int(3.5 * (size + 100_000)))
    whole(begin("few", steps=8))
    assert snapshots(Path("few")) == [1, 3, 8]


def test_a_loss_by_character_is_the_same_in_nats_and_in_bits() -> None:
    evaluated = [event for event in whole(begin(steps=4)) if isinstance(event, Evaluated)][-1]
    assert evaluated.val_nats_per_character == pytest.approx(evaluated.val_loss, rel=0.01)
    assert evaluated.val_bits_per_byte == pytest.approx(evaluated.val_nats_per_character / 0.6931471805599453)


def test_a_model_learns_and_its_best_weights_are_what_the_run_holds() -> None:
    trainer = begin(steps=60, eval_every=10)
    events = whole(trainer)
    losses = {event.step: event.val_loss for event in events if isinstance(event, Evaluated)}
    assert losses[60] < 0.6 * losses[0]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.best_step == min(losses, key=lambda step: losses[step])
    model, _ = octavo.load("run")
    best = state("run", finished.best_step)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, best[f"model.{name}"])


@pytest.mark.parametrize("last", [7, 30])  # at the half a state is saved
def test_a_training_that_stops_before_it_was_ever_evaluated_leaves_what_it_has_learned(last: int) -> None:
    until(begin(steps=60, eval_every=60), last)
    model, _ = octavo.load("run")
    for name, weight in model.named_parameters():
        assert torch.equal(weight, state("run", last)[f"model.{name}"])


def test_checkpoints_are_pruned_to_the_newest_two_the_best_and_the_plateau() -> None:
    trainer = begin(steps=40, eval_every=4)
    whole(trainer)
    assert trainer.at.best is not None
    assert set(steps_saved(Path("run"))) == {40, 36, 20, trainer.at.best.step}


def test_a_finished_run_is_trained_longer_from_its_plateau() -> None:
    whole(begin(steps=16, eval_every=4))
    before = metrics("run")
    with pytest.raises(RunError, match="run is finished; train it longer with --minutes or --steps"):
        training.resume(Path("run"), Asked())
    with pytest.raises(ConfigError, match="--steps 16 are already behind: 16 are done; give more"):
        training.resume(Path("run"), Asked(steps=16))
    trainer = training.resume(Path("run"), Asked(steps=32))
    assert trainer.at.step == 8 and trainer.at.schedule.falls_from == 16
    assert steps_saved(Path("run"))[0] == 8 == snapshots(Path("run"))[-1]
    whole(trainer)
    after = metrics("run")
    assert len(after) == 32 and after[:8] == before[:8]
    assert after[15]["lr"] == before[7]["lr"]


def test_a_run_that_was_refused_is_free_again_though_somebody_keeps_why() -> None:
    """As an interpreter does, until the next mistake."""
    whole(begin(steps=16, eval_every=4))
    kept: list[Exception] = []
    for asked, message in ((Asked(), "run is finished"), (Asked(steps=16), "--steps 16 are already behind")):
        with pytest.raises(OctavoError, match=message) as refused:
            training.resume(Path("run"), asked)
        kept.append(refused.value)
    with pytest.raises(SaveError, match="no room") as full, pytest.MonkeyPatch.context() as disk:
        disk.setattr(training, "check_room", Mock(side_effect=SaveError("no room")))
        training.begin(["text.txt"], Asked(**TINY, steps=4), out="run", force=True)
    kept.append(full.value)
    assert all(error.__traceback__ for error in kept)
    assert training.resume(Path("run"), Asked(steps=32)).at.step == 8


def test_a_refusal_leaves_the_logs_as_they_were() -> None:
    """By when a folder was changed the newest run is found."""
    whole(begin(steps=16, eval_every=4))
    before = {path: path.stat().st_mtime_ns for path in (Path("run"), *Path("run").iterdir())}
    with pytest.raises(RunError, match="run is finished"):
        training.resume(Path("run"), Asked())
    assert {path: path.stat().st_mtime_ns for path in before} == before


def decays(trainer: Trainer) -> set[tuple[bool, float]]:
    """Of the optimizers' groups, whether they are of matrices, and how those decay."""
    groups = (group for optimizer in trainer.optimizers for group in optimizer.param_groups)
    return {(group["params"][0].dim() > 1, group["weight_decay"]) for group in groups}


def test_trained_longer_it_decays_as_one_that_reads_its_text_so_often() -> None:
    words = {"batch": 64, "eval_every": 5}
    whole(begin("run", steps=10, **words))  # reads the text twice
    shutil.copytree("run", "other")
    trainer = training.resume(Path("run"), Asked(steps=30))
    planned = begin("planned", steps=30, **words).config.train.weight_decay
    assert trainer.config.train.weight_decay == 0 < planned
    assert trainer.at.weight_decay == planned and decays(trainer) == {(True, planned), (False, 0.0)}
    until(trainer, 15)
    again = training.resume(Path("run"), Asked())
    assert decays(again) == {(True, planned), (False, 0.0)}
    whole(again)
    whole(training.resume(Path("other"), Asked(steps=30)))
    assert_same_state(state("run", 30), state("other", 30))


def test_a_decay_that_somebody_gave_stays() -> None:
    config = begin("run", steps=10, batch=64, eval_every=5).config
    base = replace(config, train=replace(config.train, weight_decay=0.3))
    whole(training.begin(["text.txt"], Asked(), base=base, out="given"))
    trainer = training.resume(Path("given"), Asked(steps=30))
    assert trainer.at.weight_decay is None and decays(trainer) == {(True, 0.3), (False, 0.0)}


@pytest.mark.parametrize("last", [16, 12])
def test_a_run_that_was_evaluated_once_is_trained_longer_from_where_its_rate_began_to_fall(last: int) -> None:
    until(begin(steps=16, eval_every=16), last)
    assert training.resume(Path("run"), Asked(steps=32)).at.step == 8


def test_a_run_that_kept_nothing_from_before_its_rate_fell_is_left_as_it_is() -> None:
    whole(begin(steps=1, eval_every=1))
    with pytest.raises(RunError, match="run kept no state from before its rate fell, from which it could"):
        training.resume(Path("run"), Asked(steps=4))
    assert steps_saved(Path("run")) == [1]


def test_a_run_whose_device_is_not_here_goes_on_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    until(begin(steps=8), 5)
    edited = Path("run", toml.NAME)
    words = edited.read_text().replace('device = "cpu"', 'device = "cuda"').replace("compile = false", "compile = true")
    edited.write_text(words)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    heard: list[Event] = []
    trainer = training.resume(Path("run"), Asked(), on_event=heard.append)
    assert Note("cuda is not here: going on on cpu") in heard and not trainer.config.train.compile
    whole(trainer)
    whole(begin("other", steps=8))
    assert_same_state(state("run", 8), state("other", 8))


def test_nothing_but_the_length_may_change_on_resume() -> None:
    until(begin(steps=8), 3)
    with pytest.raises(ConfigError, match="--width cannot change when a training is resumed; leave it out"):
        training.resume(Path("run"), Asked(width=64))
    with pytest.raises(ConfigError, match="--eval-every cannot change"):
        training.resume(Path("run"), Asked(eval_every=2))


def test_a_training_that_was_stopped_before_its_first_step_begins_anew() -> None:
    trainer = begin(steps=4)
    trainer.stop()
    events = whole(trainer)
    assert isinstance(events[-1], Finished) and events[-1].reason == "stopped"
    assert (Path("run") / "model.safetensors").is_file()
    whole(training.resume(Path("run"), Asked()))
    whole(begin("other", steps=4))
    assert_same_state(state("run", 4), state("other", 4))


def test_a_damaged_checkpoint_is_passed_over_and_named() -> None:
    until(begin("run", steps=12), 9)
    whole(begin("whole", steps=12))
    path = checkpoint_folder(Path("run"), 9) / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    heard: list[Event] = []
    trainer = training.resume(Path("run"), Asked(), on_event=heard.append)
    assert trainer.at.step == 8
    assert any(isinstance(note, Note) and "is damaged" in note.text for note in heard)
    whole(trainer)
    assert_same_state(state("run", 12), state("whole", 12))
    assert metrics("run") == metrics("whole")


def test_without_any_whole_checkpoint_there_is_nothing_to_go_on_from() -> None:
    until(begin(steps=4), 2)
    (checkpoint_folder(Path("run"), 2) / "manifest.json").unlink()
    with pytest.raises(RunError, match="run has no checkpoint to go on from; train anew with --force"):
        newest_valid(Path("run"), on_damage=lambda line: None)


def test_a_text_that_was_piped_in_is_gone_where_nothing_remembers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sentences(60).encode())))
    until(training.begin(["-"], Asked(**TINY, steps=8), out="run"), 2)
    training.resume(Path("run"), Asked())
    shutil.rmtree("home")
    line = r"^run was trained on standard input, which cannot be read again; train anew from a file$"
    with pytest.raises(RunError, match=line):
        training.resume(Path("run"), Asked())


@pytest.mark.parametrize(("stop", "measured"), [(3, False), (5, True)])
def test_what_is_said_of_a_stopped_training_is_what_was_measured(stop: int, measured: bool) -> None:
    trainer = begin(steps=20, eval_every=4)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == stop:
            trainer.stop()
    assert isinstance(event, Finished) and event.evaluated == event.read == measured


@pytest.mark.parametrize("stop", [10, 12])
def test_what_learning_made_worse_is_not_called_unread(stop: int) -> None:
    trainer = begin(steps=12, eval_every=4, lr=3.0)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == stop < 12:
            trainer.stop()
    assert isinstance(event, Finished) and event.best_step == 0 and event.read
    assert event.evaluated == (stop == 12)  # what was stopped keeps its last weights, else the best are kept


def test_numbers_gone_wrong_stop_the_training_and_leave_finite_weights() -> None:
    trainer = begin(steps=20, lr=1e35, eval_every=50)
    line = (
        r"^3 steps in a row came to no finite loss \(step \d+\); the last checkpoint is intact, train again with a "
        r"smaller --lr than 1e\+35$"
    )
    with pytest.raises(OctavoError, match=line):
        whole(trainer)
    model, _ = octavo.load("run")
    assert all(weight.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("lost", [math.nan, math.inf])
def test_a_step_that_came_to_no_number_is_no_reason_not_to_save(monkeypatch: pytest.MonkeyPatch, lost: float) -> None:
    real, taken = step.training_step, itertools.count()

    def training_step(*given: Any, **words: Any) -> StepResult:
        result = real(*given, **words)
        return StepResult(lost, lost, False) if next(taken) == 1 else result

    monkeypatch.setattr("octavo.repeating.training_step", training_step)
    assert whole(begin(steps=8))[-1].step == 8 and steps_saved(Path("run"))[0] == 8
    taken = itertools.count(-2)
    until(begin("stopped", steps=8), 4)  # inside the evaluation after a step that came to none
    assert whole(training.resume(Path("stopped"), Asked()))[0].step == 4
    assert str(metrics("stopped")[3]["train_loss"]) == str(lost)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a quarter of a second whenever a training looks at it."""
    ticks = itertools.count(0.25, 0.25)
    monkeypatch.setattr("octavo.trainer.time.monotonic", lambda: next(ticks))


def test_with_an_end_in_time_the_number_of_steps_follows_the_pace(ticking: None) -> None:
    trainer = begin(steps=100, eval_every=5)
    trainer.at.minutes = 0.5
    events = whole(trainer)
    assert any(isinstance(event, Note) and "the end is moved" in event.text for event in events)
    finished = events[-1]
    assert isinstance(finished, Finished) and finished.reason == "done"
    assert finished.step == finished.steps < 100
    assert finished.seconds == pytest.approx(30, rel=0.1)


def test_a_slow_first_step_after_a_stop_does_not_decide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def learn(self: Trainer, *given: Any) -> Any:
        clock[0] += slow.pop() if slow else 0.25
        return real(self, *given)

    real, slow = Trainer.learn, [0.25]
    monkeypatch.setattr("octavo.trainer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(Trainer, "learn", learn)
    trainer = begin(steps=120, eval_every=20)
    trainer.at.minutes = 0.5
    until(trainer, 59)
    slow.append(5.0)
    finished = whole(training.resume(Path("run"), Asked()))[-1]
    assert isinstance(finished, Finished) and finished.seconds == pytest.approx(30, rel=0.1)


def test_the_evaluation_at_the_end_is_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def learn(self: Trainer, *given: Any) -> Any:
        clock[0] += 0.25
        return real(self, *given)

    def slowly(*given: Any, **words: Any) -> Any:
        clock[0] += 8.0
        return examine(*given, **words)

    real = Trainer.learn
    monkeypatch.setattr("octavo.trainer.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("octavo.trainer.examine", slowly)
    monkeypatch.setattr(Trainer, "learn", learn)
    trainer = begin(steps=120, eval_every=200)
    trainer.config = replace(trainer.config, train=replace(trainer.config.train, save_every=20))
    trainer.at.minutes = 0.5
    finished = whole(trainer)[-1]
    assert isinstance(finished, Finished) and finished.seconds == pytest.approx(30, rel=0.1)


def test_a_training_that_is_quicker_than_planned_does_not_read_a_text_too_often(ticking: None) -> None:
    trainer = begin(steps=10, eval_every=2)
    train = replace(trainer.config.train, minutes=5.0, most_steps=20, save_every=2)
    trainer.config, trainer.at.minutes = replace(trainer.config, train=train), 5.0
    finished = whole(trainer)[-1]
    assert isinstance(finished, Finished) and finished.reason == "done"
    assert finished.step == finished.steps == 20 and finished.seconds < 100


@pytest.mark.parametrize(("minutes", "looks"), [(0.1, [0, 13]), (None, [0, 12, 14])])
def test_an_end_that_has_moved_is_not_looked_at_twice(ticking: None, minutes: float | None, looks: list[int]) -> None:
    trainer = begin(steps=14, eval_every=12)
    trainer.config = replace(trainer.config, train=replace(trainer.config.train, save_every=2))
    trainer.at.minutes = minutes
    found = [event.step for event in whole(trainer) if isinstance(event, Evaluated)]
    assert found == looks


def test_a_training_finds_its_text_from_anywhere_and_misses_it_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    until(begin("runs/mine", steps=8), 4)
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert whole(training.resume(Path("../runs/mine"), Asked()))[-1].step == 8
    Path("../text.txt").rename("../moved.txt")
    with pytest.raises(
        RunError, match=r"the text of .*mine cannot be read again: no such file: text\.txt; bring it back"
    ):
        training.resume(Path("../runs/mine"), Asked(steps=12))


def test_a_run_that_was_written_over_and_interrupted_goes_on_with_the_new_texts_tokenizer() -> None:
    whole(begin(steps=4))
    Path("other.txt").write_text("Ψάξε με 7 φορές. " * 300)
    training.begin(["other.txt"], Asked(**TINY, steps=4), out="run", force=True)  # and is killed here
    resumed = training.resume(Path("run"), Asked())
    assert "Ψ" in resumed.prepared.tokenizer.decode(resumed.prepared.train.tokens[:100].tolist())
    assert whole(resumed)[-1].step == 4


def test_a_name_that_another_training_took_meanwhile_is_not_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = training.plan_training

    def slowly(*given: Any, **words: Any) -> Any:
        monkeypatch.setattr(training, "plan_training", plan)
        runs.append(octavo.train("text.txt", out=out, steps=2, **TINY))
        return plan(*given, **words)

    runs: list[Path] = []
    for out in (None, "run"):
        monkeypatch.setattr(training, "plan_training", slowly)
        if out is None:
            assert training.begin(["text.txt"], Asked(**TINY, steps=2)).run != runs[0]
        else:
            with pytest.raises(RunError, match="run already holds a run; go on with --resume run, or overwrite it"):
                training.begin(["text.txt"], Asked(**TINY, steps=2), out=out)
    assert all(octavo.load(run) for run in runs)


def test_a_training_without_a_first_step_can_be_given_minutes() -> None:
    begin(steps=4)
    finished = whole(training.resume(Path("run"), Asked(minutes=0.02)))[-1]
    assert isinstance(finished, Finished) and finished.reason == "done"


def test_what_was_done_before_the_first_step_is_no_step_s_where_minutes_are_given_anew() -> None:
    trainer = begin(steps=40)
    trainer.at.seconds = trainer.at.besides = 100.0  # as where what follows what was counted for so long
    events = until(trainer, 3)
    assert all(event.remaining < 100 for event in events if isinstance(event, Stepped))  # of 37 steps of milliseconds
    resumed = training.resume(Path("run"), Asked(minutes=1.0))
    assert resumed.at.seconds > 100 > resumed.at.learning > 0 and resumed.at.look > 0
    assert resumed.at.schedule.steps > 100
    begin("other", steps=40)  # and is killed here
    assert training.resume(Path("other"), Asked(minutes=1.0)).at.schedule.steps == 40  # until the pace is known


def test_what_is_left_counts_the_evaluations() -> None:
    left = {}
    for event in (trainer := begin(steps=11, eval_every=4)).events():
        if isinstance(event, Stepped):
            left[event.step] = event.remaining
            trainer.at.look = 50.0  # seconds, until the next one is measured
    assert [round(left[step] / 50) for step in (2, 3, 7, 8, 11)] == [3, 3, 2, 1, 0]


def test_minutes_given_anew_leave_time_to_evaluate() -> None:
    trainer = begin(steps=40)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 3:
            trainer.at.look = 40.0  # seconds
            trainer.stop()
    pace = trainer.at.learning / trainer.at.step
    steps = training.resume(Path("run"), Asked(minutes=1.0)).at.schedule.steps
    assert steps - 3 == pytest.approx(20 / pace, abs=2)


def test_to_save_takes_no_longer_where_more_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.trainer.GLANCE", 32)  # of more than a thousand tokens
    save = Trainer._save
    monkeypatch.setattr(Trainer, "_save", lambda *words: (time.sleep(0.5), save(*words))[1])
    trainer = begin(steps=8)
    next(trainer.events())
    assert 0.5 < trainer.at.look < 0.5 * len(trainer.held_out.tokens) / 32 / 2


def test_an_evaluation_that_a_stop_and_a_full_disk_interrupted_is_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole(begin("whole", steps=8))
    trainer = begin(steps=8)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 4:
            trainer.stop()  # so that the evaluation after it is still due
    assert trainer.at.due is not None and steps_saved(Path("run"))[0] == 4
    full = Mock(side_effect=SaveError("the disk is full"))
    with monkeypatch.context() as patch, pytest.raises(SaveError):
        patch.setattr("octavo.trainer.save_checkpoint", full)
        whole(training.resume(Path("run"), Asked()))
    gc.collect()
    whole(training.resume(Path("run"), Asked()))
    assert metrics("run") == metrics("whole")
    assert Path("run/samples.jsonl").read_bytes() == Path("whole/samples.jsonl").read_bytes()


def test_a_training_that_is_not_made_longer_after_all_keeps_its_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole(begin(steps=16))
    before = metrics("run"), Path("run/samples.jsonl").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("octavo.training.prolong", Mock(side_effect=KeyboardInterrupt))
        training.resume(Path("run"), Asked(steps=32))
    gc.collect()
    assert (metrics("run"), Path("run/samples.jsonl").read_bytes()) == before and steps_saved(Path("run"))[0] == 16
    whole(training.resume(Path("run"), Asked(steps=32)))
    assert [line["step"] for line in metrics("run")] == list(range(1, 33))


def test_a_run_that_is_being_written_over_is_never_read_by_the_tokenizer_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole(begin(steps=4))
    Path("other.txt").write_text("Ψάξε με 7 φορές. " * 300)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("octavo.beginning.shutil", Mock(rmtree=Mock(side_effect=KeyboardInterrupt)))
        patch.setattr("octavo.training.check_room", Mock())
        training.begin(["other.txt"], Asked(**TINY, steps=4), out="run", force=True)
    gc.collect()
    with pytest.raises(OctavoError, match=r"tokenizer\.json"):
        training.resume(Path("run"), Asked())


def test_an_evaluation_reads_as_much_of_what_is_held_out_as_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, part = begin(steps=4), Mock(side_effect=held_out)
    config = replace(trainer.config, train=replace(trainer.config.train, val_tokens=100))
    monkeypatch.setattr("octavo.trainer.held_out", part)
    Trainer(config, trainer.prepared, Path("other"))
    part.assert_called_once_with(trainer.prepared, 100)


def test_fewer_minutes_than_what_is_learned_anew_are_refused(ticking: None) -> None:
    whole(begin(steps=12, eval_every=2))
    before = metrics("run"), steps_saved(Path("run"))
    with pytest.raises(
        ConfigError, match=r"--minutes 0\.001 are no more than the 0\.\d+ of the last \d+ steps, which are"
    ):
        training.resume(Path("run"), Asked(minutes=0.001))
    gc.collect()  # as if its process had ended
    assert (metrics("run"), steps_saved(Path("run"))) == before
    assert whole(training.resume(Path("run"), Asked(minutes=0.2)))[-1].step > 12


def test_what_is_not_as_it_was_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole(begin(steps=8))
    monkeypatch.setattr("octavo.resumption.numerics", lambda device, threads: {"threads": 64})
    told: list[Any] = []
    training.resume(Path("run"), Asked(steps=12), on_event=told.append)
    assert sum(isinstance(event, Note) and "not the same bits" in event.text for event in told) == 1


def test_where_nothing_comes_of_a_training_no_folder_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.training.Trainer", Mock(side_effect=KeyboardInterrupt))
    Path("there").mkdir()
    for out in ("run", "there"):
        with pytest.raises(KeyboardInterrupt):
            begin(out, steps=4)
    assert Path("there").is_dir() and not Path("run").exists()


def test_a_run_that_another_training_writes_is_refused_before_the_text_is_read() -> None:
    claimed = begin(steps=4)
    with pytest.raises(RunError, match="another training is writing into run; wait for its end, or give this one"):
        training.begin(["nowhere.txt"], Asked(), out="run", force=True)
    assert claimed.run == Path("run")


@pytest.mark.parametrize("kept_off", [torch.no_grad, torch.inference_mode])
def test_a_training_from_python_learns_whatever_pytorch_was_told_before(kept_off: Any) -> None:
    """As a notebook that only looks at models does in its first lines."""
    usual = octavo.train("text.txt", out="usual", **TINY, steps=4)
    torch.set_default_dtype(torch.float64)
    try:
        with kept_off():
            told = octavo.train("text.txt", out="told", **TINY, steps=2)
            octavo.resume(told, steps=4)
            assert not torch.is_grad_enabled() and torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    for name, weight in octavo.load(usual)[0].named_parameters():
        assert torch.equal(octavo.load(told)[0].get_parameter(name), weight)


def test_a_run_that_was_given_another_vocabulary_is_not_gone_on_with() -> None:
    run = octavo.train("text.txt", out="run", **TINY, steps=2)
    model, tokenizer = octavo.load(run)
    other = BPETokenizer.train([Path("text.txt").read_text()], vocab_size=300)
    assert other.vocab_size > tokenizer.vocab_size
    octavo.save(GPT(replace(model.config, vocab_size=other.vocab_size)), other, run)
    with pytest.raises(
        RunError, match=f"^run has a tokenizer of {other.vocab_size} tokens, and has learned .*; bring back its own"
    ):
        octavo.resume(run, steps=4)


def test_a_training_from_python_leaves_pytorchs_random_numbers_as_they_were() -> None:
    found = []
    for dropout in (0.0, 0.3):
        torch.manual_seed(5)
        octavo.train(Path("text.txt"), out="run", force=True, **{**TINY, "dropout": dropout}, steps=2)
        found.append(torch.randn(3))
    expected = torch.randn(3, generator=torch.Generator().manual_seed(5))
    assert all(torch.equal(drawn, expected) for drawn in found)
    with pytest.raises(UserError, match="there is no text to learn from; name one"):
        octavo.train(steps=2)


def test_a_training_is_gone_on_with_from_python_to_the_same_bits() -> None:
    class Enough(Exception):
        pass

    def stop(event: Event) -> None:
        if isinstance(event, Evaluated) and event.step == 4:
            raise Enough

    words = {**TINY, "dropout": 0.2, "steps": 6, "eval_every": 2}
    whole = octavo.train("text.txt", out="whole", **words)
    with pytest.raises(Enough):
        octavo.train("text.txt", out="run", on_event=stop, **words)
    state = torch.get_rng_state()
    assert octavo.resume("run") == Path("run")
    assert torch.equal(torch.get_rng_state(), state)
    assert Path("run/model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="run is finished; train it longer with --minutes or --steps"):
        octavo.resume(Path("run"))
    heard: list[Event] = []
    octavo.resume("run", steps=8, on_event=heard.append)
    assert isinstance(heard[-1], Finished) and heard[-1].step == 8
    for refused in ({"lr": 0.1}, {"step": 9}):
        with pytest.raises(UserError, match=f"{next(iter(refused))}"):
            octavo.resume("run", **refused)


def test_no_sample_is_lost_to_a_character_that_ends_a_line_elsewhere() -> None:
    trainer = begin(steps=4)
    for number, text in enumerate(("a", "b\u2028c\x85d", "e")):
        trainer.journal.sample({"step": number, "text": text})
    trainer.journal.cut(2)
    assert [line["text"] for line in trainer.journal.read("samples")] == ["a", "b\u2028c\x85d", "e"]


def test_without_its_checkpoints_a_trained_model_is_not_trained_over() -> None:
    whole(begin(steps=9))
    weights = Path("run/model.safetensors").read_bytes()
    shutil.rmtree("run/checkpoints")
    with pytest.raises(RunError, match="run has no checkpoint left; train --from run begins a new training with its"):
        training.resume(Path("run"), Asked(steps=12))
    assert Path("run/model.safetensors").read_bytes() == weights


def running_out(monkeypatch: pytest.MonkeyPatch, at: set[int], rows: int) -> None:
    """A device whose memory is too small, in these steps, for more rows at once."""
    real, done = step.training_step, [0]

    def training_step(model: Any, optimizers: Any, pieces: Any, **words: Any) -> Any:
        if done[0] in at and max(len(piece[0]) for piece in pieces) > rows:
            raise torch.OutOfMemoryError
        done[0] += 1
        return real(model, optimizers, pieces, **words)

    monkeypatch.setattr("octavo.repeating.training_step", training_step)


def test_a_device_that_runs_out_reads_in_smaller_pieces_and_goes_on_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as small:
        running_out(small, {5}, rows=1)
        events = whole(begin(steps=10, dropout=0.1, eval_every=100))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [
        "cpu ran out of memory: from step 5 on a batch is read in 2 pieces",
        "cpu ran out of memory: from step 5 on a batch is read in 4 pieces",
    ]
    assert read_facts(checkpoint_folder(Path("run"), 10))["micro_batches"] == 4
    again = begin("again", steps=10, dropout=0.1, eval_every=100)
    for event in again.events():
        if isinstance(event, Stepped) and event.step == 5:
            again.at.micro_batches = 4
    assert_same_state(state("run", 10), state("again", 10))


def test_what_was_decided_when_memory_ran_out_is_on_the_disk_before_it_takes_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as small:
        running_out(small, {5}, rows=2)
        until(begin(steps=10, eval_every=100), 6)
        running_out(small, set(), rows=2)
        shutil.rmtree(checkpoint_folder(Path("run"), 6))  # as if it had been ended there
        resumed = training.resume(Path("run"), Asked())
    assert (resumed.at.step, resumed.at.micro_batches) == (5, 2)


def test_weights_that_an_update_left_half_changed_are_never_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = begin(steps=10, eval_every=2)
    real, done = trainer.optimizers[1].step, itertools.count(1)

    def update() -> Any:
        if next(done) == 4:  # the matrices have changed by then
            raise torch.OutOfMemoryError
        return real()

    monkeypatch.setattr(trainer.optimizers[1], "step", update)
    with pytest.raises(OctavoError, match="cpu ran out of memory in the middle of an update, and no step would have"):
        whole(trainer)
    assert steps_saved(Path("run")) == [2]
    whole(begin("again", steps=10, eval_every=2))
    whole(training.resume(Path("run"), Asked()))
    assert_same_state(state("run", 10), state("again", 10))


def with_rates_there(trainer: Trainer) -> Trainer:
    """Rates as numbers on the device of the weights, as on a GPU."""
    for group in (group for optimizer in trainer.optimizers for group in optimizer.param_groups):
        group["lr"] = torch.tensor(group["initial_lr"])
    return trainer


def test_where_there_is_no_memory_to_evaluate_recorded_steps_give_theirs_back(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = with_rates_there(begin("again", steps=10, eval_every=5))
    whole(plain)
    monkeypatch.setattr("octavo.repeating.records", lambda device: True)
    monkeypatch.setattr("octavo.repeating.Recording", Again)
    trainer = with_rates_there(begin(steps=10, eval_every=5))

    def reading(*given: Any, **words: Any) -> Any:
        if trainer.repeated.recorded:
            raise torch.OutOfMemoryError
        return examine(*given, **words)

    monkeypatch.setattr("octavo.trainer.examine", reading)
    whole(trainer)
    assert not trainer.repeated.works
    assert_same_state(state("run", 10), state("again", 10))


def test_where_there_is_no_memory_to_evaluate_at_all_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(*given: Any, **words: Any) -> Any:
        raise torch.OutOfMemoryError

    trainer = begin(steps=10, eval_every=5)
    monkeypatch.setattr("octavo.trainer.examine", reading)
    with pytest.raises(OctavoError, match="cpu has not enough memory to read and write beside what is learned; the "):
        whole(trainer)


def running_out_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose memory is too small for any row unless blocks are computed again."""
    real = step.training_step

    def training_step(model: Any, *given: Any, **words: Any) -> Any:
        if "forward" not in vars(model.blocks[0]):
            raise torch.OutOfMemoryError
        return real(model, *given, **words)

    monkeypatch.setattr("octavo.repeating.training_step", training_step)


def test_where_a_row_is_too_much_blocks_are_computed_again_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as small:
        running_out_of_what_is_kept(small)
        events = until(begin(steps=10, dropout=0.1, eval_every=100), 5)
        assert [event.text for event in events if isinstance(event, Note)] == [
            "cpu ran out of memory: from step 0 on a batch is read in 2 pieces",
            "cpu ran out of memory: from step 0 on a batch is read in 4 pieces",
            "cpu ran out of memory: from step 0 on each block is computed again on the way back",
        ]
        resumed = training.resume(Path("run"), Asked())  # it does the same from its first step on
        assert resumed.at.recompute and not [event for event in whole(resumed) if isinstance(event, Note)]
    again = begin("again", steps=10, dropout=0.1, eval_every=100)
    again.at.micro_batches = 4
    whole(again)
    run, other = state("run", 10), state("again", 10)
    assert_same_state(run, other)


def test_a_checkpoint_from_before_blocks_could_be_computed_again_goes_on() -> None:
    until(begin(steps=10), 4)
    facts = read_facts(checkpoint_folder(Path("run"), 4))
    assert facts.pop("recompute") is False
    assert Standing.of(facts).recompute is False


def test_a_device_too_small_for_a_row_ends_the_training_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    running_out(monkeypatch, {5}, rows=0)
    line = (
        "^cpu has not enough memory to learn from one row of 16 tokens; the last checkpoint is intact, train with a "
        "smaller --context, --width or --layers$"
    )
    with pytest.raises(OctavoError, match=line):
        whole(begin(steps=10, eval_every=2))
    assert 4 in steps_saved(Path("run"))


@pytest.mark.parametrize("place", ["spreading.prepare_to_learn", "resumption.restore"])
def test_a_device_too_small_for_what_a_training_holds_is_one_line(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    until(begin(steps=8), 5)
    with monkeypatch.context() as small:
        small.setattr(f"octavo.{place}", no_room)
        with pytest.raises(OctavoError, match="cpu has not enough memory for the weights and what their optimizer rem"):
            training.resume(Path("run"), Asked())
    assert whole(training.resume(Path("run"), Asked()))[-1].step == 8


def test_a_training_tells_how_good_its_forecast_was_unless_it_went_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.planner.ABOUT", 1e9)  # a loss is forecast of a model as small as this one, too
    trainer = begin(steps=120, eval_every=40)
    assert trainer.config.train.forecast is not None
    finished = whole(trainer)[-1]
    assert isinstance(finished, Finished) and finished.forecast is not None
    assert finished.forecast[0] == trainer.config.train.forecast
    longer = whole(training.resume(Path("run"), Asked(steps=130)))[-1]  # from its plateau
    assert isinstance(longer, Finished) and longer.forecast is None


def test_the_text_of_a_run_must_be_what_it_was(tmp_path: Path) -> None:
    until(begin(steps=8), 3)
    (tmp_path / "text.txt").write_text(sentences(200, seed=1))
    with pytest.raises(RunError, match="the text is not the one that was learned from, in run"):
        training.resume(Path("run"), Asked())


def test_a_folder_is_never_overwritten_unasked() -> None:
    whole(begin(steps=2))
    with pytest.raises(
        RunError, match="run already holds a run; go on with --resume run, or overwrite it with --force"
    ):
        begin(steps=2)
    Path("other").mkdir()
    (Path("other") / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="other holds other files; give --out a new folder"):
        begin("other", steps=2)
    Path("file").write_text("mine")
    with pytest.raises(RunError, match="file is a file; give --out a folder"):
        begin("file", steps=2)


@pytest.mark.parametrize("dialect", ["modern", "gpt2"])
def test_a_training_does_not_load_the_compiler(dialect: str, warm: Warm) -> None:
    script = (
        "import sys, octavo; octavo.train('text.txt', steps=3, layers=1, width=16, context=16, dialect=sys.argv[1]); "
        "print('torch._dynamo' in sys.modules)"
    )
    training = warm.start(script, dialect)
    assert training.wait() == 0 and training.output == "False\n", training.errors


def test_octavo_train_is_a_function_too() -> None:
    heard: list[Event] = []
    run = octavo.train("text.txt", on_event=heard.append, steps=2, layers=1, heads=1, width=16, context=8)
    assert run == Path("runs/text-1")
    assert isinstance(heard[-1], Finished)
    with pytest.raises(ConfigError, match=r"step is no setting of a training; did you mean steps\?"):
        octavo.train("text.txt", step=3)
