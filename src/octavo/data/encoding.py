"""From pieces of text to tokens in files: read ahead, encoded on all cores, written in order, gone on with anywhere."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from octavo.data.parts import PartWriter
from octavo.data.pipeline import ahead, in_order
from octavo.data.survey import Piece, Progress
from octavo.errors import DamagedError
from octavo.tokenizers import SimpleTokenizer, Tokenizer

GROUP = 1 << 20  # characters encoded at once, for a token takes far more memory while it is being found than afterwards
AHEAD = 4  # groups that are read before they are wanted
WORKERS = 2  # groups in work: each is on all cores while it is cut into tokens, on one while those become an array


class Encoded(NamedTuple):
    """The tokens of one piece, and how many of its bytes hide behind unknown ones."""

    piece: Piece
    ids: np.ndarray
    hidden: int


class _Group(NamedTuple):
    """What is to be encoded of some pieces in a row, and the bytes of all of them."""

    pieces: list[Piece]
    bytes: int


def encode(pieces: Iterable[Piece], tokenizer: Tokenizer, writers: Sequence[PartWriter], progress: Progress) -> None:
    """Write the tokens of every piece behind those of its part, but for what the writers have from an earlier attempt.

    The files do not depend on how many cores there are, nor on where that attempt was interrupted. Raises
    `DamagedError` where that was of another text.
    """

    def work(group: _Group) -> tuple[_Group, list[Encoded]]:
        return group, list(_encoded(group.pieces, tokenizer))

    groups = _groups(pieces, [(writer.characters, writer.sha256) for writer in writers])
    for group, found in in_order(work, ahead(groups, AHEAD), WORKERS):
        for piece, ids, hidden in found:
            writers[piece.part].write(ids, len(piece.text), piece.bytes, hidden, ends=piece.ends, sha256=piece.sha256)
        progress.advance(group.bytes)


def _groups(pieces: Iterable[Piece], done: Sequence[tuple[int, bytes]]) -> Iterator[_Group]:
    """The pieces by and by, without those that were encoded before.

    `done` has for each part their characters, and the hash of what had been read when the last of them had.
    """
    left = [characters for characters, _ in done]
    group: list[Piece] = []
    size = length = 0
    for piece in pieces:
        if left[piece.part] > 0:
            left[piece.part] -= len(piece.text)
            if left[piece.part] <= 0 and piece.sha256 != done[piece.part][1]:
                raise _other_text()
        else:
            group.append(piece)
        size += piece.bytes
        length += len(piece.text)
        if length >= GROUP:
            yield _Group(group, size)
            group, size, length = [], 0, 0
    if max(left) > 0:
        raise _other_text()
    yield _Group(group, size)


def _other_text() -> DamagedError:
    return DamagedError("what was encoded before is of another text; it is encoded anew")


def _encoded(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Iterator[Encoded]:
    found = tokenizer.encode_pieces([piece.text for piece in pieces], [piece.behind for piece in pieces])
    for piece, ids in zip(pieces, found, strict=True):
        hidden = piece.bytes - int(tokenizer.token_bytes[ids].sum()) if isinstance(tokenizer, SimpleTokenizer) else 0
        before, after = ([tokenizer.special_ids[name] for name in names] for names in (piece.before, piece.after))
        if piece.ends and tokenizer.end_of_text is not None:
            after.append(tokenizer.end_of_text)
        if before or after:
            ids = np.concatenate([np.array(before, ids.dtype), ids, np.array(after, ids.dtype)])
        yield Encoded(piece, ids, hidden)
