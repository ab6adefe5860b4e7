"""The tokenizer that a text asks for, built from its training part and kept, so that it is built once."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from octavo.data.lock import locked
from octavo.data.survey import Piece, Progress
from octavo.disk import verify, write_folder
from octavo.errors import DamagedError
from octavo.events import Event
from octavo.randomness import seed_for
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer, load_tokenizer
from octavo.tokenizers.prefixes import without_prefix

Kind = Literal["character", "word", "bpe"]
SAMPLE = 64_000_000  # bytes of text that a vocabulary of byte pairs or of words is learned from, at most
DIFFERENT = 5_000_000  # bytes of words in it, each counted once: byte pairs take about 60 bytes of memory for each
BPE_SIZE = 4096

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]+")


def fingerprint(*facts: object) -> str:
    """The sha256 of plain values.

    >>> fingerprint("a", 1)[:8]
    '2657442b'
    """
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def fingerprint_of(tokenizer: Tokenizer) -> str:
    """The sha256 of everything that decides a tokenizer's ids."""
    bare = without_prefix(tokenizer.backend, "text")
    within = () if bare is None else (bare.to_str(),)
    return fingerprint(tokenizer.kind, tokenizer.end_of_text, tokenizer.backend.to_str(), *within)


def vocabulary(
    pieces: Iterable[Piece],
    size: int,
    text: str,
    kind: Kind,
    vocab_size: int | None,
    folder: Path,
    on_event: Callable[[Event], None],
    chat: bool = False,
) -> Tokenizer:
    """The tokenizer of the training text `pieces`, of about `size` bytes, which the hash `text` names.

    It has what begins and ends a turn for `chat`, and is taken from `folder` where it was built before. Raises
    `TokenizerError` where the text gives no vocabulary.
    """
    target = folder / fingerprint(text, kind, vocab_size)
    with locked(target):
        try:
            verify(target)
        except DamagedError:
            progress = Progress("learning the vocabulary", size, on_event)
            texts = _told(pieces, progress)
            built = _build(texts, size, kind, vocab_size, chat)
            progress.finish()
            write_folder(target, built.save)
        return load_tokenizer(target)


def _build(texts: Iterable[str], size: int, kind: Kind, vocab_size: int | None, chat: bool) -> Tokenizer:
    if kind == "bpe":
        return BPETokenizer.train(_enough(_sample(texts, size)), vocab_size=vocab_size or BPE_SIZE, chat=chat)
    if kind == "word":  # whose trainer remembers each, too
        texts = (text for _, text in _sample(texts, size))
    return SimpleTokenizer.train(texts, unit=kind, vocab_size=vocab_size, chat=chat)


def _sample(texts: Iterable[str], size: int) -> Iterator[tuple[int, str]]:
    """Pieces drawn from the whole text, the same ones each time: all of them, or as many as memory has room for.

    Each comes with its place in an order drawn by lot.
    """
    taken = 0
    for number, text in enumerate(texts):
        rank = seed_for("vocabulary", number)
        length = len(text.encode())
        if size <= SAMPLE or (rank < 0.98 * SAMPLE / size * 2**63 and taken + length <= SAMPLE):
            taken += length
            yield rank, text


def _enough(sample: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Pieces in the order drawn for them, until there are enough different words for a byte-pair vocabulary.

    What its trainer remembers is every word once. Where words are long and never the same, as in a text without spaces,
    it has enough of them sooner.
    """
    chosen = sorted(sample, reverse=True)
    words: set[str] = set()
    room = DIFFERENT
    while chosen and room > 0:
        _, text = chosen.pop()
        new = set(_WORD.findall(text)) - words
        room -= sum(len(word.encode()) for word in new)
        words |= new
        yield text


def _told(pieces: Iterable[Piece], progress: Progress) -> Iterator[str]:
    for piece in pieces:
        yield piece.text
        progress.advance(piece.bytes)
