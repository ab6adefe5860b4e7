"""Conversations to learn from, as they are written for the model that will answer: text, and special tokens apart."""

from collections.abc import Iterator, Sequence
from datetime import date

from octavo.chat import Message, Spelling
from octavo.data.pieces import cut_pieces

DAY = date(2024, 7, 26)  # what templates that write a date are told it is: a text is the same on every day


class Marked(str):
    """A piece of text with special tokens before and behind it; they are no text, and none counts a character."""

    before: tuple[str, ...]
    after: tuple[str, ...]


def spoken(messages: Sequence[Message], spelling: Spelling) -> Iterator[Marked]:
    """A conversation, every turn of it whole, in pieces.

    Raises `TextError` and `TokenizerError` where the model's template does not take it.

    >>> from octavo.chat import OWN
    >>> [(piece.before, str(piece), piece.after) for piece in spoken([{"role": "user", "content": "Hi."}], OWN)]
    [(('<|im_start|>',), 'user\\nHi.', ()), (('<|im_end|>',), '\\n', ())]
    """
    marks: list[str] = []
    last: Marked | None = None
    for text, special in spelling.parts(messages, answering=False, today=DAY):
        if special:
            marks.append(text)
            continue
        for piece in cut_pieces([text]):
            if last is not None:
                yield last
            last = Marked(piece)
            last.before, last.after, marks = tuple(marks), (), []
    if last is not None:
        last.after = tuple(marks)
        yield last
