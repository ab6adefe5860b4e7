"""A text becomes tokens once: counted, cut into parts, encoded into mapped files, and found again the next time."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from octavo.config import DataConfig
from octavo.data.lock import locked
from octavo.data.parts import PARTS, Part, PartWriter, open_part
from octavo.data.sources import Sources, find_texts, ignore
from octavo.data.survey import Piece, Progress, Reader, Survey
from octavo.data.vocabulary import fingerprint, fingerprint_of, vocabulary
from octavo.disk import saving, seal, sync, verify, write_file
from octavo.errors import DamagedError, TextError
from octavo.events import Event, Note
from octavo.tokenizers import SimpleTokenizer, Tokenizer, load_tokenizer

FORMAT = 1
TOO_SHORT = 100  # characters: five percent of less are not worth holding out
GROUP = 1 << 20  # characters encoded at once, for a token takes far more memory while it is being found than afterwards


@dataclass(frozen=True, eq=False)
class Prepared:
    """A text as tokens, in parts. `fingerprint` names text, parts and tokenizer together, the hashes each by itself."""

    tokenizer: Tokenizer
    train: Part
    val: Part
    test: Part
    fingerprint: str
    text_sha256: str
    tokenizer_sha256: str
    characters: int
    bytes: int
    documents: int

    @property
    def held_out(self) -> bool:
        """Whether the validation text is another than the training text."""
        return self.val is not self.train


@dataclass(frozen=True)
class _Text:
    """Everything that is read, the validation file too where there is one, and the characters where its parts begin."""

    sources: tuple[Sources, ...]
    survey: Survey
    cuts: tuple[int, int]

    def read(self) -> Reader:
        return Reader(chain.from_iterable(sources.documents() for sources in self.sources), self.cuts)

    def training(self) -> Iterator[Piece]:
        return takewhile(lambda piece: piece.part == 0, self.read())


def prepare(
    data: DataConfig,
    tokenizer: Tokenizer | None,
    *,
    cache: Path,
    on_event: Callable[[Event], None] = ignore,
    sources: Sources | None = None,
) -> Prepared:
    """Bring a text into tokens in `cache`, or find it there, and say what its parts are.

    Without a tokenizer, the one that `data` asks for is built from the training part alone. `sources` are the texts if
    they were looked for before (standard input can be read once only).

    Raises `TextError` for what is no text or too little, `TokenizerError`, and `SaveError` where there is no room.
    """
    found = sources or find_texts(data.texts, field=data.field, errors=data.errors, cache=cache, on_event=on_event)
    both = (found,) if data.val is None else (found, _own_validation(data, cache, on_event))
    ends, survey = _survey(both, on_event)
    for cuts in _cuts(data, ends[0], survey.characters):
        prepared = _prepare(_Text(both, survey, cuts), data, tokenizer, cache, on_event) if cuts[0] else None
        if prepared and len(prepared.train.tokens) >= 2:
            _tell(prepared, on_event)
            return prepared
    raise TextError(f"a training text of {cuts[0]:,} characters is too little to learn from; give a longer one")


def reopen(cache: Path, fingerprint: str) -> Prepared | None:
    """What was prepared under this fingerprint before, without its text; none if it is not in `cache` any more.

    Raises `DamagedError` where a file of it is not what it was.
    """
    folder = cache / "tokens" / fingerprint
    if not folder.is_dir():
        return None
    verify(folder)
    return _opened(folder, load_tokenizer(folder))


def _own_validation(data: DataConfig, cache: Path, on_event: Callable[[Event], None]) -> Sources:
    return find_texts([data.val or ""], field=data.field, errors=data.errors, cache=cache, on_event=on_event)


def _survey(both: Sequence[Sources], on_event: Callable[[Event], None]) -> tuple[list[int], Survey]:
    """Read everything once; gives also the character at which each of the sources ends."""
    reader, ends = Reader(()), []
    progress = Progress("reading", sum(sources.bytes for sources in both), on_event)
    for sources in both:
        reader.source = sources.documents()
        for piece in reader:
            progress.advance(piece.bytes)
        ends.append(reader.characters)
    progress.finish()
    return ends, reader.survey()


def _cuts(data: DataConfig, characters: int, all_characters: int) -> list[tuple[int, int]]:
    """Where validation and test begin, in characters; where that leaves too little, the next pair is tried."""
    if data.val is not None:
        return [(characters, all_characters)]
    if data.split is not None:
        return [(int(data.split * characters), characters)]
    whole = (characters, characters)
    return [whole] if characters < TOO_SHORT else [(int(0.9 * characters), int(0.95 * characters)), whole]


def _prepare(
    text: _Text, data: DataConfig, tokenizer: Tokenizer | None, cache: Path, on_event: Callable[[Event], None]
) -> Prepared:
    if tokenizer is None:
        size = round(text.survey.bytes * text.cuts[0] / text.survey.characters)
        known_by = fingerprint(text.survey.sha256, text.cuts[0])
        folder = cache / "vocabularies"
        tokenizer = vocabulary(text.training(), size, known_by, data.tokenizer, data.vocab_size, folder, on_event)
    facts = {
        "text_sha256": text.survey.sha256,
        "tokenizer_sha256": fingerprint_of(tokenizer),
        "cuts": text.cuts,
        "dtype": np.dtype(tokenizer.dtype).newbyteorder("<").str,
        "characters": text.survey.characters,
        "bytes": text.survey.bytes,
        "documents": text.survey.documents,
    }
    folder = cache / "tokens" / fingerprint(FORMAT, facts)
    with locked(folder):
        try:
            verify(folder)
        except DamagedError:
            _write(folder, text, tokenizer, facts, on_event)
        return _opened(folder, tokenizer)


def _write(
    folder: Path, text: _Text, tokenizer: Tokenizer, facts: dict[str, Any], on_event: Callable[[Event], None]
) -> None:
    """Encode beside the target, going on where an earlier attempt was interrupted, then put it into its place."""
    temporary = folder.with_name(folder.name + ".tmp")
    with saving(folder):
        temporary.mkdir(parents=True, exist_ok=True)
        if _encode(temporary, text, tokenizer, np.dtype(facts["dtype"]), on_event) != text.survey:
            shutil.rmtree(temporary)
            raise TextError(f"{text.sources[0].name} changed while it was read; begin again when it is at rest")
        tokenizer.save(temporary)
        write_file(temporary / "store.json", json.dumps(facts, indent=1) + "\n")
        seal(temporary)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        temporary.replace(folder)
        sync(folder.parent)


def _encode(
    folder: Path, text: _Text, tokenizer: Tokenizer, dtype: np.dtype[Any], on_event: Callable[[Event], None]
) -> Survey:
    reader = text.read()
    progress = Progress("encoding", text.survey.bytes, on_event)
    with ExitStack() as stack:
        writers = [stack.enter_context(PartWriter(folder, name, dtype)) for name in PARTS]
        done = [writer.characters for writer in writers]
        for group in _groups(reader):
            progress.advance(sum(piece.bytes for piece in group))
            _encode_group(_remaining(group, done), tokenizer, writers)
    progress.finish()
    return reader.survey()


def _groups(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    size = 0
    for piece in pieces:
        group.append(piece)
        size += len(piece.text)
        if size >= GROUP:
            yield group
            group, size = [], 0
    yield group


def _remaining(pieces: Iterable[Piece], done: list[int]) -> list[Piece]:
    """Leave out the pieces that an earlier attempt has encoded; `done` counts the characters of them."""
    remaining = []
    for piece in pieces:
        if done[piece.part] > 0:
            done[piece.part] -= len(piece.text)
        else:
            remaining.append(piece)
    return remaining


def _encode_group(pieces: Sequence[Piece], tokenizer: Tokenizer, writers: Sequence[PartWriter]) -> None:
    for piece, ids in zip(pieces, tokenizer.encode_array([piece.text for piece in pieces]), strict=True):
        hidden = piece.bytes - int(tokenizer.token_bytes[ids].sum()) if isinstance(tokenizer, SimpleTokenizer) else 0
        if piece.ends and tokenizer.end_of_text is not None:
            ids = np.append(ids, ids.dtype.type(tokenizer.end_of_text))
        writers[piece.part].write(ids, len(piece.text), piece.bytes, hidden)


def _opened(folder: Path, tokenizer: Tokenizer) -> Prepared:
    facts = json.loads((folder / "store.json").read_bytes())
    train, val, test = (open_part(folder, name, np.dtype(facts["dtype"])) for name in PARTS)
    return Prepared(
        tokenizer=tokenizer,
        train=train,
        val=val if len(val.tokens) >= 2 else train,
        test=test,
        fingerprint=folder.name,
        **{name: facts[name] for name in ("text_sha256", "tokenizer_sha256", "characters", "bytes", "documents")},
    )


def _tell(prepared: Prepared, on_event: Callable[[Event], None]) -> None:
    parts = {"training": prepared.train, "validation": prepared.val, "test": prepared.test}
    if not prepared.held_out:
        on_event(Note("the text is too short to hold any of it out: validation is on the training text itself"))
        del parts["validation"]
    for name, part in parts.items():
        if len(part.tokens):
            on_event(Note(f"{name} text: {part.characters:,} characters, {len(part.tokens):,} tokens"))
