"""Packed files are unpacked while they are read: a bounded number of bytes at a time, whatever they come to."""

import os
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from octavo.errors import TextError

CHUNK = 1 << 18  # bytes read, or unpacked, at once
SIP = 256  # bytes of a zstd frame taken at once, for at its worst one of them becomes 32,768
FRAME = 18  # bytes of zstd's longest header
USUALLY = 3  # times as long as its packed form is a text


class PackedError(TextError):
    """A packed file that cannot be unpacked, or not here."""


def packing(path: Path) -> str | None:
    """How a file is packed, by the end of its name: `.zst` or `.gz`; none where it is not.

    >>> packing(Path("book.txt.zst")), packing(Path("book.txt"))
    ('.zst', None)
    """
    suffix = path.suffix.lower()
    return suffix if suffix in UNPACKED else None


def looks_packed(path: Path) -> str:
    """How a file is packed that has no name to tell it, by the bytes that it begins with: `.zst`, `.gz` or nothing."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((suffix for suffix, (_, magic) in UNPACKED.items() if start.startswith(magic)), "")


def unpacked_name(path: Path) -> Path:
    """What a file would be called if it were not packed.

    >>> unpacked_name(Path("many.jsonl.zst")).name
    'many.jsonl'
    """
    return path if packing(path) is None else path.with_suffix("")


def unpacked_size(path: Path) -> int:
    """How many bytes a file has when it is unpacked: as it says itself, else about so many.

    What was packed in several frames, or as it came through a pipe, does not say it.
    """
    size, how = path.stat().st_size, packing(path)
    if how is None:
        return size
    with path.open("rb") as file:
        start = file.read(FRAME)
        file.seek(-min(size, 4), os.SEEK_END)
        said = _said(start) if how == ".zst" else int.from_bytes(file.read(4), "little")
    return said if said >= size else USUALLY * size


def _said(start: bytes) -> int:
    """The size that a frame of zstd says it has unpacked, or nothing."""
    try:
        library = import_module("zstandard")
        return int(library.frame_content_size(start))
    except Exception:  # it is missing, or this is no frame: whoever reads it says so
        return 0


def read_bytes(path: Path, name: str) -> Iterator[bytes]:
    """Yield the bytes of a file in chunks, unpacked where it is packed.

    Raises `PackedError` where it ends too soon or is damaged, and where the package that unpacks it is missing.
    """
    how = packing(path)
    with path.open("rb") as file:
        if how is None:
            yield from iter(lambda: file.read(CHUNK), b"")
        else:
            unpacker, _ = UNPACKED[how]
            yield from _joined(_frames(file, name, unpacker(name)))


def _joined(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Small chunks together, for each costs the same to pass on, and large ones cut, for each is in memory whole."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        if len(waiting) >= CHUNK:
            yield from (bytes(waiting[start : start + CHUNK]) for start in range(0, len(waiting), CHUNK))
            waiting.clear()
    if waiting:
        yield bytes(waiting)


class Unpacker(NamedTuple):
    """What unpacks a frame, a bounded number of bytes at a time, and how many packed ones it may be given at once."""

    begin: Callable[[], Any]
    step: Callable[[Any, bytes], tuple[bytes, bytes]]  # a frame and packed bytes: what they came to, and what is left
    sip: int
    error: type[Exception]
    advice: str


def _frames(file: BinaryIO, name: str, unpacker: Unpacker) -> Iterator[bytes]:
    """Frame after frame; each has to come to its end."""
    packed = file.read(unpacker.sip)
    while packed:
        frame = unpacker.begin()
        while not frame.eof:
            packed = packed or file.read(unpacker.sip)
            try:
                content, left = unpacker.step(frame, packed)
            except unpacker.error as error:
                raise PackedError(f"{name} cannot be unpacked: {error}; {unpacker.advice}") from None
            if not (packed or content or frame.eof):
                raise PackedError(f"{name} ends in the middle of what is packed in it; fetch or pack it again")
            packed = left
            if content:
                yield content
        packed = frame.unused_data or file.read(unpacker.sip)


def _zstd(name: str) -> Unpacker:
    try:
        library = import_module("zstandard")
    except ImportError:
        raise PackedError(f"{name} needs zstandard to be unpacked; pip install -e '.[data]', or unpack it") from None
    factory = library.ZstdDecompressor()  # it refuses a frame that would take more than 128 MiB of memory
    return Unpacker(
        factory.decompressobj,
        lambda frame, packed: (frame.decompress(packed), b""),
        SIP,
        library.ZstdError,
        "pack it again, without --long",
    )


def _gzip(name: str) -> Unpacker:
    def step(frame: Any, packed: bytes) -> tuple[bytes, bytes]:
        return frame.decompress(packed, CHUNK), frame.unconsumed_tail

    return Unpacker(lambda: zlib.decompressobj(wbits=31), step, CHUNK, zlib.error, "fetch or pack it again")


UNPACKED: dict[str, tuple[Callable[[str], Unpacker], bytes]] = {  # by what a name ends with, and a file begins with
    ".zst": (_zstd, b"\x28\xb5\x2f\xfd"),  # RFC 8878
    ".gz": (_gzip, b"\x1f\x8b"),  # RFC 1952
}
