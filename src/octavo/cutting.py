"""The texts of a training, found, read and cut into tokens."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

from octavo import places
from octavo.chat import spelling_of
from octavo.config import Asked, DataConfig
from octavo.data import Prepared, find_texts, prepare
from octavo.errors import ConfigError
from octavo.events import Event
from octavo.tokenizers import Tokenizer

Listener = Callable[[Event], None]
FEWEST, MOST = 320, 8192  # pieces of words in a vocabulary: a text for which that is too much is learned by character
ROUND = 32


def ignore(event: Event) -> None:
    """Listen to nothing."""


def read_texts(
    texts: Sequence[str],
    asked: Asked,
    on_event: Listener,
    tokenizer: Tokenizer | None = None,
    before: DataConfig | None = None,
) -> tuple[DataConfig, Prepared]:
    """Find, read and encode the texts of a training, with a tokenizer that is there already or one made for them.

    What was not asked for is as it was `before`, in an earlier run.
    """
    if tokenizer is not None and (asked.tokenizer is not None or asked.vocab_size is not None):
        raise ConfigError("--tokenizer and --vocab-size are the model's own with --from; leave them out")
    usual = before or DataConfig()
    field, errors = asked.field or usual.field, asked.errors or usual.errors
    words: dict[str, Any] = {"field": field, "errors": errors, "spelling": spelling_of(tokenizer)}
    sources = find_texts(texts, cache=places.cache(), on_event=on_event, **words)
    if asked.field is not None and all(file.field is None for file in sources.files):
        raise ConfigError(f"--field is {field} and no text is JSON lines; leave it out, or name a .jsonl file")
    kind, vocab_size = asked.tokenizer, asked.vocab_size
    if tokenizer is not None:
        kind = tokenizer.kind
    elif kind is None or (kind == "bpe" and vocab_size is None):
        distinct, size = sources.glance()
        pieces = pieces_for(size)
        kind = kind or ("bpe" if pieces >= FEWEST and pieces >= distinct else "character")
        vocab_size = vocab_size or (max(FEWEST, pieces) if kind == "bpe" else None)
    data = DataConfig(
        texts=tuple(texts),
        field=field,
        errors=errors,
        split=asked.split,
        val=asked.val,
        tokenizer=kind,
        vocab_size=vocab_size,
        shuffle=asked.shuffle,
    )
    return data, prepare(data, tokenizer, cache=places.cache(), on_event=on_event, sources=sources)


def pieces_for(size: int) -> int:
    """About the square root of the size of a text in bytes: how many pieces of words it is best cut into.

    >>> [pieces_for(size) for size in (50_000, 1_000_000, 10**9)]
    [224, 992, 8192]
    """
    return min(MOST, ROUND * round(sqrt(size) / ROUND))


def cut_as_before(asked: Asked, before: DataConfig, *, own: bool) -> Asked:
    """The text cut as in an earlier run where nothing else was asked; by its tokenizer or the model's `own`."""
    names = ["shuffle"]
    if asked.split is None and asked.val is None:
        names += ["split", "val"]
    if not own and asked.tokenizer is None:
        names += ["tokenizer", "vocab_size"]
    return replace(asked, **{name: getattr(before, name) for name in names if getattr(asked, name) is None})
