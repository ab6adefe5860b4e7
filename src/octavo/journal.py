"""The logs of a run, one JSON object a line: `metrics.jsonl` (figures) and `samples.jsonl` (what the model writes)."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import IO, Any

from octavo.disk import saving, write_file
from octavo.events import Stepped
from octavo.figure import Series, line_chart

Point = tuple[int, float, float | None]  # a step, its training loss, and the held-out one where it was looked at


def point(line: Mapping[str, Any]) -> Point:
    """What the picture shows of a line of metrics."""
    return line["step"], line["train_loss"], line.get("val_loss")


def logged(stepped: Stepped) -> dict[str, Any]:
    """The line of `metrics.jsonl` that a step is worth."""
    return {name: value for name, value in asdict(stepped).items() if name not in ("steps", "remaining")}


class Journal:
    """Writes a run's logs line by line, and cuts them back to a step that is gone on from."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.paths = {name: run / f"{name}.jsonl" for name in ("metrics", "samples")}
        self._files: dict[str, IO[str]] = {}
        self._written: Counter[str] = Counter()  # bytes since the last sync
        self._curve: list[Point] | None = None  # what the picture shows; read once, for a log grows long

    def metrics(self, line: Mapping[str, Any]) -> None:
        """Log one step's figures."""
        if self._curve is not None:
            self._curve.append(point(line))
        self._write("metrics", line)

    def sample(self, line: Mapping[str, Any]) -> None:
        """Log one sample of the model's text."""
        self._write("samples", line)

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        self._written[name] += len(text.encode())
        with saving(self.paths[name], self._written[name]):
            if name not in self._files:
                # by lines, for whoever follows a training sees each of them whole and at once
                self._files[name] = self.paths[name].open("a", buffering=1, encoding="utf-8")
            self._files[name].write(text)

    def sync(self) -> None:
        """Bring to the disk what was logged so far."""
        for name, file in self._files.items():
            with saving(self.paths[name], self._written[name]):
                file.flush()
                os.fsync(file.fileno())
            self._written[name] = 0

    def finish(self) -> None:
        """Bring to the disk what was logged so far, and the picture of it."""
        write_file(self.run / "loss.svg", self.picture())
        self.sync()

    def read(self, name: str = "metrics") -> list[dict[str, Any]]:
        """All lines logged so far; one that was cut off in the middle ends the log."""
        self.sync()
        return [line for _, line in self._lines(name)]

    def _lines(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        lines: list[tuple[str, dict[str, Any]]] = []
        if not self.paths[name].is_file():
            return lines
        # a sample may hold other characters that end a line for Python
        with self.paths[name].open(encoding="utf-8", errors="replace", newline="\n") as file:
            for text in file:
                try:
                    lines.append((text, json.loads(text)))
                except ValueError:
                    break
        return lines

    def picture(self) -> str:
        """The losses so far, as a picture in SVG."""
        if self._curve is None:
            self._curve = [point(line) for line in self.read()]
        train = Series("training", [(step, loss) for step, loss, _ in self._curve if isfinite(loss)])
        looks = [(step, held_out) for step, _, held_out in self._curve if held_out is not None]
        val = Series("held out", [(step, held_out) for step, held_out in looks if isfinite(held_out)])
        return line_chart([train.smoothed(), val], x="step", y="loss (nats per token)")

    def cut(self, step: int) -> None:
        """Forget what was logged after this step; a log of which nothing is cut stays as it is, and as old."""
        self.close()
        self._curve = None
        for name, path in self.paths.items():
            if path.is_file():
                kept = "".join(text for text, line in self._lines(name) if line["step"] <= step)
                if len(kept.encode()) != path.stat().st_size:
                    write_file(path, kept)

    def close(self) -> None:
        """Close the files; they open again at the next line."""
        while self._files:
            name, file = self._files.popitem()
            with saving(self.paths[name], self._written.pop(name, 0)):
                file.close()


class Unwritten(Journal):
    """The logs of a run, in a process that is not the one that writes them."""

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        """Leave it to the other."""

    def finish(self) -> None:
        """Leave it to the other."""

    def cut(self, step: int) -> None:
        """Leave it to the other."""
