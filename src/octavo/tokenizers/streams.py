"""Text that appears while its tokens are still being chosen: pieces that never break a character."""

from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence
from typing import Protocol

from tokenizers import Tokenizer as Backend
from tokenizers.decoders import DecodeStream


class TextStream(Protocol):
    """Takes tokens one by one and gives the text that is certain by now; all its pieces join to the decoded text."""

    def push(self, token: int) -> str:
        """Take the next token; give the characters that are complete with it, perhaps none yet."""
        ...

    def finish(self) -> str:
        """Say that no token follows; give what was held back."""
        ...


class WholeStream:
    """For tokens that are whole characters or words: nothing ever waits."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode

    def push(self, token: int) -> str:
        """The token's own text."""
        return self._decode([token])

    def finish(self) -> str:
        """Nothing: everything was given."""
        return ""


class ByteStream:
    """For tokens that are bytes: those of an unfinished character wait for the rest of it."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that the token's bytes complete."""
        return self._decoder.decode(self._token_bytes(token))

    def finish(self) -> str:
        """U+FFFD if a character was never completed, as in the text decoded at once."""
        return self._decoder.decode(b"", final=True)


class BackendStream:
    """For decoders that look at neighbouring tokens, as those made with SentencePiece do: the library's own stream."""

    def __init__(self, backend: Backend, decode: Callable[[Sequence[int]], str]) -> None:
        self._backend = backend
        self._decode = decode
        self._stream = DecodeStream(skip_special_tokens=True)
        self._tokens: list[int] = []
        self._given = 0

    def push(self, token: int) -> str:
        """The text that is certain with this token."""
        self._decode([token])  # refuses an id that no token has
        self._tokens.append(token)
        piece = self._step(token)
        self._given += len(piece)
        return piece

    def _step(self, token: int) -> str:
        try:
            piece: str = self._stream.step(self._backend, token) or ""
            return piece
        except Exception:  # the library has no narrower type
            # a byte that is no text made none of the characters beside it either, which are given already: they stay
            self._stream = DecodeStream(skip_special_tokens=True)
            self._stream.step(self._backend, token)
            return self._decode(self._tokens)[self._given :]

    def finish(self) -> str:
        """What the decoded text has beyond the pieces given."""
        return self._decode(self._tokens)[self._given :]
