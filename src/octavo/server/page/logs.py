"""Reading the logs of a run while it writes them: only whole lines, never too much of them, cuts noticed."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

POINTS = 2000  # lines that a whole log is told in, at most
LONGEST = 1 << 20  # bytes of a line; a longer one is none of ours
CHUNK = 4 << 20  # bytes read at once
REMEMBERED = 256  # bytes before the place that was read up to, by which a log that was rewritten is known
EVALUATION = b'"val_loss"'
Line = dict[str, Any]


def parsed(text: bytes) -> Line | None:
    """A line of a log as JSON has it; nothing for one that is no object. What is no number is null.

    >>> parsed(b'{"step": 3, "train_loss": NaN}')
    {'step': 3, 'train_loss': None}
    """
    with suppress(ValueError, RecursionError):
        line = json.loads(text, parse_constant=lambda _: None)
        if isinstance(line, dict):
            return {name: _finite(value) for name, value in line.items()}
    return None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def history(path: Path, points: int = POINTS) -> list[Line]:
    """All lines of a log, or so many of them from its beginning to its end, with every evaluation that has room."""
    try:
        kinds = [EVALUATION in text for text in _whole_lines(path)]
        kept = _chosen(kinds, points)
        lines = [parsed(text) for number, text in enumerate(_whole_lines(path)) if number in kept]
    except OSError:  # not there yet, or not any more
        return []
    return [line for line in lines if line is not None]


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while text := file.readline(LONGEST):
            if text.endswith(b"\n"):
                yield text


def _chosen(kinds: list[bool], points: int) -> set[int]:
    """The numbers of the lines to keep: the last one, evaluations before others, evenly spread where room is short."""
    evaluations = [number for number, evaluated in enumerate(kinds) if evaluated]
    others = [number for number, evaluated in enumerate(kinds) if not evaluated]
    first = evenly(evaluations, points // 2 if len(others) > points // 2 else points - len(others))
    return {*first, *evenly(others, points - len(first))}


def evenly(values: list[Any], count: int) -> list[Any]:
    """So many of some values at most, from the first to the last.

    >>> evenly([0, 1, 2, 3, 4, 5, 6], 3), evenly([1, 2], 3)
    ([0, 3, 6], [1, 2])
    """
    if len(values) <= count:
        return values
    return [values[round(index * (len(values) - 1) / max(1, count - 1))] for index in range(count)]


class Log:
    """A log that is followed from its present end on, or from the first step `after` which there is news."""

    def __init__(self, path: Path, after: int | None = None) -> None:
        self.path, self.place, self.before = path, 0, b""
        self.after = -1
        with suppress(OSError):
            size = path.stat().st_size
            self._begin(size if after is None else max(0, size - CHUNK))
        if after is not None:
            self.after = after

    def _begin(self, place: int) -> None:
        """Stand behind the last whole line up to a place."""
        with self.path.open("rb") as file:
            file.seek(max(0, place - LONGEST))
            start, text = file.tell(), file.read(min(place, LONGEST))
        self.before = b""
        self._stand(start + text.rfind(b"\n") + 1, text[: text.rfind(b"\n") + 1])

    def _stand(self, place: int, text: bytes) -> None:
        self.place, self.before = place, (self.before + text)[-REMEMBERED:] if text else b""

    def news(self) -> tuple[bool, list[Line]]:
        """Whether the log was cut or written anew since last time, and the whole lines that came."""
        try:
            return self._read()
        except OSError:
            gone = self.place > 0
            self._stand(0, b"")
            return gone, []

    def _read(self) -> tuple[bool, list[Line]]:
        with self.path.open("rb") as file:
            file.seek(self.place - len(self.before))
            if file.read(len(self.before)) != self.before:
                self._begin(os.fstat(file.fileno()).st_size)
                self.after = -1
                return True, []
            text = file.read(CHUNK)
        whole = text[: text.rfind(b"\n") + 1] or (text if len(text) >= LONGEST else b"")
        if whole:
            self._stand(self.place + len(whole), whole)
        lines = (parsed(line) for line in whole.split(b"\n"))
        return False, [line for line in lines if line is not None and self._later(line)]

    def _later(self, line: Line) -> bool:
        step = line.get("step")
        return self.after < 0 or (isinstance(step, int) and step > self.after)
