"""What counting tells of a text, put into a model before its first step."""

import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import octavo
from octavo import planner, readings, training
from octavo.cli.asking import read_base
from octavo.config import Asked, DataConfig, ModelConfig, RunConfig, TrainConfig
from octavo.data import prepare
from octavo.errors import ConfigError
from octavo.evaluation import Evaluation
from octavo.events import Evaluated, Event, Note, Stepped
from octavo.making import make_model
from octavo.pairs import DISCOUNT, Pairs, begun_with_pairs
from octavo.saved import steps_saved
from octavo.schedule import Schedule
from octavo.standing import Standing
from test_nothing_lost import left, same

SMALL: dict[str, Any] = {"layers": 1, "heads": 2, "width": 32, "context": 16, "batch": 4}
SMALL |= {"tokenizer": "bpe", "vocab_size": 320, "eval_every": 4}
SHAPE = ModelConfig(dialect="modern", vocab_size=40, context=8, layers=1, heads=2, width=16, tied=False)


@pytest.fixture
def text(workplace: Path) -> Path:
    place = workplace / "text.txt"
    draw = Random(0)
    names = ["".join(draw.choices("aeioubdgklmnprst", k=draw.randint(2, 7))) for _ in range(400)]
    place.write_text(" ".join(names[draw.randrange(400) ** 2 // 400] for _ in range(20_000)))
    return place


def begun(text: Path, out: str = "run", **asked: Any) -> training.Trainer:
    told: list[Event] = []
    trainer = training.begin([str(text)], Asked(**{**SMALL, "steps": 12, **asked}), out=out, on_event=told.append)
    counted = trainer.config.train.pairs is not None
    assert counted == any(isinstance(event, Note) and "counting what follows what" in event.text for event in told)
    return trainer


def test_the_table_is_what_counting_by_hand_comes_to() -> None:
    draw = Random(1)
    tokens = [draw.choice([0, 0, 1, 2, 5]) for _ in range(80)]
    table = Pairs(np.array(tokens), 7).after(np.array([5, 0, 6])).double()
    seen, times = Counter(pairwise(tokens)), Counter(tokens[:-1])
    usual = [0.5 + sum(after == token for _, after in seen) for token in range(7)]
    for row, first in zip(table, (5, 0, 6), strict=True):
        different = sum(before == first for before, _ in seen)
        freed = DISCOUNT * different / times[first] if times[first] else 1.0
        for token, likely in enumerate(row.tolist()):
            counted = (seen[first, token] - DISCOUNT) / times[first] if seen[first, token] else 0.0
            assert likely == pytest.approx(counted + freed * usual[token] / sum(usual), abs=1e-6)
    assert table.sum(1).tolist() == pytest.approx([1.0, 1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize(("tokens", "counted"), [(3_900_000, 3_900_000), (4_200_000, 4_000_000)])
def test_up_to_four_million_tokens_are_counted(tokens: int, counted: int) -> None:
    assert Pairs(np.zeros(tokens, np.uint16), 2).times.sum() == pytest.approx(counted, rel=0.001)


def test_tokens_are_drawn_by_the_roots_of_how_often_they_occur_and_count_as_often() -> None:
    tokens = np.array([0, 1] * 100 + [2, 3] * 4)
    table, drawn, counted = Pairs(tokens, 5), np.zeros(5), np.zeros(5)
    for chosen, weights in table.drawn(400, seed=0):
        drawn[chosen] += 1
        counted[chosen] += weights
    assert counted[4] == drawn[4] == 0  # it does not occur
    assert counted[:4] / 400 == pytest.approx(table.times[:4] / table.times.sum(), rel=0.05)


def test_a_model_begins_as_sure_as_counting_is_and_nothing_else_of_it_is_changed() -> None:
    draw = np.random.default_rng(0)
    likely = draw.dirichlet(np.full(40, 0.2), 40)
    tokens = [0]
    for _ in range(20_000):
        tokens.append(int(draw.choice(40, p=likely[tokens[-1]])))
    config = RunConfig(model=SHAPE, train=TrainConfig(steps=1, batch=2, pairs=200))
    parts = begun_with_pairs(config, np.array(tokens))
    assert parts is not None
    usual, model = make_model(config).state_dict(), make_model(config, parts)
    ids, after = torch.tensor(tokens[:-1]), torch.tensor(tokens[1:])
    with torch.no_grad():
        said = model(torch.arange(40).unsqueeze(1))[:, 0]
    found = torch.nn.functional.cross_entropy(said[ids], after).item()
    counted = -Pairs(np.array(tokens), 40).after(np.array(tokens[:-1]))[range(len(ids)), after].log().mean().item()
    assert found == pytest.approx(counted, abs=0.1) and found < 2.6 < np.log(40)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, usual[name]) == (name not in {"embed.weight", "unembed.weight"})
    assert torch.equal(model.embed.weight[:, 0], usual["embed.weight"][:, 0])  # by which heads look back
    assert model.embed.weight[:, 1:].norm(dim=1).tolist() == pytest.approx([15**0.5] * 40, rel=1e-5)


def test_the_same_seed_begins_with_the_same_bits_and_another_with_others() -> None:
    tokens = np.random.default_rng(0).integers(0, 40, 2000)
    train = TrainConfig(steps=1, batch=2, pairs=5)
    one, same_, other = (
        begun_with_pairs(RunConfig(model=SHAPE, train=TrainConfig(**{**vars(train), "seed": seed})), tokens)
        for seed in (0, 0, 1)
    )
    assert one is not None and same_ is not None and other is not None
    assert all(torch.equal(weight, same_.weights[name]) for name, weight in one.weights.items())
    assert not torch.equal(one.weights["unembed.weight"], other.weights["unembed.weight"])
    assert begun_with_pairs(RunConfig(model=SHAPE, train=TrainConfig(steps=1, batch=2)), tokens) is None


def test_where_little_is_read_a_training_begins_with_pairs_and_knows_more(text: Path) -> None:
    first = next(event for event in begun(text).events() if isinstance(event, Evaluated))
    with mock.patch.object(planner, "pairs", lambda *_: None):
        nothing = next(event for event in begun(text, "nothing").events() if isinstance(event, Evaluated))
    assert first.step == nothing.step == 0 and first.val_loss < nothing.val_loss - 1.0
    other = begun(text, "other", dialect="gpt2", tokenizer="character", vocab_size=None)
    assert begun(text, "first").at.seconds > 0 == other.at.seconds


def test_the_planner_counts_first_where_steps_would_find_less(text: Path) -> None:
    def planned(**asked: Any) -> int | None:
        return training.plan_training([str(text)], Asked(**{**SMALL, "steps": 12, **asked}))[0].config.train.pairs

    data = DataConfig(texts=(str(text),), tokenizer="bpe", vocab_size=320)
    once = (len(prepare(data, None, cache=Path("cache")).train.tokens) - 1) // 64
    enough = readings.OF_EACH * 320 // 64
    assert once < enough  # of what is read twice, what was counted is too sure
    assert [planned(steps=steps) for steps in (1, once - 1, once + 1)] == [readings.PAIRS, readings.PAIRS, None]
    text.write_text(text.read_text() * 4)
    assert [planned(steps=steps) for steps in (once + 1, enough - 1, enough)] == [readings.PAIRS, readings.PAIRS, None]
    assert planned(dialect="gpt2") is None  # one matrix for what comes in and goes out
    assert planned(tokenizer="character", vocab_size=None) is None
    octavo.train(str(text), out="first", **{**SMALL, "steps": 2})
    shape = dict.fromkeys(("tokenizer", "vocab_size", "layers", "heads", "width"))
    asked = Asked(**{**SMALL, **shape, "start": "first", "steps": 2})
    assert training.begin([str(text)], asked, out="next").config.train.pairs is None


def test_a_training_that_is_repeated_begins_in_the_same_way(text: Path) -> None:
    first = octavo.train(str(text), out="first", **{**SMALL, "steps": 6})
    again = training.begin([str(text)], Asked(), out="again", base=read_base(first / "octavo.toml"))
    assert again.config.train.pairs == readings.PAIRS
    list(again.events())
    assert same(left(str(first), 6), left("again", 6))
    base = read_base(first / "octavo.toml")
    assert base is not None
    for pairs in (readings.PAIRS, None):  # also where its end is another, as what else of the recipe was given
        base = replace(base, train=replace(base.train, pairs=pairs, minutes=1.0))
        plan = training.plan_training([str(text)], Asked(minutes=0.02 if pairs is None else 5.0), base=base)[0]
        assert plan.config.train.pairs == pairs


@pytest.mark.parametrize("model", [{"tied": True}, {"dialect": "gpt2", "tied": False}])
def test_pairs_are_refused_where_they_have_no_place(model: Any) -> None:
    shape = {"dialect": "modern", "vocab_size": 40, "context": 8, "layers": 1, "heads": 2, "width": 16}
    with pytest.raises(ConfigError, match="pairs are for a new model of the modern dialect with tied = false; leave"):
        RunConfig(model=ModelConfig(**{**shape, **model}), train=TrainConfig(steps=1, batch=2, pairs=200))
    with pytest.raises(ConfigError, match="pairs are for a new model"):
        RunConfig(model=SHAPE, train=TrainConfig(steps=1, batch=2, pairs=200, start="smollm2"))
    with pytest.raises(ConfigError, match="pairs is 0; give a number above zero"):
        TrainConfig(steps=1, batch=2, pairs=0)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_going_on_comes_to_the_same_bits_wherever_it_was_stopped(text: Path, stop: int) -> None:
    list(begun(text, "whole").events())
    trainer = begun(text)
    events = trainer.events()
    for event in events:
        if isinstance(event, Stepped) and event.step == stop:
            trainer.stop()
        if isinstance(event, Evaluated) and stop == 0:  # killed before anything was saved
            events.close()  # type: ignore[attr-defined]
    assert (steps_saved(Path("run")) == []) == (stop == 0)
    with mock.patch.object(training, "begun_with_pairs", begun_with_pairs if stop == 0 else None):
        list(training.resume(Path("run"), Asked()).events())
    assert same(left("run", 12), left("whole", 12))


def test_a_glance_at_counted_pairs_is_no_measure_for_what_is_learned() -> None:
    def found(step: int, loss: float) -> Evaluation:
        return Evaluation(step=step, val_loss=loss, val_nats_per_character=loss, val_bits_per_byte=loss)

    at = Standing(schedule=Schedule.planned(9, warmup=0.0, decay=0.5), minutes=None, micro_batches=1)
    assert at.betters(found(0, 3.0), glanced=True)
    at.best = found(0, 3.0)
    assert at.betters(found(4, 3.1), glanced=True) and not at.betters(found(4, 3.1), glanced=False)
    assert not at.betters(found(4, float("nan")), glanced=True)
    at.best = found(4, 3.1)
    assert not at.betters(found(8, 3.2), glanced=True) and at.betters(found(8, 3.0), glanced=True)


def test_the_time_that_counting_takes_is_of_the_training(text: Path) -> None:
    with mock.patch.object(training, "begun_with_pairs", lambda *_: time.sleep(2.0)):
        trainer = begun(text)
    assert trainer.at.seconds >= 2.0
    first = next(event for event in trainer.events() if isinstance(event, Stepped))
    assert first.seconds >= 2.0 and trainer.at.besides >= 2.0  # which is no step's


def test_what_is_counted_with_fewer_threads_is_learned_with_all_as_soon_as_they_are_free(text: Path) -> None:
    usual, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        counting = mock.patch.object(training, "begun_with_pairs", lambda *_: seen.append(torch.get_num_threads()))
        with mock.patch.object(training, "_useful", lambda *_: 1), counting:
            trainer = begun(text)
        assert (seen, trainer.at.threads, trainer.threads.most, torch.get_num_threads()) == ([1], 1, 2, 2)
    finally:
        torch.set_num_threads(usual)


def test_a_forecast_is_lower_the_more_is_counted_that_is_not_read(text: Path) -> None:
    def told(pairs: int | None, vocab_size: int) -> tuple[float, float]:
        model = ModelConfig(
            dialect="modern", vocab_size=vocab_size, context=16, layers=1, heads=2, width=32, tied=False
        )
        train = TrainConfig(steps=200, batch=4, pairs=pairs)
        found = octavo.forecast.forecast(RunConfig(model=model, train=train), tokens, tokens[-2000:], 16)
        return found.loss, found.within  # type: ignore[union-attr]

    tokens = np.asarray(prepare(DataConfig(texts=(str(text),)), None, cache=Path("cache")).train.tokens)
    assert told(200, 4000)[0] < told(200, 400)[0] < told(None, 400)[0] == told(None, 4000)[0] == told(200, 20)[0]
    surely, counted = (within / loss for loss, within in (told(None, 400), told(200, 400)))
    assert counted > surely  # for what counting is worth is not known any better than the rest
