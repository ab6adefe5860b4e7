"""A vocabulary of byte sequences, grown by joining the most frequent pair again and again [Sennrich 2016]."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, Self

from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from octavo.errors import TokenizerError
from octavo.tokenizers.base import END_OF_TEXT, Ids, Tokenizer, check_vocab_size, checked_text, pieces_of
from octavo.tokenizers.files import read_object, read_text
from octavo.tokenizers.prefixes import Behind, without_prefix
from octavo.tokenizers.streams import BackendStream, ByteStream, TextStream
from octavo.tokenizers.turns import TURNS, template_of

BYTES = 256
BEFORE = 8  # tokens: the bytes of a character may be one each, and what SentencePiece writes depends on a neighbour
OWN_NAMES = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)


class BPETokenizer(Tokenizer):
    """Frequent words are one token, rare ones several, and any text at all can be written: every byte is a token.

    >>> tokenizer = BPETokenizer.train(["low lower lowest"], vocab_size=260)
    >>> tokenizer.decode(tokenizer.encode("slow 🐌"))
    'slow 🐌'
    """

    kind: Literal["bpe"] = "bpe"
    unknown: None = None

    def __init__(self, backend: Backend, settings: Mapping[str, Any] = OWN_NAMES) -> None:
        """Wrap a BPE tokenizer; `settings` are what its tokenizer_config.json says of it."""
        super().__init__(backend, settings)
        backend.model.dropout = None  # which leaves out merges by chance, for the training of translators
        name = self.settings.get("eos_token")
        self.end_of_text = None if name is None else backend.token_to_id(name)

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        *,
        vocab_size: int,
        progress: Callable[[int], None] | None = None,
        chat: bool = False,
    ) -> Self:
        """Learn a vocabulary of at most `vocab_size` from a text or its pieces.

        After each piece, `progress` is told how many bytes of text (in UTF-8) have been read. For `chat` it has tokens
        that begin and end a turn, and the chat template with them. Raises `TokenizerError` for a text with nothing in
        it and for a size below the 256 bytes and the special tokens.
        """
        special = (END_OF_TEXT, *TURNS) if chat else (END_OF_TEXT,)
        check_vocab_size(vocab_size, BYTES + len(special), f"the {BYTES} bytes beside {' and '.join(special)}")
        backend = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            show_progress=False,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        reading = _reading(pieces_of(texts), progress or (lambda done: None))
        backend.train_from_iterator(reading, trainer)
        return cls(backend, {**OWN_NAMES, **template_of(special)})

    @classmethod
    def from_gpt2(cls, encoder: bytes | Path, bpe: bytes | Path) -> Self:
        """GPT-2's own vocabulary, from the contents of its encoder.json and vocab.bpe or from where they lie.

        Raises `TokenizerError` if they are not a vocabulary and its merges.
        """
        vocabulary = read_object(_content(encoder), "encoder.json")
        lines = [line for line in _content(bpe).split("\n") if line and not line.startswith("#version")]
        merges = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
        try:
            backend = _byte_level(models.BPE(vocabulary, merges))
        except Exception as error:  # the library has no narrower type
            reason = str(error).split("\n")[0]
            raise TokenizerError(
                f"encoder.json and vocab.bpe do not fit together ({reason}); fetch both again"
            ) from None
        if END_OF_TEXT not in vocabulary:
            raise TokenizerError(f"encoder.json has no {END_OF_TEXT}; fetch GPT-2's own")
        backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
        return cls(backend)

    def encode_pieces(self, pieces: Sequence[str], behind: Sequence[Behind]) -> list[Ids]:
        """The ids of pieces of longer texts; a space that is put before a text is not put before what is within it."""
        if not self._bare:
            return self.encode_array(pieces)
        found: list[Ids] = []
        for place, side_by_side in groupby(zip(pieces, behind, strict=True), key=itemgetter(1)):
            found += self._bare.get(place, self).encode_array([piece for piece, _ in side_by_side])
        return found

    @cached_property
    def _bare(self) -> "dict[Behind, BPETokenizer]":
        """What encodes in its place where no space is put before a piece."""
        places: tuple[Behind, ...] = ("text", "special")
        found = {place: without_prefix(self.backend, place) for place in places}
        return {place: BPETokenizer(bare, self.settings) for place, bare in found.items() if bare is not None}

    def stream(self, after: Sequence[int] = ()) -> TextStream:
        """A stream in which the bytes of an unfinished character wait for the rest of it."""
        byte_level = isinstance(self.backend.decoder, decoders.ByteLevel)
        stream: TextStream = ByteStream(self.token_bytes) if byte_level else BackendStream(self.backend, self.decode)
        for token in after[-BEFORE:]:
            stream.push(token)
        return stream

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for, where its text has others before it; none for a special token.

        Raises `TokenizerError` for an id that no token has.
        """
        (token,) = self._checked([token])
        name = "" if token in self.special_ids.values() else self.backend.id_to_token(token) or ""
        if self._spaced:
            byte = BYTE_NAME.fullmatch(name)
            return bytes.fromhex(byte[1]) if byte else name.replace("▁", " ").encode()
        try:
            return bytes(BYTE_OF[character] for character in name)
        except KeyError:  # an added token is written in plain characters
            return name.encode()

    def unknown_bytes(self, text: str) -> int:
        """None, unless somebody else's vocabulary lacks bytes (SmolLM2's lacks 0x04, for one): they get lost."""
        content = checked_text(text).encode()
        return len(content) - len(content.translate(None, self._lacking))

    @cached_property
    def _lacking(self) -> bytes:
        if not isinstance(self.backend.decoder, decoders.ByteLevel):
            return b""
        return bytes(byte for character, byte in BYTE_OF.items() if self.backend.token_to_id(character) is None)

    @cached_property
    def _spaced(self) -> bool:
        """Whether spaces and bytes are written as SentencePiece does it: ▁ and <0x20>."""
        decoder = self.backend.decoder
        return decoder is not None and decoder.decode(["a", "▁"]) == "a "


def _byte_level(model: models.BPE) -> Backend:
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _reading(texts: Iterable[str], progress: Callable[[int], None]) -> Iterator[str]:
    done = 0
    for piece in texts:
        done += len(checked_text(piece).encode())
        yield piece
        progress(done)
    if not done:
        raise TokenizerError("the text is empty, so nothing can be learned from it; give at least one character")


def _content(source: bytes | Path) -> str:
    if isinstance(source, Path):
        return read_text(source)
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"the vocabulary is not UTF-8 at byte {error.start}; fetch it again") from None


def _byte_characters() -> dict[str, int]:
    """Which character GPT-2 writes for each byte: its own where that can be seen, else one from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(BYTES) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


BYTE_OF = _byte_characters()
BYTE_NAME = re.compile("<0x([0-9A-F]{2})>")
