"""Reports that cannot be made, and where they are made while their run is in training."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from test_learning import Room

NO_ROOM = "CUDA out of memory. Tried to allocate 2 GiB"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.stop()


def told(room: Room) -> tuple[int, Any]:
    """What is said of the report once it is made, or has failed."""
    while (found := room.ask("GET", "/page/report"))[1].get("ready") is False:
        time.sleep(0.01)
    return found


def test_a_report_that_failed_says_why_and_has_another_try(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [RuntimeError(f"{NO_ROOM}.\nGPU 0 has a total of 4 GiB."), MemoryError(), {"number": 1}]

    def report(run: Path, **words: Any) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return SimpleNamespace(to_dict=lambda: outcome)

    monkeypatch.setattr("octavo.report.report", report)
    for reason in (NO_ROOM, "MemoryError"):
        status, said = told(room)
        sentence = f"the report could not be made: {reason}; ask for it again to have another try"
        assert status == 500 and said["error"]["message"] == sentence
    status, said = told(room)
    assert status == 200 and said["report"] == {"number": 1}


def test_the_page_of_a_training_leaves_the_gpu_to_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(run: Path, device: str, **words: Any) -> Any:
        return SimpleNamespace(to_dict=lambda: {"made on": device})

    monkeypatch.setattr("octavo.report.report", report)
    assert told(room)[1]["report"] == {"made on": "cpu"}
