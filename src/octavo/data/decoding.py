"""Bytes become text in pieces of bounded size: the encoding is told by a byte order mark, else it is UTF-8."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Literal

from octavo.data.packed import PackedError, read_bytes
from octavo.errors import TextError

Errors = Literal["strict", "replace"]

_MARKS = (  # the longer ones first: UTF-16's mark begins UTF-32's
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)


class BinaryError(TextError):
    """A file that is no text: it holds a zero character."""


class EncodingError(TextError):
    """A text whose bytes are not what its encoding allows."""


def shown(path: Path) -> str:
    """A path as one line can show it, whatever characters are in it.

    >>> shown(Path("two\\nlines")), shown(Path("می\\u200cخواهم")) == "می\\u200cخواهم"
    ('two?lines', True)
    """
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else "?" for c in str(path))


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Whatever keeps a file from being read becomes one line with its name."""
    try:
        yield
    except FileNotFoundError:
        raise TextError(f"no such file: {name}; check the spelling") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TextError(f"{name} cannot be read: {reason}; choose a file you may read") from None


def read_text(path: Path, name: str, errors: Errors = "strict") -> Iterator[str]:
    """Yield the text of a file in chunks, every character kept, line ends too; only a byte order mark is left out.

    Raises `EncodingError` with the byte offset at bytes that are no text in the file's encoding (with
    errors="replace" they become U+FFFD), `BinaryError` at a zero character, `TextError` where the file cannot be read.
    """
    with reading(name):
        yield from _decoded(read_bytes(path, name), name, errors)


def decoded(content: bytes) -> str:
    """All of a text at once, without its byte order mark; bytes that are no text become U+FFFD.

    >>> decoded("Ada".encode("utf-16")), decoded("Ada".encode("utf-8-sig"))
    ('Ada', 'Ada')
    """
    mark, codec, _ = _marked(content)
    return content[len(mark) :].decode(codec, errors="replace")


def _marked(start: bytes) -> tuple[bytes, str, str]:
    """The byte order mark that a text begins with, and the encoding that it tells: the codec's name, and ours."""
    return next((mark for mark in _MARKS if start.startswith(mark[0])), (b"", "utf-8", "UTF-8"))


def _decoded(chunks: Iterator[bytes], name: str, errors: Errors) -> Iterator[str]:
    start = next(chunks, b"")
    mark, codec, encoding = _marked(start)
    decoder = codecs.getincrementaldecoder(codec)(errors)
    read = len(mark)
    for chunk in chain([start[len(mark) :]], chunks, [b""]):  # the empty one says that there is no more
        read += len(chunk)
        if codec == "utf-8" and b"\0" in chunk:  # said before anything about UTF-8, which a picture is not either
            raise _binary(name)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            offset = read - len(error.object) + error.start  # the decoder may have kept bytes of earlier chunks
            raise EncodingError(
                f"{name} is not valid {encoding} at byte {offset}; save it as UTF-8, or use --errors replace and "
                "lose what is none"
            ) from None
        if "\0" in text:
            raise _binary(name)
        if text:
            yield text


def _binary(name: str) -> BinaryError:
    return BinaryError(f"{name} is a binary file (it holds zero bytes); give a text, or leave it out")


def is_text(path: Path, errors: Errors) -> bool:
    """Whether a file begins as a text, and has any: only its first chunk is read, at every start.

    What begins so and is none further on is refused by its name when it is read. Raises `PackedError` where the
    beginning cannot be seen: what is packed was meant to be read.
    """
    try:
        return next(read_text(path, shown(path), errors), None) is not None
    except PackedError:
        raise
    except TextError:
        return False
