"""The head of a GGUF file: its settings, and where its tensors stand. Nothing in it is believed before it is checked.

Every count is held against the bytes that are left, so that no file is read for longer than it is long. What takes more
memory than it takes in the file, names and texts, is held against what a model can have besides.
"""

import mmap
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from octavo.errors import DamagedError, RunError

MAGIC, VERSIONS = b"GGUF", (2, 3)
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
BOOL, STRING, ARRAY = 7, 8, 9
PACKED = {**NUMBERS, BOOL: "B"}  # as they stand in an array
THINGS = 1 << 16  # tensors, or settings
TEXTS = 1 << 21  # in all arrays together: about three times the tokens and merges of the largest vocabularies
NAME_BYTES = 65_535
DIMENSIONS = 4
ALIGNMENT, ALIGNMENT_KEY = 32, "general.alignment"


@dataclass(frozen=True)
class Stored:
    """A tensor as it stands in the file: its kind, its shape with the outermost axis first, its first byte and size."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    settings: Mapping[str, Any]
    tensors: Mapping[str, Stored]


def read_header(path: Path) -> Header:
    """Read and check the head of a file.

    Raises `DamagedError`, with what is wrong and where, and `RunError` if the file is of another kind altogether.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content, path).header()
    except RunError:  # which is a ValueError too
        raise
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise DamagedError(f"{path} cannot be read as GGUF: {error}") from error


class _Reader:
    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self.content, self.path, self.at = content, path, 0
        self.texts = TEXTS  # that may still come

    def header(self) -> Header:
        if not MAGIC.startswith(self.content[:4]):
            raise RunError(f"{self.path} is no GGUF file, for it does not begin with GGUF; give another")
        self.take(4)
        version = self.number("I")
        if version not in VERSIONS:
            raise self.wrong(f"it is of version {version}; octavo reads {' and '.join(map(str, VERSIONS))}")
        tensors = self.count("tensors", least=24, most=THINGS)
        settings = self.count("settings", least=13, most=THINGS)
        told: dict[str, Any] = {}
        for _ in range(settings):
            name = self.name(told)
            told[name] = self.value(self.number("I"))
        infos: dict[str, Stored] = {}
        for _ in range(tensors):
            name = self.name(infos)
            infos[name] = self.info()
        return Header(told, self.placed(infos, told.get(ALIGNMENT_KEY, ALIGNMENT)))

    def wrong(self, what: str) -> DamagedError:
        return DamagedError(f"{self.path} is damaged at byte {self.at}: {what}")

    def take(self, size: int) -> bytes:
        if size > len(self.content) - self.at:
            raise self.wrong(f"{size} bytes are announced and {len(self.content) - self.at} are left")
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def count(self, what: str, *, least: int, most: int | None = None) -> int:
        """A number of things that take so many bytes each, at least; a model has so many, at most."""
        count = self.number("Q")
        if count * least > len(self.content) - self.at:
            raise self.wrong(f"{count} {what} do not fit into what is left of the file")
        if most is not None and count > most:
            raise self.wrong(f"{count} {what} are more than any model has")
        return int(count)

    def text(self) -> str:
        raw = self.take(self.count("bytes", least=1))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.wrong("a text is not UTF-8") from None

    def name(self, taken: Mapping[str, Any]) -> str:
        name = self.text()
        if not 0 < len(name) <= NAME_BYTES or not name.isprintable():
            raise self.wrong("a name is empty, too long or not printable")
        if name in taken:
            raise self.wrong(f"{name} is there twice")
        return name

    def value(self, kind: int) -> Any:
        if kind != ARRAY:
            return self.single(kind)
        kind = self.number("I")
        if kind in PACKED:
            size = struct.calcsize(f"<{PACKED[kind]}")
            return array(PACKED[kind], self.take(self.count("numbers", least=size) * size))
        if kind != STRING:
            raise self.wrong(f"an array of kind {kind} is none that octavo reads")
        count = self.count("texts", least=8, most=self.texts)
        self.texts -= count
        return [self.text() for _ in range(count)]

    def single(self, kind: int) -> Any:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.text()
        if kind == BOOL:
            return self.number("B") != 0
        raise self.wrong(f"a value of kind {kind} is none that GGUF has")

    def info(self) -> Stored:
        dimensions = self.number("I")
        if not 1 <= dimensions <= DIMENSIONS:
            raise self.wrong(f"a tensor has {dimensions} dimensions")
        shape = tuple(int(self.number("Q")) for _ in range(dimensions))
        number, offset = self.number("I"), int(self.number("Q"))
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise self.wrong(f"a tensor is of kind {number}, which is not known") from None
        block, size = GGML_QUANT_SIZES[kind]
        if not all(0 < length <= len(self.content) * block for length in shape) or shape[0] % block:
            raise self.wrong(f"a tensor of {kind.name} has the shape {shape}, which no file has")
        return Stored(kind, shape[::-1], offset, prod(shape) // block * size)

    def placed(self, infos: Mapping[str, Stored], alignment: Any) -> dict[str, Stored]:
        """The tensors with their places in the file: in it, aligned, and none over another."""
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 16 or alignment & (alignment - 1):
            raise self.wrong(f"{ALIGNMENT_KEY} is {alignment!r}; it is a power of two up to 65536")
        begin = -(-self.at // alignment) * alignment
        placed = {name: Stored(info.kind, info.shape, begin + info.offset, info.size) for name, info in infos.items()}
        end = begin
        for name, info in sorted(placed.items(), key=lambda item: item[1].offset):
            if info.offset % alignment or info.offset < end:
                raise self.wrong(f"{name} stands at byte {info.offset}, over another or not aligned")
            end = info.offset + info.size
            if end > len(self.content):
                raise self.wrong(f"{name} ends at byte {end}, and the file at {len(self.content)}")
        return placed
