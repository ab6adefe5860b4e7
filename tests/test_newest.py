"""A run that is served while it is still in training: what is asked now is answered with the weights written last."""

import gc
import json
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import torch

import octavo
from octavo import toml
from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.model import GPT
from octavo.sampling import Sampling
from octavo.server.engine.engine import BusyError
from octavo.server.engine.sequence import Request
from octavo.server.gate import Rules
from octavo.server.models import open_served
from octavo.server.service import settle
from octavo.tokenizers import SimpleTokenizer
from test_server import Running
from texts import sentences

SPELLING = SimpleTokenizer(sentences(30))
SHAPE = {"context": 64, "layers": 1, "heads": 2, "width": 16, "tied": False}
ASKED = {"prompt": "Ada ", "max_tokens": 24, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def models(random_model: Callable[..., GPT]) -> list[GPT]:
    """What two steps of a training may come to."""
    config = ModelConfig(dialect="modern", vocab_size=SPELLING.vocab_size, **SHAPE)
    return [random_model(config, dtype=torch.float32, seed=seed) for seed in (1, 2)]


@pytest.fixture
def running(models: list[GPT], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr("octavo.server.models.QUIET", 1)
    octavo.save(models[0], SPELLING, tmp_path / "ada")
    (tmp_path / "ada" / toml.NAME).touch()
    service = Running(Rules(), served=[open_served(tmp_path / "ada", "ada", bitwise=True)])
    yield service
    service.stop()


def written(running: Running, tokens: int = 24) -> str:
    status, content = running.call("POST", "/v1/completions", {**ASKED, "max_tokens": tokens})
    assert status == 200, content
    text: str = json.loads(content)["choices"][0]["text"]
    return text


def streamed(connection: HTTPConnection) -> Iterator[str]:
    """A text that never ends, piece by piece."""
    body = json.dumps({**ASKED, "max_tokens": 100_000, "stream": True})
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    for line in connection.getresponse():
        if line.startswith(b"data: {"):
            yield from (choice["text"] for choice in json.loads(line[6:])["choices"])


def test_better_weights_answer_as_soon_as_they_are_written(models: list[GPT], running: Running, tmp_path: Path) -> None:
    old, first = running.models.find("ada"), written(running, 200)
    assert written(running, 200) == first and running.models.find("ada") is old
    with closing(HTTPConnection("127.0.0.1", running.port, timeout=20)) as connection:
        stream = streamed(connection)
        text = next(stream)
        octavo.save(models[1], SPELLING, tmp_path / "ada")
        second = written(running)
        text += "".join(next(stream) for _ in range(200))  # it goes on as it began
        assert old.engine.load().active == 1 and text[: len(first)] == first
        assert second != first[: len(second)] and running.models.find("ada").engine.load().written == 24
    end = time.monotonic() + 60
    while old.engine in running.models._leaving and time.monotonic() < end:
        time.sleep(0.02)
    late = Request(prompt=(1,), sampling=Sampling(), max_new_tokens=1, stop=())
    with pytest.raises(BusyError, match="newer weights have come meanwhile; try again"):
        old.engine.submit([late], lambda number, said: None)
    assert written(running) == second


@pytest.fixture
def settled() -> Iterator[None]:
    """The interpreter as it is while a service runs."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    settle()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def test_weights_that_were_replaced_are_let_go_though_nobody_looks_for_them(
    models: list[GPT], running: Running, settled: None, tmp_path: Path
) -> None:
    assert gc.get_freeze_count() > 0
    engine = weakref.ref(running.models.find("ada").engine)
    written(running)
    octavo.save(models[1], SPELLING, tmp_path / "ada")
    written(running)
    end = time.monotonic() + 60
    while engine() is not None and time.monotonic() < end:
        time.sleep(0.02)
    assert engine() is None


def test_weights_that_cannot_be_read_leave_those_that_are_there(
    models: list[GPT], running: Running, tmp_path: Path
) -> None:
    first = written(running)
    (tmp_path / "ada" / "model.safetensors").write_bytes(b"no weights")
    assert written(running) == written(running) == first
    octavo.save(models[1], SPELLING, tmp_path / "ada")
    assert written(running) != first
    shutil.rmtree(tmp_path / "ada")
    assert running.call("POST", "/v1/completions", ASKED)[0] == 200
    told = [line for line in running.lines if line.startswith("ada goes on with the weights it has: ")]
    assert len(told) == 2 and "model.safetensors" in told[0]  # once for each time that they changed


def test_weights_that_a_gpu_has_no_room_for_leave_those_that_are_there(
    models: list[GPT], running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    first = written(running)
    with monkeypatch.context() as small:
        small.setattr("octavo.server.models.Engine", full)
        octavo.save(models[1], SPELLING, tmp_path / "ada")
        assert written(running) == written(running) == first
        with pytest.raises(ConfigError, match="ada and its copy do not fit into the memory of the GPU; give"):
            open_served(tmp_path / "ada", "ada")
    octavo.save(models[1], SPELLING, tmp_path / "ada")
    assert written(running) != first


def test_what_is_no_run_is_not_read_again(models: list[GPT], tmp_path: Path) -> None:
    octavo.save(models[0], SPELLING, tmp_path / "ada")
    assert open_served(tmp_path / "ada", "ada").again is None
