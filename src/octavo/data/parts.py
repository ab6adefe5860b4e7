"""The tokens of one part of a text, on the disk and mapped from there, and how much text stands behind them."""

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from octavo.errors import DamagedError

PARTS = ("train", "val", "test")
COUNTS = 4  # in a row: tokens, characters, bytes, bytes behind unknown tokens, all from the beginning of the part
WITH_DOCUMENTS = 5  # and how many documents have ended, where these will be put into another order
ROW = np.dtype("<i8")
HASH = 32  # bytes of a sha256
SPACING = 8192  # characters between two rows, at least
SAFE = 1 << 24  # tokens between two visits to the disk
VALIDATION_TOKENS = 500_000  # read at each evaluation: the loss is then known to about 0.002 nats


@dataclass(frozen=True, eq=False)
class Part:
    """The tokens of the training, validation or test text, and its size: `unknown_bytes` of `bytes` hide in `<unk>`."""

    tokens: np.ndarray
    characters: int
    bytes: int
    unknown_bytes: int
    rows: np.ndarray  # (places, 4): what has come before each place where the part can be cut

    def head(self, tokens: int) -> "Part":
        """The beginning of the part: as many whole pieces as fit into this many tokens, but at least one."""
        if tokens >= len(self.tokens):
            return self
        count = max(1, int(np.searchsorted(self.rows[:, 0], tokens, side="right")))
        return part_of(self.tokens, self.rows[:count])


def part_of(tokens: np.ndarray, rows: np.ndarray) -> Part:
    """The part that ends with the last of these rows."""
    count, characters, size, unknown = (int(value) for value in rows[-1]) if len(rows) else (0, 0, 0, 0)
    return Part(tokens[:count], characters, size, unknown, rows)


def open_part(folder: Path, name: str, dtype: np.dtype[Any]) -> Part:
    """Map a part that was written before; raises `DamagedError` where its two files do not fit together."""
    rows = _mapped(folder / f"{name}.rows", ROW)
    size = (folder / f"{name}.bin").stat().st_size
    if len(rows) % COUNTS or size != (int(rows[-COUNTS]) if len(rows) else 0) * dtype.itemsize:
        raise DamagedError(f"{folder / name}.bin does not have as many tokens as its rows say; prepare the text again")
    return part_of(_mapped(folder / f"{name}.bin", dtype), rows.reshape(-1, COUNTS))


def _mapped(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    size = path.stat().st_size // dtype.itemsize
    return np.memmap(path, dtype, "r", shape=(size,)) if size else np.empty(0, dtype)  # nothing cannot be mapped


class PartWriter:
    """Writes a part so that it can be gone on with after an interruption, from the last row that reached the disk.

    Tokens are synced before the rows that count them are written, so the rows never promise too much. With `documents`
    there is a row wherever one ends. For each row the folder `hashes` keeps that of the text that was read so far.
    """

    def __init__(
        self, folder: Path, name: str, dtype: np.dtype[Any], *, documents: bool = False, hashes: Path | None = None
    ) -> None:
        self.dtype, self.width = dtype, WITH_DOCUMENTS if documents else COUNTS
        self.tokens, self.rows = (_open(folder / f"{name}.{end}") for end in ("bin", "rows"))
        self.hashes, self.sha256 = _open((hashes or folder) / f"{name}.hashes"), bytes(HASH)
        self.counts = self._recover()
        self.waiting: list[tuple[np.ndarray, bytes]] = []
        self.marked = int(self.counts[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._mark()
                self._save()
        finally:
            for file in (self.tokens, self.hashes, self.rows):
                file.close()

    @property
    def characters(self) -> int:
        """How many characters of the part need not be encoded again."""
        return int(self.counts[1])

    def write(
        self,
        ids: np.ndarray,
        characters: int,
        size: int,
        unknown: int,
        *,
        ends: bool = False,
        sha256: bytes = bytes(HASH),
    ) -> None:
        """Add a piece: its tokens, characters, bytes, bytes behind unknown tokens, whether a document ends with it.

        `sha256` is that of the text as far as its end.
        """
        self.sha256 = sha256
        self.tokens.write(ids.astype(self.dtype, copy=False).tobytes())
        self.counts = self.counts + np.array([len(ids), characters, size, unknown, ends][: self.width])
        if self.counts[1] - self.marked >= SPACING or (ends and self.width == WITH_DOCUMENTS):
            self._mark()
        if self.waiting and self.counts[0] - self.saved >= SAFE:
            self._save()

    def _mark(self) -> None:
        if self.counts[1] > self.marked:
            self.waiting.append((self.counts, self.sha256))
            self.marked = int(self.counts[1])

    def _save(self) -> None:
        hashes = b"".join(sha256 for _, sha256 in self.waiting)
        rows = b"".join(row.astype(ROW).tobytes() for row, _ in self.waiting)
        for file, content in ((self.tokens, b""), (self.hashes, hashes), (self.rows, rows)):
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.waiting, self.saved = [], int(self.counts[0])

    def _recover(self) -> np.ndarray:
        length = self.width * ROW.itemsize
        whole = self.rows.seek(0, os.SEEK_END) // length
        self.rows.seek(max(0, whole - 1) * length)
        last = np.frombuffer(self.rows.read(length), ROW) if whole else np.zeros(self.width, ROW)
        counts = last.astype(np.int64)
        size = int(counts[0]) * self.dtype.itemsize
        hashed = self.hashes.seek(0, os.SEEK_END) // HASH
        if self.tokens.seek(0, os.SEEK_END) < size or hashed < whole:  # not what was promised: begin again
            whole, size, counts = 0, 0, np.zeros(self.width, np.int64)
        if whole:
            self.hashes.seek((whole - 1) * HASH)
            self.sha256 = self.hashes.read(HASH)
        for file, end in ((self.rows, whole * length), (self.hashes, whole * HASH), (self.tokens, size)):
            file.truncate(end)
            file.seek(end)
        self.saved = int(counts[0])
        return counts


def _open(path: Path) -> Any:
    path.touch()
    return path.open("r+b")
