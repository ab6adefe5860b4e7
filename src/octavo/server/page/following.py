"""Looking on while a run is trained: what is new in its logs, as events of a stream."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from octavo.server.page import records
from octavo.server.page.logs import Line, Log, evenly
from octavo.server.page.training import Training

AT_ONCE = 50  # lines of a log that are told in one look; evaluations are told always
LOOKS = 8  # until the plan is read again


class Following:
    """One person's place in the logs of a run."""

    def __init__(self, run: Path, training: Training | None, after: int | None = None) -> None:
        self.run, self.training = run, training
        self.logs = {
            "metrics": Log(run / records.METRICS, after),
            "sample": Log(run / records.SAMPLES, after),
        }
        self.told: dict[str, Any] | None = None
        self.looks = 0
        self.steps: int | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count as somebody who looks on."""
        with nullcontext() if self.training is None else self.training.watched():
            yield

    def news(self) -> list[str] | None:
        """What is to be told now; `None` where the run is gone."""
        if not self.run.is_dir():
            return None
        heard = {kind: log.news() for kind, log in self.logs.items()}
        events = [event("reset", {})] if any(cut for cut, _ in heard.values()) else []
        for kind, (_, lines) in heard.items():
            events += [event(kind, line) for line in few(lines)]
        state = self._state()
        if state != self.told:
            self.told = state
            events.append(event("state", state))
        return events

    def _state(self) -> dict[str, Any]:
        if self.looks % LOOKS == 0:
            train = records.train_settings(self.run)
            self.steps = records.planned_steps(train, records.newest_facts(self.run))
        self.looks += 1
        return {"running": records.running(self.run, self.training), "steps": self.steps}


def few(lines: list[Line]) -> list[Line]:
    """Lines of a log, thinned where many came at once; those with an evaluation or a text stay."""
    plain = [number for number, line in enumerate(lines) if "val_loss" not in line and "text" not in line]
    left_out = set(plain) - set(evenly(plain, AT_ONCE))
    return [line for number, line in enumerate(lines) if number not in left_out]


def event(kind: str, content: Line) -> str:
    """One event of a stream, with the step that it tells of as its place in it.

    >>> event("sample", {"step": 3, "text": "Ada"})
    'event: sample\\nid: 3\\ndata: {"step":3,"text":"Ada"}\\n\\n'
    """
    place = f"id: {content['step']}\n" if isinstance(content.get("step"), int) else ""
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"event: {kind}\n{place}data: {data}\n\n"
