"""A text becomes tokens once: counted, cut into parts, encoded into mapped files, and found again the next time."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from octavo.chat import spelling_of
from octavo.config import DataConfig
from octavo.data.division import Text, divided
from octavo.data.encoding import encode
from octavo.data.known import Known
from octavo.data.lock import locked
from octavo.data.lots import gather
from octavo.data.parts import PARTS, Part, PartWriter, open_part
from octavo.data.sources import Sources, find_texts, ignore
from octavo.data.survey import Progress, Reader, Survey
from octavo.data.vocabulary import fingerprint, fingerprint_of, vocabulary
from octavo.disk import put, saving, seal, sync, verify, write_file
from octavo.errors import DamagedError, TextError
from octavo.events import Event, Note
from octavo.tokenizers import Tokenizer, load_tokenizer

FORMAT = 1
NEW = 0.01  # of a held-out text, which is told from there on: a few words are new in any
STAGE = ".stage"  # beside what is being made: what it takes to go on, and documents as they come, still to be shuffled


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
    named = [] if sources else [data.texts]
    named += [] if data.val is None else [(data.val,)]
    words: dict[str, Any] = {"field": data.field, "errors": data.errors, "spelling": spelling_of(tokenizer)}
    found = (find_texts(texts, cache=cache, on_event=on_event, **words) for texts in named)
    both = (*([sources] if sources else []), *found)
    known = Known(cache, both)
    for text in divided(data, both, *(known.recall() or known.remember(_survey(both, on_event)))):
        try:
            prepared = _prepare(text, data, tokenizer, cache, on_event) if text.learned else None
        except TextError:  # what is known may be the reason
            known.forget()
            raise
        if prepared and len(prepared.train.tokens) >= 2:
            _tell(prepared, on_event)
            if text.survey.conversations:
                on_event(Note(text.conversations))
            return prepared
    count = round(text.learned * text.survey.characters)
    raise TextError(f"a training text of {count:,} characters is too little to learn from; give a longer one")


def reopen(cache: Path, fingerprint: str, *, hashed: bool = True) -> Prepared | None:
    """What was prepared under this fingerprint before, without its text; none if it is not in `cache` any more.

    Raises `DamagedError` where a file of it is not what it was; where none is to be `hashed`, if its size is another.
    """
    folder = cache / "tokens" / fingerprint
    if not folder.is_dir():
        return None
    verify(folder, hashed=hashed)
    return _opened(folder, load_tokenizer(folder))


def _survey(both: Sequence[Sources], on_event: Callable[[Event], None]) -> tuple[Survey, Survey]:
    """Read everything once; gives what the text itself is, and what it is together with its own validation text."""
    reader, found = Reader(()), []
    progress = Progress("reading", sum(sources.bytes for sources in both), on_event)
    for sources in both:
        reader.source = sources.documents()
        for piece in reader:
            progress.advance(piece.bytes)
        found.append(reader.survey())
    progress.finish()
    return found[0], found[-1]


def _prepare(
    text: Text, data: DataConfig, tokenizer: Tokenizer | None, cache: Path, on_event: Callable[[Event], None]
) -> Prepared:
    if tokenizer is None:
        size, folder = round(text.survey.bytes * text.learned), cache / "vocabularies"
        kind, vocab_size = data.tokenizer, data.vocab_size
        chat = text.survey.conversations > 0
        tokenizer = vocabulary(text.training(), size, text.vocabulary, kind, vocab_size, folder, on_event, chat)
    facts = {
        "text_sha256": text.survey.sha256,
        "tokenizer_sha256": fingerprint_of(tokenizer),
        **text.division,
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
        _remove(_temporary(folder))
        return _opened(folder, tokenizer)


def _write(
    folder: Path, text: Text, tokenizer: Tokenizer, facts: dict[str, Any], on_event: Callable[[Event], None]
) -> None:
    """Encode beside the target, going on where an earlier attempt was interrupted, then put it into its place."""
    temporary = _temporary(folder)
    encoded = partial(_encode, temporary, text, tokenizer, np.dtype(facts["dtype"]), on_event)
    with saving(folder):
        try:
            found = encoded()
        except DamagedError:  # that attempt read another text, which stood in this one's place for a while
            _remove(temporary)
            found = encoded()
        if found != text.survey:
            _remove(temporary)
        text.check(found)
        tokenizer.save(temporary)
        write_file(temporary / "store.json", json.dumps(facts, indent=1) + "\n")
        seal(temporary)
        shutil.rmtree(folder, ignore_errors=True)  # a damaged one
        put(temporary, folder)
        sync(folder.parent)


def _temporary(folder: Path) -> Path:
    return folder.with_name(folder.name + ".tmp")


def _remove(temporary: Path) -> None:
    for path in (temporary, temporary.with_name(temporary.name + STAGE)):
        shutil.rmtree(path, ignore_errors=True)


def _encode(
    folder: Path, text: Text, tokenizer: Tokenizer, dtype: np.dtype[Any], on_event: Callable[[Event], None]
) -> Survey:
    """Write the parts of a text; where documents are drawn by lot, they are first encoded as they come."""
    stage = folder.with_name(folder.name + STAGE)
    for place in (folder, stage):
        place.mkdir(parents=True, exist_ok=True)
    if text.lots is None:
        with _writers(folder, PARTS, dtype, stage) as writers:
            return _read_into(writers, text, tokenizer, on_event)
    with _writers(stage, ("all",), dtype, stage, documents=True) as writers:
        found = _read_into(writers, text, tokenizer, on_event)
    if found == text.survey:
        progress = Progress("shuffling", text.survey.bytes, on_event)
        with _writers(folder, PARTS, dtype, stage) as writers:
            gather(stage, dtype, text.lots, writers, progress)
        progress.finish()
    return found


@contextmanager
def _writers(
    folder: Path, names: Sequence[str], dtype: np.dtype[Any], stage: Path, *, documents: bool = False
) -> Iterator[list[PartWriter]]:
    with ExitStack() as stack:
        parts = (PartWriter(folder, name, dtype, documents=documents, hashes=stage) for name in names)
        yield [stack.enter_context(part) for part in parts]


def _read_into(
    writers: Sequence[PartWriter], text: Text, tokenizer: Tokenizer, on_event: Callable[[Event], None]
) -> Survey:
    reader, progress = text.read(), Progress("encoding", text.survey.bytes, on_event)
    encode(reader, tokenizer, writers, progress)
    progress.finish()
    return reader.survey()


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
    for name, part in parts.items():
        if part.unknown_bytes > (0 if name == "training" else NEW * part.bytes):
            share = f"{part.unknown_bytes / part.bytes:.1%}"
            on_event(Note(f"{share} of the {name} text is in characters or words that the vocabulary does not have"))
