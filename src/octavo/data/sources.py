"""Where texts come from: files, folders, standard input, or a corpus that is known by name."""

import os
import shutil
import stat
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from octavo.chat import OWN, Spelling
from octavo.data.conversations import spoken
from octavo.data.corpora import CORPORA, fetch
from octavo.data.decoding import Errors, read_text, reading, shown
from octavo.data.folders import describe, text_files
from octavo.data.jsonl import ArrayError, Record, read_records
from octavo.data.packed import looks_packed, unpacked_name, unpacked_size
from octavo.data.pieces import cut_pieces
from octavo.disk import saving
from octavo.errors import OctavoError, TextError
from octavo.events import Event, Note

STDIN = "-"
LINES, PERHAPS = (".jsonl", ".ndjson"), ".json"  # what JSON lines are called, and some of them


@dataclass(frozen=True)
class Document:
    """One text with a beginning and an end, in pieces that are read as they are asked for."""

    name: str
    pieces: Iterator[str]


@dataclass(frozen=True)
class TextFile:
    """A file that holds one document, or with JSON lines many. `bytes` is its size, about, where it is packed."""

    path: Path
    name: str
    bytes: int
    field: str | None  # of JSON lines; none: the whole file is one document

    def documents(self, errors: Errors, spelling: Spelling | None = OWN) -> Iterator[Document]:
        """Read the file from its beginning; raises `TextError` at what is no text."""
        chunks = read_text(self.path, self.name, errors)
        if self.field is None:
            yield Document(self.name, cut_pieces(chunks))
            return
        for record in read_records(chunks, self.name, self.field, errors):
            yield Document(self.name, _pieces(record, spelling))


def _pieces(record: Record, spelling: Spelling | None) -> Iterator[str]:
    """What a line of JSON holds, in pieces; a conversation as it is written for the model, if it is for one."""
    if isinstance(record.content, str):
        return cut_pieces([record.content])
    if spelling is None:
        raise TextError(
            f"{record.where} is a conversation, and the model has no chat template: it was not taught to answer; "
            "leave --from out, or name another model"
        )
    try:
        return iter(list(spoken(record.content, spelling)))
    except OctavoError as error:
        raise TextError(f"{record.where}: {error}") from None


@dataclass(frozen=True)
class Sources:
    """The texts that were named, in order; they can be read more than once, standard input too."""

    name: str  # a short one, for people
    files: tuple[TextFile, ...]
    errors: Errors = "strict"
    spelling: Spelling | None = OWN  # of conversations
    skipped: int = 0

    @property
    def bytes(self) -> int:
        """The size of all files together, in bytes."""
        return sum(file.bytes for file in self.files)

    def documents(self) -> Iterator[Document]:
        """Every document from the first to the last, read anew and in bounded memory."""
        for file in self.files:
            yield from file.documents(self.errors, self.spelling)

    def glance(self, most: int = 1_000_000) -> tuple[int, int]:
        """How many different characters there are among the first ones, at most so many, and the size of the text.

        That is the bytes of its characters where these are all, else those of the files, with all that stands around
        the text in lines of JSON.
        """
        seen, size = set[str](), 0
        for piece in chain.from_iterable(document.pieces for document in self.documents()):
            seen.update(piece[:most])
            size += len(piece.encode())
            most -= len(piece)
            if most <= 0:
                return len(seen), self.bytes
        return len(seen), size


def ignore(event: Event) -> None:
    """Hear an event and do nothing."""


def find_texts(
    texts: Sequence[str],
    *,
    field: str = "text",
    errors: Errors = "strict",
    cache: Path | None = None,
    on_event: Callable[[Event], None] = ignore,
    spelling: Spelling | None = OWN,
) -> Sources:
    """Find the texts that were named: files, folders, `-` for standard input, or a corpus where no file has its name.

    Conversations among them are written as `spelling` says; where it is `None` they are none for the model.
    Raises `TextError` for what is not there, cannot be read or is no text; a `Note` counts what folders hold besides.
    """
    if not texts:
        raise TextError(f"no text was named; give a file, a folder, - or a corpus: {', '.join(CORPORA)}")
    if texts.count(STDIN) > 1:
        raise TextError("standard input was named twice; it can be read once")
    skipped: Counter[str] = Counter()
    files: list[TextFile] = []
    for text in texts:
        files += _find(text, field, errors, skipped, cache, on_event)
    if skipped:
        on_event(Note(f"{skipped.total():,} files passed over{describe(skipped)}"))
    return Sources(_short_name(texts[0]), tuple(files), errors, spelling, skipped.total())


def _find(
    text: str, field: str, errors: Errors, skipped: Counter[str], cache: Path | None, on_event: Callable[[Event], None]
) -> list[TextFile]:
    if text == STDIN:
        return [_spool(field, errors, on_event)]
    path = Path(text)
    try:
        text.encode()  # it will be written down
    except UnicodeEncodeError:
        line = f"the name {shown(path)} is not UTF-8; rename the file, or pipe its text in and name it -"
        raise TextError(line) from None
    if "\0" not in text and not os.path.lexists(path) and text in CORPORA:
        path = fetch(text, cache=cache, on_event=on_event)
        return [_text_file(path, text, "text")]
    _check(path, text)
    if path.is_dir():
        return [_text_file(found, shown(found), field) for found in text_files(path, errors, skipped)]
    _peek(path, errors)
    file = _text_file(path, shown(path), field)
    told = unpacked_name(path).suffix.lower() != PERHAPS
    return [file if told else _records_or_text(file, field, errors, on_event)]


def _text_file(path: Path, name: str, field: str) -> TextFile:
    return TextFile(path, name, unpacked_size(path), field if unpacked_name(path).suffix.lower() in LINES else None)


def _records_or_text(file: TextFile, field: str, errors: Errors, on_event: Callable[[Event], None]) -> TextFile:
    """The same, as JSON lines where its first line is one that could be learned from, whatever it is called."""
    try:
        found = next(read_records(read_text(file.path, file.name, errors), file.name, field, errors), None)
    except ArrayError as error:
        on_event(Note(f"{error}; as it is, it is read as plain text"))
        return file
    except TextError:
        return file
    if found is None:
        return file
    on_event(Note(f"{file.name} is read as JSON lines"))
    return replace(file, field=field)


def _check(path: Path, text: str) -> None:
    name = shown(path)
    if "\0" in text or not os.path.lexists(path):
        near = get_close_matches(text, CORPORA, 1)
        hint = f"did you mean {near[0]}?" if near else f"give a file, a folder, - or a corpus: {', '.join(CORPORA)}"
        raise TextError(f"no such file: {name}; {hint}")
    with reading(name):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise TextError(f"{name} is {_kind(status.st_mode)}; pipe its text in and name it -")
    if not stat.S_ISDIR(status.st_mode) and not status.st_size:
        raise TextError(f"{name} is empty; give a text to learn from")


def _kind(mode: int) -> str:
    kinds = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    return next((kind for is_kind, kind in kinds.items() if is_kind(mode)), "a device")


def _peek(path: Path, errors: Errors) -> None:
    """Read a first chunk, so that what is no text is refused before anything is begun."""
    if next(read_text(path, shown(path), errors), None) is None:
        raise TextError(f"{shown(path)} is empty but for a byte order mark; give a text to learn from")


def _spool(field: str, errors: Errors, on_event: Callable[[Event], None]) -> TextFile:
    """What comes from standard input, in a file of its own, packed as it was."""
    if sys.stdin is None or sys.stdin.closed:
        raise TextError("standard input is closed; pipe a text into it")
    with saving(Path("a copy of standard input")):
        descriptor, name = tempfile.mkstemp(prefix="octavo-")
    path = Path(name)
    try:
        with saving(path), open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, which mkstemp made safely)
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not path.stat().st_size:
            raise TextError("standard input is empty; pipe a text into it")
        path = path.rename(name + looks_packed(path))
        spooled = _records_or_text(_text_file(path, "standard input", field), field, errors, on_event)
    except BaseException:
        path.unlink()
        raise
    weakref.finalize(spooled, path.unlink, missing_ok=True)
    return spooled


def _short_name(text: str) -> str:
    return "stdin" if text == STDIN else unpacked_name(Path(text).resolve()).stem or "text"
