"""A text read from its beginning to its end: what it is, how far one has come, and which part each piece is for."""

import hashlib
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from octavo.data.conversations import Marked
from octavo.data.sources import Document
from octavo.events import Event, Preparing
from octavo.tokenizers.prefixes import Behind

BOUNDARY, MARK = b"\xff", b"\xfe"  # ends a document in the hash, and a special token; no text in UTF-8 has these bytes
TICK = 0.1  # seconds from one event to the next
Digest = bytes  # in other words, for a piece has `bytes`


@dataclass(frozen=True)
class Survey:
    """What a text is: the hash of its documents in UTF-8, and how much of everything there is."""

    sha256: str
    characters: int
    bytes: int
    documents: int
    conversations: int = 0
    spoken_from: int = 0  # the character at which the first conversation begins, if there is any


@dataclass(frozen=True)
class Piece:
    """A piece of a document, the part it belongs to, its size in UTF-8, and whether the document ends with it.

    `sha256` is that of all that was read as far as its end. Special tokens stand `before` and `after` its text; what
    the text is `behind` is one of them, other text of the document, or nothing.
    """

    text: str
    part: int
    bytes: int
    ends: bool
    sha256: Digest
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    behind: Behind = "nothing"


class Progress:
    """Tells how many bytes of how many are done, at most ten times a second."""

    def __init__(self, what: str, total: int, on_event: Callable[[Event], None]) -> None:
        self.what, self.total, self.on_event = what, total, on_event
        self.done = 0
        self.told = time.monotonic()

    def advance(self, count: int) -> None:
        """So many bytes more are done."""
        self.done = min(self.done + count, self.total)  # files in UTF-16 are not as long as their text in UTF-8
        if time.monotonic() - self.told >= TICK:
            self.told = time.monotonic()
            self.on_event(Preparing(self.what, self.done, self.total))

    def finish(self) -> None:
        """All is done."""
        self.on_event(Preparing(self.what, self.total, self.total))


class Reader:
    """Reads documents piece by piece and keeps count and hash; `cuts` are the characters at which a new part begins."""

    def __init__(self, documents: Iterable[Document], cuts: Sequence[int] = ()) -> None:
        self.source, self.cuts = documents, cuts
        self.hash = hashlib.sha256()
        self.characters = self.bytes = self.documents = self.conversations = self.spoken_from = 0
        self.behind: Behind = "nothing"

    def __iter__(self) -> Iterator[Piece]:
        for document in self.source:
            start, spoken, self.behind = self.characters, False, "nothing"
            for text, last in _with_last(document.pieces):
                spoken = spoken or isinstance(text, Marked)
                yield from self._cut(text, last)
            self.documents += 1
            if spoken and not self.conversations:
                self.spoken_from = start
            self.conversations += spoken
            self.hash.update(BOUNDARY)

    def _cut(self, text: str, last: bool) -> Iterator[Piece]:
        before, after = (text.before, text.after) if isinstance(text, Marked) else ((), ())
        while text:
            part = bisect_right(self.cuts, self.characters)
            room = self.cuts[part] - self.characters if part < len(self.cuts) else len(text)
            here, text = text[:room], text[room:]
            encoded, marks = here.encode(), () if text else after
            self.hash.update(_marks(before) + encoded + _marks(marks))
            self.characters += len(here)
            self.bytes += len(encoded)
            behind: Behind = "special" if before else self.behind
            yield Piece(here, part, len(encoded), last and not text, self.hash.digest(), before, marks, behind)
            before, self.behind = (), "special" if marks else "text"

    def survey(self) -> Survey:
        """What has been read so far."""
        counts = self.characters, self.bytes, self.documents, self.conversations, self.spoken_from
        return Survey(self.hash.hexdigest(), *counts)


def _marks(names: Iterable[str]) -> bytes:
    return b"".join(name.encode() + MARK for name in names)


def _with_last(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Each text, and whether it is the last one.

    >>> list(_with_last("ab"))
    [('a', False), ('b', True)]
    """
    waiting = None
    for text in texts:
        if waiting is not None:
            yield waiting, False
        waiting = text
    if waiting is not None:
        yield waiting, True
