"""Documents drawn by lot: which of them are for which part, and in which order they follow one another there.

The order is the same for every training, whatever its seed, so that seeds can be compared on one validation text.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octavo.data.batches import permuted, put_back
from octavo.data.parts import ROW, WITH_DOCUMENTS, PartWriter
from octavo.data.survey import Piece, Progress, Reader
from octavo.errors import TextError
from octavo.randomness import seed_for

AT_ONCE = 4096  # documents whose lots are drawn together
HELD_OUT = 20  # one document of so many is for validation, and one for the test


@dataclass(frozen=True)
class Lots:
    """The lots of `drawn` documents: from `val` and `test` on for these parts; what follows keeps its place."""

    drawn: int
    documents: int
    val: int
    test: int

    @classmethod
    def of(cls, drawn: int, documents: int, split: float | None) -> "Lots":
        """Lots for the first `drawn` documents; those behind them, a validation text of its own, are not drawn.

        Raises `TextError` where there are too few to draw from.
        """
        if documents > drawn:
            return cls(drawn, documents, drawn, documents)
        least = 3 if split is None else 2
        if drawn < least:
            raise TextError(
                f"parts cannot be drawn from so few documents ({drawn}, it takes {least}); leave --shuffle or "
                "--config out, or put each document in a file or a line of JSON of its own"
            )
        if split is not None:
            return cls(drawn, documents, min(max(1, int(split * drawn)), drawn - 1), drawn)
        share = max(1, drawn // HELD_OUT)
        return cls(drawn, documents, drawn - 2 * share, drawn - share)

    def parts(self, places: np.ndarray) -> np.ndarray:
        """The part that each place in the new order is in."""
        return np.searchsorted([self.val, self.test], places, side="right")

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Where documents come to stand that had these numbers."""
        return self._drawn(numbers, permuted)

    def numbers(self, places: np.ndarray) -> np.ndarray:
        """Which documents come to stand in these places."""
        return self._drawn(places, put_back)

    def _drawn(self, found: np.ndarray, draw: Callable[[np.ndarray, int, int], np.ndarray]) -> np.ndarray:
        found = found.copy()
        among = found < self.drawn
        found[among] = draw(found[among], self.drawn, seed_for("documents"))
        return found

    def training(self, reader: Reader) -> Iterator[Piece]:
        """The pieces of the documents that are for training, as they come."""
        block, wanted = -1, []
        for piece in reader:
            if reader.documents // AT_ONCE != block:
                block = reader.documents // AT_ONCE
                numbers = np.arange(block * AT_ONCE, (block + 1) * AT_ONCE)
                wanted = (self.parts(self.places(numbers)) == 0).tolist()
            if wanted[reader.documents % AT_ONCE]:
                yield piece


def gather(stage: Path, dtype: np.dtype[Any], lots: Lots, writers: Sequence[PartWriter], progress: Progress) -> None:
    """Write the documents of `stage` in the order of their lots, but for what the writers have from an earlier attempt.

    A document is copied stretch by stretch, and where each lies is found in the rows on the disk.
    """
    rows = np.memmap(stage / "all.rows", ROW, "r").reshape(-1, WITH_DOCUMENTS)
    done = [writer.characters for writer in writers]
    with (stage / "all.bin").open("rb") as tokens:
        for part, stretch in _stretches(rows, lots):
            length, characters, size, hidden, ends = (
                int(value) for value in rows[stretch] - rows[stretch - 1] * (stretch > 0)
            )
            if done[part] > 0:
                done[part] -= characters
            else:
                tokens.seek(int(rows[stretch, 0] - length) * dtype.itemsize)
                writers[part].write(np.fromfile(tokens, dtype, length), characters, size, hidden, ends=bool(ends))
            progress.advance(size)


def _stretches(rows: np.ndarray, lots: Lots) -> Iterator[tuple[int, int]]:
    """The part and the row of every stretch of text between two rows, in the order of the lots."""
    ended = rows[:, -1]
    for start in range(0, lots.documents, AT_ONCE):
        places = np.arange(start, min(start + AT_ONCE, lots.documents))
        for part, number in zip(lots.parts(places).tolist(), lots.numbers(places).tolist(), strict=True):
            first = bisect_left(ended, number) + 1 if number else 0
            for stretch in range(first, bisect_left(ended, number + 1) + 1):
                yield part, stretch
