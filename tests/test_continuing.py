"""Going on from a model that is there already: `octavo train --from`."""

import gc
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

import octavo
from octavo import training
from octavo.cli.asking import read_base
from octavo.config import Asked
from octavo.errors import ConfigError, RunError
from octavo.evaluation import examine
from octavo.events import Event, Finished, Planned, Saved, Stepped
from octavo.gguf_file import save_gguf
from octavo.saved import steps_saved
from octavo.trainer import Trainer
from test_nothing_lost import left, same
from texts import sentences

TINY: dict[str, Any] = {"layers": 2, "heads": 2, "width": 32, "context": 32, "batch": 8}


@pytest.fixture(autouse=True)
def here(unchecked: None, workplace: Path) -> None:
    (workplace / "other.txt").write_text(sentences(300, seed=5).replace("finds", "loses"))


@pytest.fixture
def first() -> Path:
    return octavo.train("text.txt", out="first", steps=120, eval_every=60, **TINY)


def on(**asked: Any) -> Trainer:
    return training.begin(["other.txt"], Asked(**{"start": "first", "batch": 4, "eval_every": 4, **asked}), out="run")


def losses(run: str) -> list[float]:
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    return [line["val_loss"] for line in lines if "val_loss" in line]


@pytest.mark.parametrize("dialect", ["modern", "gpt2"])
def test_a_training_that_goes_on_from_a_model_begins_with_what_it_knows(dialect: Any) -> None:
    octavo.train("text.txt", out="first", steps=120, eval_every=60, dialect=dialect, **TINY)
    told: list[Event] = []
    trainer = training.begin(
        ["other.txt"], Asked(start="first", steps=20, eval_every=10), out="run", on_event=told.append
    )
    whole = octavo.load("first")[0].state_dict()
    assert all(torch.equal(weight, whole[name]) for name, weight in trainer.model.state_dict().items())
    list(trainer.events())
    scratch = octavo.train("other.txt", out="scratch", steps=20, eval_every=10, dialect=dialect, **TINY)
    assert losses("run")[0] < losses(str(scratch))[-1]
    (plan,) = [event for event in told if isinstance(event, Planned)]
    assert (plan.config.train.optimizer, plan.config.train.lr) == ("adamw", 2e-3)
    assert plan.config.train.start == "first" and "forecast  none for " in plan.lines[4]
    assert octavo.load("run")[1].encode("Ada") == octavo.load("first")[1].encode("Ada")


@pytest.mark.parametrize("stop", [1, 6])
def test_it_is_gone_on_with_to_the_same_bits_without_the_model(stop: int, first: Path) -> None:
    list(on(steps=12).events())
    Path("run").rename("whole")
    trainer = on(steps=12)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == stop:
            trainer.stop()
    first.rename("elsewhere")
    list(training.resume(Path("run"), Asked()).events())
    assert same(left("run", 12), left("whole", 12))


def test_a_stop_need_not_wait_until_all_that_is_held_out_was_read(monkeypatch: pytest.MonkeyPatch, first: Path) -> None:
    Path("val.txt").write_text(sentences(1500, seed=6))
    list(on(steps=8, val="val.txt").events())
    Path("run").rename("whole")
    monkeypatch.setattr("octavo.trainer.GLANCE", 64)
    monkeypatch.setattr("octavo.trainer.examine", read := Mock(side_effect=examine))
    trainer = on(steps=8, val="val.txt")
    trainer.stop()
    *_, finished = trainer.events()
    assert isinstance(finished, Finished) and finished.reason == "stopped"
    whole, glance = (len(call.args[1].tokens) for call in read.call_args_list)
    assert whole == len(trainer.held_out.tokens) > 2 * glance
    list(training.resume(Path("run"), Asked()).events())
    assert same(left("run", 8), left("whole", 8))


def test_what_was_best_stays_best_where_all_steps_are_made_anew(first: Path) -> None:
    *_, finished = on(steps=1, lr=1e-4).events()
    assert isinstance(finished, Finished) and finished.best_step == 1
    best, trainer = load_file("run/model.safetensors"), training.resume(Path("run"), Asked(steps=3))
    assert trainer.at.step == 0 and trainer.at.best is not None and trainer.at.best.step == 1
    assert isinstance(next(trainer.events()), Stepped)
    assert same(load_file("run/model.safetensors"), best)


def test_a_kill_before_the_first_save_of_its_own_goes_back_to_the_model(first: Path) -> None:
    trainer = on(steps=12)
    assert steps_saved(Path("run")) == [0]
    begun = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    assert trainer.claim is not None
    trainer.claim.release()
    trainer = training.resume(Path("run"), Asked())
    assert all(torch.equal(weight, begun[name]) for name, weight in trainer.model.state_dict().items())
    assert any(isinstance(event, Saved) for event in trainer.events())


def begun_and_killed(monkeypatch: pytest.MonkeyPatch, where: str, killed: Any = None, **given: Any) -> None:
    """A training that comes to its end before it has saved the weights that it begins with."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, killed or Mock(side_effect=KeyboardInterrupt))
        training.begin(["other.txt"], Asked(start="first", batch=4, eval_every=4, steps=4), **given)
    gc.collect()  # a process that has ended claims nothing


KILLED = ["octavo.trainer.Trainer.save_state", "octavo.tokenizers.base.Tokenizer.save"]


@pytest.mark.parametrize(("out", "where"), [("run", KILLED[0]), *(("first", where) for where in KILLED)])
def test_killed_before_anything_is_saved_it_begins_with_the_model_once_more(
    out: str, where: str, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = octavo.load(first)[0].state_dict()
    list(on(steps=4).events())
    Path("run").rename("whole")
    begun_and_killed(monkeypatch, where, out=out, force=True)
    assert all(torch.equal(weight, before[name]) for name, weight in octavo.load(first)[0].state_dict().items())
    told: list[Event] = []
    list(training.resume(Path(out), Asked(), on_event=told.append).events())
    assert any(isinstance(event, Saved) and event.step == 0 for event in told)
    assert same(left(out, 4), left("whole", 4))


def test_killed_before_what_stood_there_is_gone_nothing_of_it_is_gone_on_with(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = octavo.load(first)[0].state_dict()
    killed = Mock(wraps=shutil, rmtree=Mock(side_effect=KeyboardInterrupt))
    begun_and_killed(monkeypatch, "octavo.beginning.shutil", killed, out="first", force=True)
    assert all(torch.equal(weight, before[name]) for name, weight in octavo.load(first)[0].state_dict().items())
    with pytest.raises(RunError, match="the text is not the one that was learned from, in first; bring that back"):
        training.resume(first, Asked())


def test_what_is_repeated_goes_on_from_its_model_as_it_is(first: Path) -> None:
    base = on(steps=4).config
    shorter = training.begin(["other.txt"], Asked(context=16), out="shorter", base=base)
    assert (shorter.config.window, shorter.config.model) == (16, base.model)
    for asked, line in (
        (Asked(context=64), "--context is 64; the model sees 32 tokens; ask for less"),
        (Asked(layers=3), "--layers is the model's own with --from, 2; leave it out"),
    ):
        with pytest.raises(ConfigError, match=line):
            training.begin(["other.txt"], asked, out="again", base=base)


def test_what_went_on_from_itself_cannot_be_repeated(first: Path) -> None:
    list(training.begin(["other.txt"], Asked(start="first", steps=4, batch=4), out="first", force=True).events())
    line = (
        r"^--config first/octavo\.toml began with weights of its own folder, which it has learned over since; "
        "give --from first to go on from these$"
    )
    with pytest.raises(ConfigError, match=line):
        read_base(Path("first/octavo.toml"))
    list(on(steps=4).events())
    base = read_base(Path("run/octavo.toml"))
    assert base is not None and base.train.start == "first"


def test_it_ends_with_what_ended_the_model_although_it_is_killed_before_it_has_weights() -> None:
    octavo.train("text.txt", out="first", steps=4, eval_every=2, tokenizer="bpe", vocab_size=300, **TINY)
    named = Path("first/generation_config.json")
    named.write_text(json.dumps({**json.loads(named.read_text()), "eos_token_id": [256, 65]}))
    trainer = on(steps=4)
    ends = trainer.prepared.tokenizer.ends
    assert 65 in ends and trainer.claim is not None
    trainer.claim.release()
    list(training.resume(Path("run"), Asked()).events())
    assert octavo.load("run")[1].ends == ends and octavo.load("first")[1].ends == ends


def test_rows_are_shorter_than_a_context_that_sees_far(monkeypatch: pytest.MonkeyPatch, first: Path) -> None:
    monkeypatch.setattr("octavo.shapes.WINDOW", 8)
    trainer = on(steps=4)
    assert (trainer.config.window, trainer.config.model.context) == (8, 32)
    list(trainer.events())
    assert octavo.load("run")[0].config.context == 32
    lines = Path("run/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["tokens"] == 4 * 8


def test_a_gguf_file_is_a_beginning_too(first: Path) -> None:
    model, tokenizer = octavo.load(first)
    save_gguf(model, tokenizer, "first.gguf")
    list(on(steps=4, start="first.gguf").events())
    assert losses("run")[0] < 1.5


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dialect": "gpt2"}, "--dialect is the model's own with --from, modern; leave it out"),
        ({"layers": 3}, "--layers is the model's own with --from, 2; leave it out"),
        ({"tokenizer": "bpe"}, "--tokenizer and --vocab-size are the model's own with --from; leave them out"),
        ({"context": 64}, "--context is 64; the model sees 32 tokens, the text has .*; ask for less"),
    ],
)
def test_what_the_model_has_already_cannot_be_asked_for(asked: dict[str, Any], message: str, first: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        on(**asked)


def test_a_beginning_that_is_none_is_refused(first: Path) -> None:
    with pytest.raises(RunError, match="no run nowhere; "):
        on(start="nowhere")
    base = on(steps=4).config
    with pytest.raises(ConfigError, match="--config repeats a training, with what it began from; leave --from out"):
        training.begin(["other.txt"], Asked(start="first"), out="again", base=base)
    again = training.begin(["other.txt"], Asked(), out="again", base=base)
    assert again.config.train.start == "first" and steps_saved(Path("again")) == [0]
