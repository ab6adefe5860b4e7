"""The logs of a run, one JSON object a line: `metrics.jsonl` (figures) and `samples.jsonl` (what the model writes)."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from octavo.disk import saving, write_file
from octavo.figure import Series, line_chart


class Journal:
    """Writes a run's logs line by line, and cuts them back to a step that is gone on from."""

    def __init__(self, run: Path) -> None:
        self.paths = {name: run / f"{name}.jsonl" for name in ("metrics", "samples")}
        self._files: dict[str, IO[str]] = {}
        self._written: Counter[str] = Counter()  # bytes since the last sync

    def metrics(self, line: Mapping[str, Any]) -> None:
        """Log one step's figures."""
        self._write("metrics", line)

    def sample(self, line: Mapping[str, Any]) -> None:
        """Log one sample of the model's text."""
        self._write("samples", line)

    def _write(self, name: str, line: Mapping[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False) + "\n"
        self._written[name] += len(text.encode())
        with saving(self.paths[name], self._written[name]):
            if name not in self._files:
                self._files[name] = self.paths[name].open("a", encoding="utf-8")
            self._files[name].write(text)

    def sync(self) -> None:
        """Bring to the disk what was logged so far."""
        for name, file in self._files.items():
            with saving(self.paths[name], self._written[name]):
                file.flush()
                os.fsync(file.fileno())
            self._written[name] = 0

    def read(self, name: str = "metrics") -> list[dict[str, Any]]:
        """All lines logged so far; one that was cut off in the middle ends the log."""
        self.sync()
        return [line for _, line in self._lines(name)]

    def _lines(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        lines: list[tuple[str, dict[str, Any]]] = []
        if not self.paths[name].is_file():
            return lines
        for text in self.paths[name].read_text("utf-8", errors="replace").splitlines(keepends=True):
            try:
                lines.append((text, json.loads(text)))
            except ValueError:
                break
        return lines

    def picture(self) -> str:
        """The losses so far, as a picture in SVG."""
        lines = self.read()
        train = Series("training", [(line["step"], line["train_loss"]) for line in lines])
        val = Series("held out", [(line["step"], line["val_loss"]) for line in lines if "val_loss" in line])
        return line_chart([train.smoothed(), val], x="step", y="loss (nats per token)")

    def cut(self, step: int) -> None:
        """Forget what was logged after this step."""
        self.close()
        for name, path in self.paths.items():
            if path.is_file():
                write_file(path, "".join(text for text, line in self._lines(name) if line["step"] <= step))

    def close(self) -> None:
        """Close the files; they open again at the next line."""
        while self._files:
            name, file = self._files.popitem()
            with saving(self.paths[name], self._written.pop(name, 0)):
                file.close()
