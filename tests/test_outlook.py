"""What a size would take, said in lines, with and without a text; and how fast a training was, shown and tracked."""

import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo import planner, probing, speed, training
from octavo.config import GPT2_XL, Asked, RunConfig, TrainConfig
from octavo.errors import ConfigError
from octavo.events import Evaluated, Sampled, Stepped
from octavo.outlook import Hardware, outlook
from octavo.presets import LLAMA_8B, QWEN3_06B
from octavo.probing import SHARE, step_memory
from octavo.scale import Way, parameters, seconds, work_per_token
from octavo.shapes import preset_model
from octavo.speed import Speed, peak
from octavo.tracking import Tracker, check_tracking

EIGHT = Hardware(memory=80e9, peak=4e14, measured=False, gpus=(8,))
TINY = ["--steps", "4", "--layers", "1", "--heads", "1", "--width", "16", "--context", "8", "--batch", "2"]
Said = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("workplace")


# sizes


def test_an_outlook_says_size_work_memory_and_time() -> None:
    text = "\n".join(outlook(GPT2_XL, "adamw", 1024, EIGHT))
    assert "48 layers of width 1600" in text and "1.56 billion parameters" in text
    assert "10.3 GFLOP a token" in text and "31.15 billion tokens, 20 a parameter" in text
    days = seconds(GPT2_XL, Way(8), 20 * parameters(GPT2_XL), 1024, 4e14) / 86400
    assert re.search(rf"8 GPUs, FSDP .* {days:.1f} days", text)
    assert "2 GPUs" not in text and "time at 40% of 400 TFLOP a second" in text


def test_what_does_not_fit_is_said_and_what_fits_recomputed_takes_longer() -> None:
    lines = outlook(LLAMA_8B, "muon", 4096, EIGHT)
    alone, copies, shared = (
        next(line for line in lines if line.startswith(way)) for way in ("one", "8 GPUs, D", "8 GPUs, F")
    )
    assert alone.endswith("none   none         does not fit") or "does not fit" in alone
    assert "does not fit" in copies and "does not fit" not in shared
    small = Hardware(memory=32e9, peak=4e14, measured=False, gpus=(8,))
    assert any(line.endswith(", recomputed") for line in outlook(LLAMA_8B, "muon", 4096, small)[6:])


def test_a_preset_is_planned_without_a_text_and_without_making_the_model(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("octavo.imagined.GPT", "octavo.making.GPT"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("a model is made"))
    status, output, _ = said("plan", "--preset", "qwen3-8b", "--gpus", "8", "--tflops", "400", "--memory", "80")
    assert status == 0 and "8.19 billion parameters" in output and "8 GPUs, FSDP" in output
    status, output, _ = said("plan", "--preset", "gpt2", "--steps", "10", "--batch", "2", "--layers", "2")
    assert status == 0 and "for 20,480 tokens" in output and "as measured here" in output


def test_a_context_that_is_asked_for_is_planned_however_far_it_is(said: Said) -> None:
    eight = ["plan", "--preset", "llama-8b", "--tflops", "400", "--gpus", "8"]
    usual, far = said(*eight)[1], said(*eight, "--context", "131072")[1]
    assert "rows of 4,096 tokens" in usual and re.search("8 GPUs, FSDP .* days", usual)
    assert "rows of 131,072 tokens" in far and re.search("8 GPUs, FSDP .* does not fit", far)


def test_a_row_has_to_fit_into_the_memory_that_is_told_of(said: Said) -> None:
    eight = ["plan", "--preset", "llama-8b", "--tflops", "400", "--gpus", "8"]
    for memory, fits in (("12", "does not fit"), ("200", "days")):
        output = said(*eight, "--memory", memory)[1]
        assert f"of {float(memory):.1f} GB;" in output and re.search(f"8 GPUs, FSDP .* {fits}\n", output)
    assert "of 80.0 GB;" in said(*eight)[1]


def test_what_multiplies_in_float32_holds_no_halves_and_keeps_twice_as_much(said: Said) -> None:
    asked = ["plan", "--preset", "gpt2-xl", "--tflops", "400", "--gpus", "2"]
    single, half = said(*asked, "--dtype", "float32")[1], said(*asked, "--dtype", "bfloat16")[1]
    assert "halves" not in single and "state     24.9 GB" in single and "multiplying in float32" in single
    assert "their halves 3.1" in half and "state     28.0 GB" in half and "multiplying in bfloat16" in half
    assert said(*asked)[1] == half  # as GPUs do
    rows = [re.search(r"2 GPUs, FSDP +\S+ +\S+ +\S+ +(\d+)", text) for text in (single, half)]
    assert rows[0] and rows[1] and int(rows[0][1]) < int(rows[1][1])


def test_what_does_not_fit_here_leads_to_the_gpus_that_were_told_of(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "free_memory", lambda: 10**6)
    status, output, errors = said("plan", "text.txt", "--preset", "gpt2", "--gpus", "8", "--tflops", "400")
    assert (status, output) == (2, "") and "to learn from a row takes about" in errors
    assert errors.endswith(
        "; or leave the text out and keep the other flags: octavo plan --preset gpt2 --gpus 8 --tflops 400\n"
    )
    for words in (["--preset", "gpt2"], ["--layers", "12", "--gpus", "8", "--tflops", "400"]):
        status, _, errors = said("plan", "text.txt", *words)
        assert status == 2 and errors.endswith("ask for a smaller --context, --width or --layers\n")


def test_a_text_is_planned_with_gpus_when_they_are_asked_about(said: Said) -> None:
    status, output, _ = said("plan", "text.txt", *TINY, "--gpus", "4", "--tflops", "1", "--memory", "20")
    assert status == 0 and "4 steps of 2 × 8 tokens" in output and "4 GPUs, DDP" in output
    assert "of 20.0 GB;" in output
    assert "GPUs" not in said("plan", "text.txt", *TINY)[1]


def test_what_is_asked_besides_a_preset_comes_first() -> None:
    assert preset_model(Asked(preset="qwen3-0.6b")) == QWEN3_06B
    shorter = preset_model(Asked(preset="qwen3-0.6b", layers=2, context=64), 100)
    assert (shorter.layers, shorter.context, shorter.vocab_size) == (2, 64, 100)
    assert (shorter.head_width, shorter.kv_heads, shorter.feed_forward) == (128, 8, 3072)
    narrow = preset_model(Asked(preset="qwen3-0.6b", width=96, heads=6))
    assert (narrow.head_width, narrow.kv_heads, narrow.feed_forward) == (16, 6, 256)


def test_a_preset_is_trained_with_the_words_of_the_text(said: Said) -> None:
    shape = ["--preset", "smollm2-135m", "--layers", "1", "--width", "12", "--heads", "3", "--context", "8"]
    status, _, errors = said("train", "text.txt", *shape, "--steps", "2", "--batch", "2", "--out", "run")
    assert status == 0, errors
    config = json.loads(Path("run/config.json").read_text())
    assert config["model_type"] == "llama" and config["num_hidden_layers"] == 1
    assert config["rms_norm_eps"] == 1e-5 and config["max_position_embeddings"] == 8
    for other, line in (
        (("--from", "run"), "--preset is the shape of a new model; leave it out with --from"),
        (("--config", "run/octavo.toml"), "--preset is the shape of a new model; leave it out with --config"),
    ):
        status, _, errors = said("train", "text.txt", "--preset", "gpt2", *other)
        assert status == 2 and line in errors


# memory


@pytest.fixture
def planned(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], RunConfig]:
    """The training of a deep and narrow model on a machine with so much memory."""
    monkeypatch.setattr(planner, "probe", lambda config: (0.1, config))

    def call(free: int | None) -> RunConfig:
        monkeypatch.setattr(planner, "free_memory", lambda: free)
        asked = Asked(steps=2, layers=24, heads=1, width=32, context=256, batch=4)
        return training.plan_training(["text.txt"], asked)[0].config

    return call


def test_blocks_are_computed_again_only_where_a_row_does_not_fit_otherwise(
    planned: Callable[[int | None], RunConfig],
) -> None:
    plenty = planned(None)
    assert not plenty.train.recompute and plenty.train.micro_batches == 1
    rows = step_memory(plenty)
    assert planned(int(0.9 * rows / SHARE)).train.recompute is False
    row = replace(plenty, train=replace(plenty.train, batch=1))
    tight = planned(int(0.9 * step_memory(row) / SHARE))
    assert tight.train.recompute and step_memory(tight) < step_memory(row)
    with pytest.raises(ConfigError, match="to learn from a row takes about"):
        planned(int(0.1 * step_memory(row) / SHARE))


def test_a_device_that_runs_out_at_a_single_row_computes_blocks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def measure(config: RunConfig, steps: int, alone: bool) -> float:
        if not config.train.recompute:
            raise torch.OutOfMemoryError
        return 0.1

    monkeypatch.setattr(probing, "_measure", measure)
    config = RunConfig(model=GPT2_XL, train=TrainConfig(steps=1, batch=4))
    train = probing.probe(config)[1].train
    assert train.recompute and train.micro_batches == 4


def test_logits_take_no_more_memory_than_those_that_exist_at_once() -> None:
    few, many = (
        step_memory(RunConfig(model=GPT2_XL, train=TrainConfig(steps=1, batch=rows, recompute=True))) for rows in (2, 8)
    )
    assert many - few < 6 * 1024 * 12 * GPT2_XL.vocab_size


# speed


def stepped(step: int, pace: float) -> Stepped:
    return Stepped(
        step=step, steps=9, seconds=1.0, tokens=8, lr=0.1, train_loss=2.5, grad_norm=1.5, tokens_per_second=pace,
        remaining=0.0,
    )  # fmt: skip


CONFIG = RunConfig(model=GPT2_XL, train=TrainConfig(steps=9, batch=1))


def test_utilisation_is_the_models_arithmetic_over_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "peak", lambda device, dtype: 1e14)
    heard = Speed(CONFIG)
    assert heard.line() == "" and heard.tokens_per_second == 0
    for step, pace in enumerate((1.0, 4000.0, 5000.0, 3000.0, 9000.0)):
        heard.hear(stepped(step, pace))
    assert heard.tokens_per_second == 4000
    assert heard.utilisation == pytest.approx(4000 * work_per_token(GPT2_XL).total / 1e14)
    assert heard.line().startswith(
        "4,000 tokens a second, and with them 41% of the arithmetic that cpu can do in float32"
    )


def test_the_peak_is_measured_once_and_a_number_of_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(speed.SIZES, "cpu", 256)
    peak.cache_clear()
    assert peak("cpu", "float32") == peak("cpu", "float32") > 1e6
    peak.cache_clear()


def test_the_peak_is_that_of_rows_by_rows_and_what_lasts_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without units for bfloat16 multiplies rows by columns far slower."""
    tried: list[int] = []

    def timed(one: Tensor, other: Tensor, result: Tensor) -> float:
        tried.append(len(one))
        return 2 * len(one) ** 3 / (2e9 if other.T.is_contiguous() else 1e8)

    monkeypatch.setattr(speed, "_timed", timed)
    peak.cache_clear()
    assert peak("cpu", "bfloat16") == pytest.approx(2e9)
    assert Counter(tried) == {256: 6, 512: 2}  # one of them is for warming up
    peak.cache_clear()


def test_a_device_without_room_for_the_largest_product_has_the_peak_of_smaller_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def timed(one: Tensor, other: Tensor, result: Tensor) -> float:
        if len(one) > 256:
            raise torch.OutOfMemoryError
        return 1e-3

    monkeypatch.setattr(speed, "_timed", timed)
    peak.cache_clear()
    assert peak("cpu", "float32") == pytest.approx(2 * 256**3 * 1e3)
    peak.cache_clear()


def test_no_share_is_said_where_more_was_done_than_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "peak", lambda device, dtype: 1e12)
    heard = Speed(CONFIG)
    heard.hear(stepped(0, 4000.0))
    assert heard.line() == (
        "4,000 tokens a second, and with them more than the 1 TFLOP a second measured of cpu in float32"
    )


def test_a_training_says_how_fast_it_was(said: Said) -> None:
    errors = said("train", "text.txt", *TINY)[2]
    assert re.search(r"\d tokens a second, and with them (less than )?\d+% of the arithmetic that cpu can do", errors)


# tracking


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is said to tensorboard's writer, in place of it."""
    seen: list[tuple[Any, ...]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            seen.append(("begin", Path(folder).name, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            seen.append((name, value, step))

        def add_text(self, name: str, text: str, step: int) -> None:
            seen.append((name, text, step))

        def flush(self) -> None:
            seen.append(("flush",))

        def close(self) -> None:
            seen.append(("close",))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr("octavo.tracking.importlib.util.find_spec", lambda name: name)
    return seen


def steps_of(written: list[tuple[Any, ...]], name: str) -> list[int]:
    return [line[2] for line in written if line[0] == name]


def test_a_training_is_tracked_and_goes_on_after_its_checkpoint(said: Said, written: list[tuple[Any, ...]]) -> None:
    words = [*TINY[2:], "--eval-every", "2", "--steps", "4", "--out", "run", "--track"]
    assert said("train", "text.txt", *words)[0] == 0
    assert written[0] == ("begin", "tensorboard", 1) and written[-1] == ("close",)
    assert steps_of(written, "loss/training") == [1, 2, 3, 4]
    assert steps_of(written, "loss/held out") == [0, 2, 4]
    assert steps_of(written, "what it writes") == [2, 4]
    shares = [line[1] for line in written if line[0] == "speed/share of the device's peak"]
    assert len(shares) == 2 and all(0 < share < 1 for share in shares)
    written.clear()
    status, _, errors = said("train", "--resume", "run", "--steps", "6", "--track")
    assert status == 0, errors
    steps = steps_of(written, "loss/training")
    assert written[0] == ("begin", "tensorboard", steps[0]) and steps[-1] == 6


def test_without_tensorboard_one_line_names_the_extra(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.tracking.importlib.util.find_spec", lambda name: None)
    status, output, errors = said("train", "text.txt", *TINY, "--track")
    expected = "octavo: --track writes what tensorboard reads, and that is not installed: pip install -e '.[track]'\n"
    assert (status, output, errors) == (2, "", expected) and not Path("runs").exists()


def test_what_is_tracked_can_be_read_by_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an extra, for those who ask for it")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    check_tracking()
    for begin, losses in ((0, (5.0, 4.0, 3.0)), (1, (2.0,))):
        tracker = Tracker(tmp_path, CONFIG, Speed(CONFIG), begin)
        for step, loss in enumerate(losses, begin + 1):
            tracker.hear(Stepped(**{**vars(stepped(step, 100.0)), "train_loss": loss}))
        tracker.hear(Evaluated(begin, 9, 1.0, 3.0, 3.0, 4.0, True, None, 0.0))
        tracker.hear(Sampled(begin, "text"))
        tracker.close()
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss/training")] == [(1, 5.0), (2, 2.0)]
