"""What the planner chooses: sizes for the text, the time and the memory; and what it says of them."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from octavo import forecast, planner, probing, readings, repeating, training
from octavo.config import Asked, ModelConfig, RunConfig, TrainConfig
from octavo.data import Prepared
from octavo.describing import epochs
from octavo.errors import ConfigError, TextError
from octavo.evaluation import held_out
from octavo.forecast import FEWEST, count, expect
from octavo.model import GPT
from octavo.planner import Plan
from octavo.probing import SHARE, Room, step_memory, work
from octavo.run import save
from octavo.scale import muon_work, parameters, work_per_token
from octavo.shapes import LADDER, rung_model
from test_repeating import Again
from texts import sentences

GB = 10**9


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where texts stay encoded: most of these tests plan for the same one."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCTAVO_HOME", str(home))
    monkeypatch.setattr(forecast, "COUNTED", 20_000)  # counting takes a second, and is tested by itself
    monkeypatch.setattr(forecast, "LOOKED_AT", 5_000)
    (tmp_path / "text.txt").write_text(varied(900_000))


@cache
def varied(characters: int) -> str:
    """A text that never says a thing twice."""
    return "".join(Random(0).choices("etaoin shrdlu\n", k=characters))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine that does so many operations a second and has so much memory, instead of this one."""

    def pretend(speed: float = 1e11, free: int | None = 16 * GB) -> None:
        for module in (planner, probing):
            monkeypatch.setattr(module, "probe", lambda config, room: (6 * work(config) / speed, config))
        monkeypatch.setattr(planner, "free_memory", lambda: free)

    pretend()
    return pretend


def planned(**asked: Any) -> tuple[Plan, Prepared]:
    return training.plan_training(["text.txt"], Asked(**asked))


def chosen(**asked: Any) -> RunConfig:
    return planned(**asked)[0].config


def test_more_time_never_gives_a_smaller_model_and_always_more_tokens(machine: Callable[..., None]) -> None:
    sizes, tokens = [], []
    for minutes in (0.1, 0.5, 1, 2, 5, 15, 60):
        config = chosen(minutes=minutes)
        sizes.append(parameters(config.model))
        tokens.append(config.train.steps * config.train.batch * config.model.context)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert tokens == sorted(tokens)


def test_a_text_is_read_no_more_often_than_it_teaches(machine: Callable[..., None]) -> None:
    """However quick the machine: more of it would be learned by heart."""
    slow = chosen(minutes=1)
    assert slow.train.steps < (slow.train.most_steps or 0)
    machine(speed=1e15)
    plan, prepared = planned(minutes=5)
    train, tokens = plan.config.train, len(prepared.train.tokens) - 1
    assert train.steps == train.most_steps and train.minutes == 5
    often = max(readings.MOST, readings.BY_SIZE * tokens / plan.parameters)
    assert epochs(plan.config, train.steps, tokens) == pytest.approx(often, rel=0.1)
    assert "done in about 0 s, not 5 min 0 s: after that, the text would only be learned" in plan.lines[-1]
    assert chosen(steps=10**6).train.steps == 10**6  # who asks for steps gets them
    for words, most, minutes in (({}, train.most_steps, 5), ({"steps": 10**6}, None, None)):
        again = training.plan_training(["text.txt"], Asked(**words), base=plan.config)[0].config.train
        assert (again.steps, again.most_steps, again.minutes) == (words.get("steps", train.steps), most, minutes)


@pytest.mark.parametrize("of", ["preset", "weights"])
def test_a_model_of_a_given_shape_reads_a_text_no_more_often_either(of: str, machine: Callable[..., None]) -> None:
    machine(speed=1e15)
    tiny: Any = {"layers": 1, "heads": 1, "kv_heads": 1, "width": 16, "context": 32}
    asked = Asked(minutes=5, preset="smollm2-135m", **tiny)
    if of == "weights":
        plan, prepared = planned(steps=1, **tiny)
        save(GPT(plan.config.model), prepared.tokenizer, "model")
        asked = Asked(minutes=5, start="model")
    plan = training.plan_training(["text.txt"], asked, start=training.opened_start(asked, None))[0]
    train = plan.config.train
    assert train.steps == train.most_steps
    assert "done in about 0 s, not 5 min 0 s: after that, the text would only be learned" in plan.lines[-1]


def test_a_training_that_is_repeated_reads_a_smaller_text_no_more_often_than_it_teaches() -> None:
    train = TrainConfig(steps=10**5, batch=4, minutes=5.0, eval_every=3000, save_every=1500)
    base = replace(chosen(minutes=5), train=train)  # of a text so large that nothing bounded it
    again = training.plan_training(["text.txt"], Asked(), base=base)[0].config.train
    assert again.steps == again.most_steps and again.steps < 10**5
    assert again.eval_every <= again.steps / 4 and again.save_every <= again.eval_every


def test_a_model_that_is_slow_to_read_reads_less_of_what_is_held_out(machine: Callable[..., None]) -> None:
    plan, prepared = planned(preset="smollm2-135m", context=64, minutes=5)
    assert plan.config.train.val_tokens is None  # a quick machine reads all of it
    machine(speed=5e9)
    plan, prepared = planned(preset="smollm2-135m", context=64, minutes=5)
    train, held = plan.config.train, len(held_out(prepared).tokens)
    assert train.val_tokens is not None and 8192 <= train.val_tokens < held
    assert f"; up to {train.val_tokens:,} tokens held out are read, to save time" in plan.lines[2]
    assert 0 < len(held_out(prepared, train.val_tokens).tokens) <= train.val_tokens  # whole pieces of it
    assert (
        chosen(preset="smollm2-135m", context=64, steps=2).train.val_tokens is None
    )  # nobody asked for an end in time


@pytest.mark.parametrize(
    ("minutes", "seconds", "whole"), [(1, 19.0, True), (1, 21.0, False), (5, 29.0, True), (5, 31.0, False)]
)
def test_what_is_held_out_is_read_whole_within_twenty_seconds_or_a_tenth_of_the_time(
    machine: Callable[..., None], minutes: float, seconds: float, whole: bool
) -> None:
    machine(speed=1e9)
    plan, prepared = planned(minutes=1)
    reading = planner.READING * 6 * plan.parameters * len(held_out(prepared).tokens)
    machine(speed=reading / seconds)
    slow = planned(minutes=minutes)[0]
    assert slow.parameters == plan.parameters and (slow.config.train.val_tokens is None) == whole


def test_the_rows_of_a_large_model_share_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(config: RunConfig) -> float:
        row = work_per_token(config.model, config.window).total * config.window
        return (muon_work(config.model) + row * config.train.batch) / 1e11

    monkeypatch.setattr(probing, "probe", lambda config, room: (seconds(config), config))
    monkeypatch.setattr(planner, "free_memory", lambda: 64 * GB)
    config = chosen(preset="smollm2-135m", context=256, minutes=60)
    assert config.train.optimizer == "muon" and config.train.batch > 4
    assert config.train.steps * seconds(config) == pytest.approx(3600, rel=0.15)  # evaluations take the rest


def test_a_preset_learns_to_see_as_far_as_is_asked_and_no_farther_than_its_text(machine: Callable[..., None]) -> None:
    small: dict[str, Any] = {"layers": 1, "width": 32, "heads": 2, "kv_heads": 1, "steps": 3, "batch": 1}
    usual = chosen(preset="smollm2-135m", **small)
    assert (usual.model.context, usual.window) == (8192, 4096)
    for asked in ({"preset": "smollm2-135m"}, {"preset": "gpt2", "kv_heads": 2}):
        far = chosen(**{**small, **asked, "context": 8192})
        assert far.window == far.model.context == 8192
    again = training.plan_training(["text.txt"], Asked(context=8192), base=usual)[0].config
    assert again.window == again.model.context == 8192
    with pytest.raises(
        TextError, match=r"^context is 1000000, and the text has only \d+ tokens to learn from; ask for"
    ):
        chosen(preset="gpt2", context=10**6, steps=3)


def test_a_faster_machine_gets_a_larger_model(machine: Callable[..., None]) -> None:
    machine(speed=1e10)
    slow = chosen(minutes=2)
    machine(speed=1e13)
    assert parameters(chosen(minutes=2).model) > parameters(slow.model)


def test_a_short_text_gets_a_small_model_however_much_time_there_is(machine: Callable[..., None]) -> None:
    Path("text.txt").write_text(sentences(60))
    plan = planned(minutes=60)[0]
    assert plan.config.model.width == LADDER[0].width
    train = plan.config.train
    assert train.weight_decay > 0 and train.dropout == 0.0
    assert chosen(minutes=60, dropout=0.1).train.dropout == 0.1
    assert re.search(r"\(\d KB, Latin", plan.lines[0])


def test_a_larger_model_takes_three_different_characters_for_each_ten_of_its_parameters(
    machine: Callable[..., None],
) -> None:
    asked: dict[str, Any] = {"steps": 10**6, "tokenizer": "character"}
    enough = 0.3 * parameters(rung_model(Asked(), LADDER[1], chosen(**asked).model.vocab_size, 10**6))
    for share, rung in ((0.98, LADDER[0]), (1.02, LADDER[1])):
        Path("text.txt").write_text(varied(round(share * enough / 0.9)))  # of which nine tenths are learned from
        assert chosen(**asked).model.width == rung.width


def test_weights_decay_where_a_text_is_read_again_and_again(machine: Callable[..., None]) -> None:
    shape = {"layers": 1, "heads": 1, "width": 16, "context": 16, "batch": 2}
    once, prepared = planned(steps=100, **shape)
    reading = 100 / epochs(once.config, 100, len(prepared.train.tokens) - 1)  # steps

    def fades(times: float, **words: Any) -> float:
        """What of a weight is gone after one reading, in powers of e."""
        train = chosen(steps=round(times * reading), **{**shape, **words}).train
        return train.weight_decay * train.lr * reading

    assert fades(2.9) == 0.0
    assert fades(9) == pytest.approx(3 * readings.FADING * (once.parameters / readings.OF) ** 0.4, rel=0.02)
    assert fades(9) == pytest.approx(2 * fades(4.5, lr=0.01) / (0.75 * 2**0.5), rel=0.02)
    assert fades(9, width=64) > 1.5 * fades(9)
    assert readings.weight_decay(20, 20, lr=0.1, parameters=10**6) == pytest.approx(readings.AT_ONCE / 0.1)
    assert chosen(steps=round(8 * reading), **shape, dialect="gpt2").train.weight_decay == 0.1  # AdamW's usual


def test_rotary_positions_are_as_slow_as_the_model_sees_far_and_no_one_elses(machine: Callable[..., None]) -> None:
    for context in (32, 64):
        assert chosen(steps=10, context=context).model.rope_base == 8 * context
    assert chosen(steps=10, dialect="gpt2").model.rope_base == ModelConfig().rope_base


def test_steps_take_the_place_of_time(machine: Callable[..., None]) -> None:
    config = chosen(steps=2000)
    assert (config.train.steps, config.train.minutes) == (2000, None)


@pytest.mark.parametrize("minutes", [0.2, 1.0, 5.0])
def test_learning_evaluating_and_saving_fit_into_the_time(machine: Callable[..., None], minutes: float) -> None:
    plan, prepared = planned(minutes=minutes)
    train, model = plan.config.train, plan.config.model
    pace = 6 * work(plan.config) / 1e11
    look = pace * planner.READING * len(held_out(prepared).tokens) / (train.batch * model.context)
    looks, saves = (-(-train.steps // every) for every in (train.eval_every, train.save_every))
    assert saves >= planner.SAVES - 1  # the chances to be on time
    between = max(0, saves - looks) * planner.SAVING / 2
    assert train.steps * pace + looks * (look + planner.SAVING) + between == pytest.approx(60 * minutes, rel=0.1)


def test_little_memory_cuts_the_batch_and_less_the_model(machine: Callable[..., None]) -> None:
    machine(speed=1e13)
    plenty = chosen(minutes=60)
    need = step_memory(plenty)
    machine(speed=1e13, free=round(need / SHARE * 0.9))
    pieces = chosen(minutes=60)
    assert pieces.train.micro_batches == 2 and pieces.model == plenty.model
    machine(speed=1e13, free=GB // 20)
    small = chosen(minutes=60)
    assert parameters(small.model) < parameters(plenty.model)
    for config, free in ((pieces, need / SHARE * 0.9), (small, GB // 20)):
        assert step_memory(config) <= SHARE * free


def test_a_batch_is_read_whole_where_it_takes_no_more_than_six_tenths_of_what_is_free(
    machine: Callable[..., None],
) -> None:
    need = step_memory(chosen(steps=200)) / 0.6
    for free, pieces in ((need * 1.01, 1), (need * 0.99, 2)):
        machine(free=round(free))
        assert chosen(steps=200).train.micro_batches == pieces


def test_what_does_not_fit_into_the_memory_is_refused_before_it_is_tried(machine: Callable[..., None]) -> None:
    line = (
        r"^to learn from a row takes about .* GB and 16\.0 GB are free, of which at most \d+% are taken; "
        "ask for a smaller --context, --width or --layers$"
    )
    with pytest.raises(ConfigError, match=line):
        planned(minutes=1, width=2048, layers=64)


def test_where_nobody_tells_how_much_memory_is_free_there_is_enough(machine: Callable[..., None]) -> None:
    machine(free=None)
    plan, _ = planned(minutes=1)
    assert "memory    about" in plan.lines[3] and "free" not in plan.lines[3]


def test_a_device_that_runs_out_in_the_probe_gets_smaller_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measure(config: RunConfig, steps: int, alone: bool) -> float:
        seen.append(config.train.micro_batches)
        if config.train.micro_batches < 4:
            raise torch.OutOfMemoryError
        return 0.1

    monkeypatch.setattr(probing, "_measure", measure)
    config = chosen(steps=3, batch=8)
    assert probing.probe(config)[1].train.micro_batches == 4
    assert seen == [1, 2, 4]
    with pytest.raises(torch.OutOfMemoryError):
        probing.probe(replace(config, train=replace(config.train, batch=2)))
    with pytest.raises(ConfigError, match="has not enough memory for a row of 16 tokens"):
        planned(minutes=1, context=16, batch=2)


def test_a_device_that_runs_out_in_the_update_of_a_probe_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def update(self: torch.optim.Optimizer, closure: object = None) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch.optim.AdamW, "step", update)
    with pytest.raises(ConfigError, match="has not enough memory for a row of 16 tokens"):
        planned(minutes=1, context=16, batch=2)


@pytest.mark.parametrize(("seconds", "taken"), [(0.1, 4), (1.9, 4), (3.0, 3), (9.0, 2), (60.0, 1)])
def test_a_slow_step_is_not_tried_again_and_again(monkeypatch: pytest.MonkeyPatch, seconds: float, taken: int) -> None:
    clock = [0.0]

    def step(*_: Any, **__: Any) -> None:
        clock.append(clock[-1] + seconds)

    monkeypatch.setattr(repeating, "training_step", step)
    monkeypatch.setattr(probing.time, "perf_counter", lambda: clock[-1])
    assert probing.probe(chosen(steps=3, batch=8))[0] == pytest.approx(seconds)
    assert len(clock) - 1 == taken  # the first one warms up


@pytest.mark.parametrize(("processes", "recordings"), [(1, 2), (2, 0)])
def test_the_pace_of_several_processes_is_that_of_steps_which_nobody_records(
    monkeypatch: pytest.MonkeyPatch, processes: int, recordings: int
) -> None:
    monkeypatch.setattr(repeating, "records", lambda device: True)
    monkeypatch.setattr(repeating, "Recording", Again)
    monkeypatch.setattr(Again, "told", [])
    probing.probe(chosen(steps=3, batch=8), Room(processes=processes))
    assert len(Again.told) == recordings


def test_the_plan_says_what_is_to_be_known(machine: Callable[..., None]) -> None:
    plan, prepared = planned(minutes=2)
    text = "\n".join(plan.lines)
    assert "MB, Latin" in text and "held out to validate" in text
    assert re.search(r"memory    about \d+ MB of 16\.0 GB free", text)
    figures = r"(\d\.\d\d) ± \d\.\d\d"
    said = re.search(
        rf"a loss of {figures} nats a token held out, {figures} a character; done in 2 min 0 s, about", text
    )
    assert said is not None
    token, character = map(float, said.groups())
    part = held_out(prepared)
    assert character * part.characters == pytest.approx(token * len(part.tokens), rel=0.02)
    assert plan.config.train.forecast is not None


def test_the_plan_of_a_text_by_character_says_its_loss_once(machine: Callable[..., None]) -> None:
    plan, _ = planned(minutes=2, tokenizer="character")
    assert re.search(r"nats a token held out; done in 2 min 0 s, about", plan.lines[4])


@pytest.mark.parametrize(
    ("characters", "asked", "kind", "size"),
    [
        (50_000, {}, "character", 16),
        (200_000, {}, "bpe", 448),
        (900_000, {}, "bpe", 960),
        (900_000, {"tokenizer": "character"}, "character", 16),
        (900_000, {"vocab_size": 500}, "bpe", 500),
        (50_000, {"tokenizer": "bpe"}, "bpe", 320),
    ],
)
def test_a_text_is_cut_into_about_as_many_pieces_as_the_root_of_its_size(
    characters: int, asked: dict[str, Any], kind: str, size: int, machine: Callable[..., None]
) -> None:
    Path("text.txt").write_text(varied(characters))
    plan, prepared = planned(steps=3, **asked)
    assert prepared.tokenizer.kind == plan.config.data.tokenizer == kind
    assert plan.config.model.vocab_size == size
    assert not plan.config.model.tied


def test_a_text_with_more_characters_than_pieces_is_learned_by_character(machine: Callable[..., None]) -> None:
    signs = [chr(0x4E00 + number) for number in range(2000)]  # Han
    Path("text.txt").write_text("".join(Random(0).choices(signs, k=200_000)), "utf-8")
    assert planned(steps=3)[1].tokenizer.kind == "character"


def test_a_repeated_training_cuts_its_text_as_the_first_one_did(machine: Callable[..., None]) -> None:
    Path("other.txt").write_text(varied(9_000))
    pieces = {"tokenizer": "bpe", "vocab_size": 300}
    for asked in ({"tokenizer": "character"}, pieces, {"split": 0.8, "errors": "replace"}, {"val": "other.txt"}):
        first, prepared = planned(steps=3, **asked)
        repeated, again = training.plan_training(["text.txt"], Asked(), base=first.config)
        assert repeated.config.data == first.config.data
        assert again.tokenizer.backend.to_str() == prepared.tokenizer.backend.to_str()


def test_a_repeated_training_cuts_its_text_as_it_is_asked_to(machine: Callable[..., None]) -> None:
    base = chosen(steps=3, split=0.8, tokenizer="character")
    again = training.plan_training(["text.txt"], Asked(split=0.5, errors="replace"), base=base)[0].config.data
    assert again == replace(base.data, split=0.5, errors="replace")


@pytest.mark.parametrize("first", [{"minutes": 2}, {"steps": 300}])
@pytest.mark.parametrize("asked", [{"minutes": 0.5}, {"minutes": 8}, {"minutes": 0.5, "width": 64}])
def test_a_training_that_is_repeated_in_another_time_has_the_steps_for_it(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, first: dict[str, Any], asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(planner, "READING", 0.0)  # of so slow a machine it would be most of the time
    machine(speed=3e9)
    base = chosen(**first)
    config = training.plan_training(["text.txt"], Asked(**asked), base=base)[0].config
    train = config.train
    assert train.steps * 6 * work(config) / 3e9 == pytest.approx(60 * asked["minutes"], rel=0.2)
    assert 6 * train.save_every <= train.steps + 6 and 4 * train.eval_every <= train.steps + 4
    as_before = ("batch", "dropout", "weight_decay")
    assert train.minutes == asked["minutes"]
    assert [getattr(train, name) for name in as_before] == [getattr(base.train, name) for name in as_before]


def test_a_training_of_some_minutes_that_is_repeated_in_another_size_keeps_to_its_time(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "READING", 0.0)
    machine(speed=3e9)
    config = training.plan_training(["text.txt"], Asked(width=512), base=chosen(minutes=2))[0].config
    assert config.train.steps * 6 * work(config) / 3e9 == pytest.approx(120, rel=0.2)


@pytest.mark.parametrize(
    "asked",
    [{"width": 50}, {"width": 100}, {"width": 100, "dialect": "gpt2"}, {"kv_heads": 2}, {"width": 66, "kv_heads": 3}],
)
def test_a_size_is_not_refused_for_a_rung_that_it_does_not_suit(
    machine: Callable[..., None], asked: dict[str, Any]
) -> None:
    model = chosen(steps=200, **asked).model
    assert {name: getattr(model, name) for name in asked} == asked


def test_a_training_that_is_repeated_in_another_width_has_heads_of_its_own(machine: Callable[..., None]) -> None:
    base = chosen(steps=200, layers=2, heads=2, width=128, context=64)
    for asked in ({"heads": 4}, {"width": 256}, {"context": 32}):
        again = training.plan_training(["text.txt"], Asked(**asked), base=base)[0].config.model
        model = chosen(steps=200, **{"layers": 2, "heads": 2, "width": 128, "context": 64, **asked}).model
        assert again == model


def test_nothing_is_forecast_of_a_recipe_that_was_not_measured(machine: Callable[..., None]) -> None:
    of = {
        "GPT-2's dialect": {"dialect": "gpt2"},
        "fewer than 100 steps": {"steps": FEWEST - 1},
        "a rate of 9": {"lr": 9},
    }
    for what, asked in of.items():
        plan, _ = planned(**asked)
        assert plan.config.train.forecast is None
        assert f"forecast  none for {what}; " in plan.lines[4]


def test_nothing_is_forecast_of_a_size_that_was_not_measured(machine: Callable[..., None]) -> None:
    tokens = {"steps": 300, "batch": 16, "context": 128}
    usual = chosen(**tokens)
    same = chosen(**tokens, layers=usual.model.layers, width=usual.model.width)
    assert usual.train.forecast == same.train.forecast is not None
    for shape in ({"width": 16}, {"layers": 24, "width": 192}):
        assert chosen(**tokens, **shape).train.forecast is None


def test_what_a_model_sees_beyond_those_that_were_measured_is_no_part_of_the_forecast(
    machine: Callable[..., None],
) -> None:
    shape = {"steps": FEWEST, "layers": 4, "width": 64}
    near = chosen(**shape, context=64, batch=4)
    assert near.train.forecast == chosen(**shape, context=256, batch=1).train.forecast is not None
    assert near.train.forecast != chosen(**shape, context=32, batch=8).train.forecast


def test_nothing_is_forecast_where_what_is_held_out_was_copied(machine: Callable[..., None]) -> None:
    half = varied(300_000)
    Path("text.txt").write_text(half + half[:200_000])
    plan, _ = planned(minutes=1)
    assert plan.config.train.forecast is None
    assert "none: 100% of what is held out stands in what is learned from, word for word" in plan.lines[4]


def test_a_text_that_says_all_twice_is_told(machine: Callable[..., None]) -> None:
    Path("text.txt").write_text(2 * sentences(1000, seed=3))
    plan, _ = planned(minutes=1)
    assert re.search(r"[34]\d% of it a repetition", plan.lines[0])


def test_a_forecast_falls_with_more_reading_and_rises_with_the_surprise_of_the_text(
    machine: Callable[..., None],
) -> None:
    _, prepared = planned(steps=1000)
    counted = count(prepared.train.tokens, prepared.val.tokens, 100_000)
    less, more = (expect(counted, tokens, 10**7, 128).loss for tokens in (10**6, 4 * 10**6))
    assert more < less
    harder = replace(counted, nats=1.2 * counted.nats, one=1.2 * counted.one, two=1.2 * counted.two)
    assert expect(harder, 10**6, 10**7, 128).loss > 1.1 * less
