"""A vocabulary of the characters, or the words, of one text: the tokenizer to begin with."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Literal, NamedTuple, Self

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from octavo.errors import TokenizerError, UnknownTextError
from octavo.tokenizers.base import (
    END_OF_TEXT,
    LARGEST_VOCABULARY,
    UNKNOWN,
    Ids,
    Tokenizer,
    check_vocab_size,
    checked_text,
    groups,
    pieces_of,
)
from octavo.tokenizers.streams import TextStream, WholeStream
from octavo.tokenizers.turns import TURNS, template_of

Unit = Literal["character", "word"]
CUTS: dict[Unit, str] = {
    "character": r"[\s\S]",
    # a word with its marks, or spaces side by side, or any one other character: together they are the whole text
    "word": r"[\p{L}\p{N}_][\p{L}\p{M}\p{N}_]*| +|[\s\S]",
}
SPECIAL = (UNKNOWN, END_OF_TEXT)  # their ids are 0 and 1, and those of turns 2 and 3 where there are any
CODE_POINTS = 0x110000


class Unknown(NamedTuple):
    """A piece of text that the vocabulary has never seen, and where it begins, in characters."""

    text: str
    position: int


class SimpleTokenizer(Tokenizer):
    """Each character, or each word, of the training text has an id; what was never seen becomes the unknown token.

    >>> tokenizer = SimpleTokenizer("hello")
    >>> tokenizer.encode("hole")
    [3, 5, 4, 2]
    >>> tokenizer.decode([3, 5, 4, 2])
    'hole'
    >>> tokenizer.unknowns("help")
    [Unknown(text='p', position=3)]
    """

    kind: Unit
    end_of_text: int
    unknown: int

    def __init__(
        self,
        texts: str | Iterable[str],
        *,
        unit: Unit = "character",
        vocab_size: int | None = None,
        chat: bool = False,
    ) -> None:
        """Build the vocabulary of a text or of its pieces; with `vocab_size`, of what is most frequent in it.

        For `chat` it has tokens that begin and end a turn, and the chat template with them. Raises `TokenizerError` for
        a text with nothing in it and for a size that leaves no room.
        """
        special = (*SPECIAL, *TURNS) if chat else SPECIAL
        self._wrap(_build(_vocabulary(pieces_of(texts), unit, vocab_size, special), unit, special), unit, special)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        *,
        unit: Unit = "character",
        vocab_size: int | None = None,
        chat: bool = False,
    ) -> Self:
        """The same as `SimpleTokenizer(texts)`, under the name that every tokenizer has for it."""
        return cls(texts, unit=unit, vocab_size=vocab_size, chat=chat)

    @classmethod
    def from_backend(cls, backend: Backend) -> Self:
        """Wrap what was saved; raises `TokenizerError` if its rules are not exactly those of octavo."""
        tokenizer = cls.__new__(cls)
        tokenizer._wrap(backend, *_rules_of(backend))
        return tokenizer

    @classmethod
    def of_characters(cls, characters: Iterable[str], *, chat: bool = False) -> Self:
        """The tokenizer of these characters, with ids in their order behind the special ones, also those for `chat`.

        >>> SimpleTokenizer.of_characters("ba").encode("ab")
        [3, 2]
        """
        special = (*SPECIAL, *TURNS) if chat else SPECIAL
        vocabulary = {word: position for position, word in enumerate((*special, *characters))}
        return cls.from_backend(_build(vocabulary, "character", special))

    def _wrap(self, backend: Backend, unit: Unit, special: Sequence[str]) -> None:
        names = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
        super().__init__(backend, {"unk_token": UNKNOWN, **names, **template_of(special)})
        self.kind = unit
        self.unknown, self.end_of_text = range(len(SPECIAL))

    def encode(self, text: str, *, special: bool = False, strict: bool = False) -> list[int]:
        """Text to ids; with `strict`, the first piece never seen raises `UnknownTextError`, which says where it is."""
        ids = super().encode(text, special=special) if special else self.encode_array([text])[0].tolist()
        if strict and self.unknown in ids:
            for piece, position in self._unknowns(text, special):
                code = f" (U+{ord(piece):04X})" if len(piece) == 1 else ""
                raise UnknownTextError(
                    f"{piece!r}{code} at position {position} is not in the vocabulary; "
                    f"train on a text that has it, or leave strict out to read it as {UNKNOWN}"
                )
        return ids

    def unknowns(self, text: str) -> list[Unknown]:
        """Every piece of the text that was never seen, in order."""
        return list(self._unknowns(text))

    def _unknowns(self, text: str, special: bool = False) -> Iterator[Unknown]:
        encoding = self._encoding(text, special)
        for token, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            if token == self.unknown and text[start:stop] != UNKNOWN:  # spelled out and asked for, it is no surprise
                yield Unknown(text[start:stop], start)

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """How many bytes of text each id stands for, in UTF-8; none for special tokens."""
        sizes = np.zeros(self.vocab_size, np.int64)
        for token, position in self.backend.get_vocab().items():
            sizes[position] = 0 if token in self.special_ids else len(token.encode())
        return sizes

    def unknown_bytes(self, text: str) -> int:
        """The bytes that remain of the text's when those of all known tokens are taken away."""
        (ids,) = self.encode_array([text])
        return len(text.encode()) - int(self.token_bytes[ids].sum())

    def encode_array(self, pieces: Sequence[str]) -> list[Ids]:
        """The ids of each piece as an array; characters are looked up in a table of all code points."""
        if self.kind == "word":
            return super().encode_array(pieces)
        return [self._ids_of_code_points[code_points(piece)] for piece in pieces]

    @cached_property
    def _ids_of_code_points(self) -> Ids:
        table = np.full(CODE_POINTS, self.unknown, self.dtype)
        for token, position in self.backend.get_vocab().items():
            if len(token) == 1:
                table[ord(token)] = position
        return table

    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """A stream that gives each token's text at once, whatever stands before it."""
        return WholeStream(self.decode)


def code_points(text: str) -> np.ndarray:
    """The characters of a text as numbers; raises `TokenizerError` for a lone surrogate.

    >>> code_points("aß").tolist()
    [97, 223]
    """
    try:
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)
    except (AttributeError, UnicodeEncodeError):
        checked_text(text)
        raise


def _cut(unit: Unit) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(CUTS[unit]), "isolated")


def _build(vocabulary: dict[str, int], unit: Unit, special: Sequence[str]) -> Backend:
    backend = Backend(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = _cut(unit)
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    return backend


def _rules_of(backend: Backend) -> tuple[Unit, Sequence[str]]:
    """Which kind these rules are, and their special tokens; all but the vocabulary must be as `_build` makes it."""
    rules = _rules(backend)
    for special in ((*SPECIAL, *TURNS), SPECIAL):
        ids = {word: position for position, word in enumerate(special)}
        complete = all(backend.model.token_to_id(word) == position for word, position in ids.items())
        for unit in CUTS if complete else ():
            if rules == _rules(_build(ids, unit, special)):
                return unit, special
    raise TokenizerError("a WordLevel vocabulary with rules that octavo does not write; use a BPE tokenizer")


def _rules(backend: Backend) -> dict[str, object]:
    rules = json.loads(backend.to_str())
    del rules["model"]["vocab"], rules["post_processor"]  # Hugging Face adds one that does nothing
    return rules


def _vocabulary(texts: Iterable[str], unit: Unit, vocab_size: int | None, special: Sequence[str]) -> dict[str, int]:
    if unit not in CUTS:
        raise TokenizerError(f"unit is {unit!r}; a text is cut by character or by word")
    if vocab_size is None:
        vocab_size = LARGEST_VOCABULARY
    check_vocab_size(vocab_size, len(special) + 1, f"one {unit} beside {' and '.join(special)}")
    pieces = (_frequent_words if unit == "word" else _frequent_characters)(texts, vocab_size - len(special))
    if not pieces:
        raise TokenizerError("the text is empty, so there is no vocabulary in it; give at least one character")
    return {piece: position for position, piece in enumerate([*special, *sorted(pieces)])}


def _frequent_characters(texts: Iterable[str], room: int) -> list[str]:
    counts = np.zeros(CODE_POINTS, np.int64)
    for group in groups(texts):
        counts += np.bincount(code_points("".join(group)), minlength=CODE_POINTS)
    seen = np.flatnonzero(counts)
    by_frequency = np.argsort(-counts[seen], kind="stable")  # stable: of two equally frequent the lower comes first
    return list(map(chr, seen[by_frequency[:room]]))


def _frequent_words(texts: Iterable[str], room: int) -> list[str]:
    backend = Backend(models.WordLevel({}, UNKNOWN))  # knows no special tokens: it would learn nothing from their names
    backend.pre_tokenizer = _cut("word")
    trainer = trainers.WordLevelTrainer(vocab_size=room, show_progress=False)
    backend.train_from_iterator(map(checked_text, texts), trainer)
    return list(backend.get_vocab())
