"""What a command asks for is done, and not only read: its flags reach the text, the model and the service."""

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import octavo
from octavo import toml
from octavo.cli.demo import TOKENS
from octavo.config import ModelConfig
from octavo.data import corpora
from octavo.data.wheels import Wheel
from octavo.model import GPT
from octavo.server.models import Models
from octavo.tokenizers import SimpleTokenizer
from test_corpora import corpus_of
from texts import sentences

TINY = ["--steps", "4", "--layers", "1", "--heads", "1", "--width", "16", "--context", "8", "--batch", "2"]
TOKENIZER = SimpleTokenizer(sentences(60))
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(workplace: Path, unchecked: None) -> None:
    """A folder of its own."""


@pytest.fixture
def ada(random_model: Callable[..., GPT]) -> GPT:
    """A model that writes nonsense, but not the same nonsense all the time, and is the run ada."""
    config = ModelConfig(dialect="modern", vocab_size=TOKENIZER.vocab_size, context=64, layers=1, heads=2, width=16)
    model = random_model(config, deviation=0.5, dtype=torch.float32)
    octavo.save(model, TOKENIZER, "runs/ada")
    return model


def test_a_demo_trains_on_its_corpus_and_completes_three_prompts_greedily_and_drawn(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "ROMEO: What is love?\nThe king " + sentences(400)
    Path("book.txt").write_text(text)  # which is looked for here before it is fetched
    monkeypatch.setitem(corpora.CORPORA, "shakespeare", corpus_of(Wheel("nowhere", "1.0", "0" * 64), text.encode()))
    monkeypatch.setattr(sys, "stdin", None)  # as it is where it was closed: nobody is asked
    status, output, errors = said("demo", "--minutes", "0.02", "--seed", "3")
    assert status == 0, errors
    settings = Path("runs/shakespeare-1/octavo.toml").read_text()
    assert all(line in settings for line in ("minutes = 0.02", "seed = 3", "split = 0.9", 'dialect = "modern"'))
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    shown = [part.split(" ──\n", 1) for part in output.split("\n── ")[1:]]
    assert [f"── {name} ──" for name, _ in shown] == [line for line in readme.splitlines() if line.startswith("── ")]
    model, tokenizer = octavo.load("runs/shakespeare-1")
    for name, written in shown:
        _, prompt, how = name.split("'")
        words: dict[str, Any] = {"temperature": 0.0 if how == ", greedy" else 0.8, "seed": 1}
        [done] = octavo.completions(model, tokenizer, prompt, max_new_tokens=TOKENS, **words)
        assert written == f"{prompt}{done.text}\n"


def test_a_text_ends_at_a_stop_text_as_the_library_ends_it(said: Said, ada: GPT) -> None:
    words: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0}
    asked = ("generate", "ada", "Ada ", "--max-new-tokens", "40", "--temperature", "0")
    [whole] = octavo.completions(ada, TOKENIZER, "Ada ", **words)
    for stops in ([whole.text[9:11]], ["never written", whole.text[4:7]]):
        [done] = octavo.completions(ada, TOKENIZER, "Ada ", **words, stop=stops)
        assert done.finish_reason == "stop" and 0 < len(done.text) < len(whole.text)
        flags = [word for stop in stops for word in ("--stop", stop)]
        assert said(*asked, *flags)[1] == f"Ada {done.text}\n"  # as it is being written
        assert json.loads(said(*asked, *flags, "--json")[1])["text"] == done.text


def test_a_text_that_goes_on_is_drawn_at_a_temperature_of_eight_tenths(said: Said, ada: GPT) -> None:
    usual, same, other = (
        said("generate", "ada", "Ada ", *words)[1] for words in ((), ("--temperature", "0.8"), ("--temperature", "0.3"))
    )
    assert usual == same != other


def test_a_service_is_bitwise_where_that_is_asked_for_also_with_newer_weights(
    said: Said, ada: GPT, monkeypatch: pytest.MonkeyPatch
) -> None:
    bitwise: list[bool] = []

    def serve(models: Models, rules: object, at: socket.socket, log: object) -> None:
        at.close()
        served = models.find("ada")
        assert served.again is not None
        bitwise.extend(one.engine.runner.bitwise for one in (served, served.again()))

    Path("runs/ada", toml.NAME).touch()  # of a training, whose weights are opened again
    monkeypatch.setattr("octavo.server.service.serve", serve)
    for flags in ((), ("--bitwise",)):
        assert said("serve", "ada", "--port", "0", *flags)[0] == 0
    assert bitwise == [False, False, True, True]


def test_a_training_goes_on_with_another_text_only_where_that_is_allowed(said: Said) -> None:
    said("train", "text.txt", *TINY)
    Path("text.txt").write_text(sentences(200, seed=1))
    goes_on = ("train", "--resume", "text-1", "--steps", "6")
    status, output, errors = said(*goes_on)
    assert (status, output) == (2, "") and errors.splitlines()[-1] == (
        "octavo: the text is not the one that was learned from, in runs/text-1; "
        "bring that back, or go on all the same with --allow-mismatch"
    )
    status, _, errors = said(*goes_on, "--allow-mismatch")
    assert status == 0 and "the text is not the one that was learned from: going on all the same" in errors
    assert "finished after 6 steps" in errors


def test_documents_are_shuffled_where_that_is_asked_for(said: Said) -> None:
    lines = [json.dumps({"text": sentences(5, seed=number)}) for number in range(30)]
    Path("many.jsonl").write_text("\n".join(lines))
    for name, flags in (("plain", ()), ("drawn", ("--shuffle", "documents"))):
        assert said("train", "many.jsonl", *TINY, *flags, "--out", name)[0] == 0
        assert ('shuffle = "documents"' in Path(name, "octavo.toml").read_text()) == (name == "drawn")
    shape = {"steps": 4, "layers": 1, "heads": 1, "width": 16, "context": 8, "batch": 2}
    octavo.train("many.jsonl", out="library", shuffle="documents", **shape)
    plain, drawn, library = (Path(name, "model.safetensors").read_bytes() for name in ("plain", "drawn", "library"))
    assert plain != drawn == library
