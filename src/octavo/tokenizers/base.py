"""What every tokenizer does: text to ids, ids to text at once or as a stream, and its two files in a run."""

import json
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import index
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as Backend

from octavo.disk import make_folder, saving, write_file
from octavo.errors import TokenizerError
from octavo.tokenizers.prefixes import Behind
from octavo.tokenizers.streams import TextStream
from octavo.tokenizers.turns import END_OF_TURN, TEMPLATE

Kind = Literal["character", "word", "bpe"]
Ids = np.ndarray[tuple[int], np.dtype[np.uint16 | np.uint32]]

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<unk>"
LARGEST_VOCABULARY = 2**24
GROUP = 2**22  # characters encoded at a time: what the library remembers of each token outweighs the text many times


class Tokenizer(ABC):
    """A vocabulary and its rules, held by one `tokenizers.Tokenizer`, which is also what is saved.

    Special tokens have ids of their own, which no ordinary text ever becomes, not even a text that spells them out.
    """

    kind: Kind
    end_of_text: int | None  # none only where somebody else's tokenizer names no such token
    more_ends: tuple[int, ...] = ()  # with which a model that answers ends what it says, too
    unknown: int | None = None

    def __init__(self, backend: Backend, settings: Mapping[str, Any]) -> None:
        backend.encode_special_tokens = True  # which means: read them as the ordinary text that they are written in
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.settings = dict(settings)
        end = backend.token_to_id(END_OF_TURN)
        if end is not None and self.settings.get("chat_template") == TEMPLATE:
            self.more_ends = (end,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kind={self.kind!r}, vocab_size={self.vocab_size})"

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.backend.encode_special_tokens = True  # the one thing that a pickled backend forgets

    @cached_property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return 1 + max(self.backend.get_vocab().values())

    @property
    def dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The smallest kind of number that holds every id."""
        return np.uint16 if self.vocab_size <= 2**16 else np.uint32

    @property
    def forbidden(self) -> tuple[int, ...]:
        """Ids that a model may never choose: the unknown token says nothing."""
        return () if self.unknown is None else (self.unknown,)

    @property
    def ends(self) -> tuple[int, ...]:
        """Ids behind which a model has said all: the end of a text, and perhaps another that ends a turn."""
        return self.more_ends if self.end_of_text is None else (self.end_of_text, *self.more_ends)

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """The special tokens, and the id of each."""
        added = self.backend.get_added_tokens_decoder()
        return {token.content: position for position, token in added.items() if token.special}

    @property
    def answers(self) -> bool:
        """Whether its model was taught to hold a conversation: it has a template for one."""
        return "chat_template" in self.settings

    def unsayable(self, vocab_size: int) -> tuple[int, ...]:
        """Ids that a model of this vocabulary size may never choose: the forbidden, and those that no token has."""
        return (*self.forbidden, *range(self.vocab_size, vocab_size))

    @cached_property
    def opening(self) -> tuple[int, ...]:
        """Ids that this tokenizer's maker puts before every text (Llama 3 does); octavo's own put none."""
        return tuple(self.backend.encode("", add_special_tokens=True).ids)

    @cached_property
    def _heeding(self) -> Backend:
        backend = Backend.from_str(self.backend.to_str())
        backend.encode_special_tokens = False
        return backend

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Text to ids; with `special`, a special token spelled out in the text becomes that token.

        Raises `TokenizerError` for a lone surrogate, which is no character in any encoding.
        """
        return self._encoding(text, special).ids

    def _encoding(self, text: str, special: bool = False) -> Encoding:
        try:
            return (self._heeding if special else self.backend).encode(text, add_special_tokens=False)
        except TypeError:
            checked_text(text)
            raise

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Ids to text; special tokens are left out, or with `special` spelled out.

        Raises `TokenizerError` for an id that no token has.
        """
        return self.backend.decode(self._checked(ids), skip_special_tokens=not special)

    def _checked(self, ids: Iterable[int]) -> list[int]:
        try:
            values = [index(value) for value in (ids.tolist() if hasattr(ids, "tolist") else ids)]
        except TypeError:
            raise TokenizerError(f"{ids!r:.80} is no row of token ids; give whole numbers") from None
        for value in values:
            if not 0 <= value < self.vocab_size:
                raise TokenizerError(f"id {value} is no token; this vocabulary has ids from 0 to {self.vocab_size - 1}")
        return values

    def encode_array(self, pieces: Sequence[str]) -> list[Ids]:
        """The ids of each piece as an array: the fast road, on all cores, for texts too big for lists."""
        encode = self.backend.encode_batch_fast
        return [
            np.frombuffer(array("I", encoding.ids), np.uint32).astype(self.dtype)  # from a list it takes longer
            for group in groups(pieces)
            for encoding in encode(group, add_special_tokens=False)
        ]

    def encode_pieces(self, pieces: Sequence[str], behind: Sequence[Behind]) -> list[Ids]:
        """The ids of pieces of longer texts, each standing behind nothing, text or a special token there.

        Joined, those of a text are the ids of the whole, if it was cut as `octavo.data.pieces` does it.
        """
        return self.encode_array(pieces)

    @abstractmethod
    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """A stream that takes ids one by one and gives the text as soon as it is certain, behind that of others."""

    @abstractmethod
    def unknown_bytes(self, text: str) -> int:
        """How many bytes of this text, in UTF-8, its ids do not tell."""

    def save(self, folder: Path, *, context: int | None = None) -> None:
        """Write tokenizer.json and tokenizer_config.json, which Hugging Face's AutoTokenizer opens with the same ids.

        Raises `SaveError` where that cannot be done.
        """
        settings = {
            # any other class would replace the pre-tokenizer by its own and give other ids without a word
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            # a chat template writes special tokens as text and wants them read as such
            "split_special_tokens": "chat_template" not in self.settings,
            **self.settings,
        }
        if context is not None:
            settings["model_max_length"] = context
        with saving(Path(folder)):
            make_folder(Path(folder))
        write_file(Path(folder) / "tokenizer.json", self.backend.to_str(pretty=True))
        write_file(Path(folder) / "tokenizer_config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def checked_text(text: str) -> str:
    """The text as it is; what is not a `str`, or has a lone surrogate in it, raises `TokenizerError`.

    >>> checked_text("half a \\ud83d pair")
    Traceback (most recent call last):
    octavo.errors.TokenizerError: U+D83D at position 7 is half of a surrogate pair, no character; replace it first
    """
    if not isinstance(text, str):
        raise TokenizerError(f"{text!r:.80} is not a text; give a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X} at position {error.start}"
        raise TokenizerError(f"{half} is half of a surrogate pair, no character; replace it first") from None
    return text


def check_vocab_size(vocab_size: int, least: int, why: str) -> None:
    """Refuse a size that is not a whole number from `least` to the largest that octavo handles."""
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int):
        raise TokenizerError(f"vocab_size is {vocab_size!r}; give a whole number")
    if vocab_size < least:
        raise TokenizerError(f"vocab_size {vocab_size} is too small for {why}; give at least {least}")
    if vocab_size > LARGEST_VOCABULARY:
        raise TokenizerError(f"vocab_size {vocab_size} is too large; give at most {LARGEST_VOCABULARY}")


def pieces_of(texts: str | Iterable[str]) -> Iterable[str]:
    """The pieces of a text, of which there is one if it comes as a whole."""
    return [texts] if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable) else texts


def groups(pieces: Iterable[str]) -> Iterator[list[str]]:
    """The pieces by and by, as many at a time as make about four million characters."""
    group: list[str] = []
    size = 0
    for piece in pieces:
        group.append(checked_text(piece))
        size += len(piece)
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group
