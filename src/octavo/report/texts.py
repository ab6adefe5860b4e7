"""The text behind the tokens of a run, read again where it lies, every piece with its file and its line."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from octavo import places
from octavo.chat import spelling_of
from octavo.config import DataConfig
from octavo.data import Part, Prepared, Sources, find_texts
from octavo.events import Event, Note
from octavo.report.findings import Place
from octavo.tokenizers import Tokenizer

PartName = Literal["train", "val", "test"]
BOUNDARY = b"\xff"  # stands before every document; no text in UTF-8 has this byte
PIECE = 2**16  # tokens that are read at once where there are no files
NEAR = 8  # tokens that say whether a character ends with the last of them: it has four bytes at most
STRETCH = 32_000_000  # bytes looked through at once: what finds copies takes 17 times as much memory


class Passage(NamedTuple):
    """A piece of text, the line on which it begins, and whether a document begins with it."""

    source: str
    line: int
    text: str
    first: bool


@dataclass(frozen=True)
class Texts:
    """All parts of a text as they were cut for a training."""

    prepared: Prepared
    sources: tuple[Sources, ...]  # none: it came from standard input or in another order, and its tokens tell it
    name: str = "standard input"  # of a text without sources

    def passages(self, name: PartName, characters: int | None = None) -> Iterator[Passage]:
        """A part from its beginning, or so many characters of it."""
        part: Part = getattr(self.prepared, name)
        if not self.sources:
            yield from self._told(part, part.characters if characters is None else characters)
            return
        before = {"train": (), "val": ("train",), "test": ("train", "val")}[name]
        start = sum(getattr(self.prepared, other).characters for other in before)
        yield from cut(self.sources, start, start + (part.characters if characters is None else characters))

    def _told(self, part: Part, left: int) -> Iterator[Passage]:
        """What the tokens of a part say, so many characters of it."""
        line = 1
        for text, first in decoded(self.prepared.tokenizer, part.tokens):
            if text[:left]:
                yield Passage(self.name, line, text[:left], first)
            left -= len(text[:left])
            line += text.count("\n")
            if left <= 0:
                return


def decoded(tokenizer: Tokenizer, tokens: np.ndarray) -> Iterator[tuple[str, bool]]:
    """What tokens say, piece by piece, each within a document, and whether one begins with it.

    Pieces are whole characters: tokens of a character that goes on in the next piece are read with that.
    """
    waiting, first = tokens[:0], True
    ends = -1 if tokenizer.end_of_text is None else tokenizer.end_of_text
    for begin in range(0, len(tokens), PIECE):
        piece, last = np.concatenate([waiting, tokens[begin : begin + PIECE]]), begin + PIECE >= len(tokens)
        waiting = piece[:0]
        for start, stop in pairwise([0, *(np.flatnonzero(piece == ends) + 1).tolist(), len(piece)]):
            text, ended = tokenizer.decode(piece[start:stop]), stop > start and piece[stop - 1] == ends
            if not (ended or last):
                whole = stop
                while whole > start and tokenizer.decode(piece[max(start, whole - NEAR) : whole]).endswith("\ufffd"):
                    whole -= 1
                text, waiting = tokenizer.decode(piece[start:whole]), piece[whole:stop]
            yield text, first
            first = bool(ended) or (first and not text)


def texts_of(data: DataConfig, prepared: Prepared, on_event: Callable[[Event], None]) -> Texts:
    """Where the texts of a run lie; what came from standard input is had from its tokens, and a `Note` says so."""
    if "-" in data.texts:
        on_event(Note("the text came from standard input: characters that the vocabulary lacks are missing in it"))
        return Texts(prepared, ())
    if data.shuffle is not None:
        on_event(Note("the documents were shuffled: the text is read from its tokens, and its files are not named"))
        return Texts(prepared, (), "shuffled documents")
    named: list[Sequence[str]] = [data.texts, *([] if data.val is None else [[data.val]])]
    words: dict[str, Any] = {"field": data.field, "errors": data.errors, "spelling": spelling_of(prepared.tokenizer)}
    return Texts(prepared, tuple(find_texts(texts, cache=places.cache(), **words) for texts in named))


def cut(sources: Sequence[Sources], start: int, stop: int) -> Iterator[Passage]:
    """The characters from `start` to `stop` of all documents one after the other."""
    come = 0
    for source, pieces in _documents(sources):
        line, first = 1, True
        for text in pieces:
            skipped, here = text[: max(0, start - come)], text[max(0, start - come) : max(0, stop - come)]
            if here:
                yield Passage(source, line + skipped.count("\n"), here, first)
                first = False
            come += len(text)
            line += text.count("\n")
            if come >= stop:
                return


def _documents(sources: Sequence[Sources]) -> Iterator[tuple[str, Iterator[str]]]:
    for source in sources:
        for file in source.files:
            for number, document in enumerate(file.documents(source.errors, source.spelling), start=1):
                yield document.name if file.field is None else f"{document.name}, record {number:,}", document.pieces


class Framed(NamedTuple):
    """A passage as bytes, and where they begin among the bytes of all passages and boundaries."""

    offset: int
    content: bytes
    passage: Passage


def framed(passages: Iterator[Passage]) -> Iterator[Framed]:
    """Passages as bytes, with room for a boundary before each document."""
    offset = 0
    for passage in passages:
        offset += passage.first
        content = passage.text.encode()
        yield Framed(offset, content, passage)
        offset += len(content)


class Stretch(NamedTuple):
    """Bytes in a row, and where the first of them stands."""

    offset: int
    content: bytes


def stretches(passages: Iterator[Passage], size: int = STRETCH) -> Iterator[Stretch]:
    """A text in stretches of about so many bytes, each beginning with the last passage of the one before."""
    waiting: list[Framed] = []
    length, new = 0, False
    for frame in framed(passages):
        waiting.append(frame)
        length, new = length + len(frame.content), True
        if length >= size:
            yield _joined(waiting)
            waiting, length, new = waiting[-1:], len(frame.content), False
    if new:
        yield _joined(waiting)


def _joined(frames: Sequence[Framed]) -> Stretch:
    parts = (BOUNDARY * frame.passage.first + frame.content for frame in frames)
    return Stretch(frames[0].offset - frames[0].passage.first, b"".join(parts))


def locate(passages: Iterator[Passage], offsets: Sequence[int]) -> dict[int, Place]:
    """The places of these bytes of a text, counted as `stretches` counts them."""
    wanted, found = sorted(set(offsets), reverse=True), {}
    for frame in framed(passages):
        while wanted and wanted[-1] < frame.offset + len(frame.content):
            offset = wanted.pop()
            lines = frame.content.count(b"\n", 0, max(0, offset - frame.offset))
            found[offset] = Place(frame.passage.source, frame.passage.line + lines)
    return found


def locate_characters(passages: Iterator[Passage], positions: Sequence[int]) -> dict[int, Place]:
    """The places of these characters of a text."""
    wanted, found, come = sorted(set(positions), reverse=True), {}, 0
    for passage in passages:
        while wanted and wanted[-1] < come + len(passage.text):
            position = wanted.pop()
            lines = passage.text.count("\n", 0, position - come)
            found[position] = Place(passage.source, passage.line + lines)
        come += len(passage.text)
    return found
