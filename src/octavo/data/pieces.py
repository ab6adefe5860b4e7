"""A text is cut into pieces where no tokenizer can tell: the ids of the pieces, joined, are those of the whole.

A space belongs to the word that follows it, and of a run of white space the last character does. GPT-2's pattern
` ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+` [Radford 2019] starts a new match there whatever came
before, and ends one there whether it sees what follows or not. So a piece ends *before* the last white space in front
of a word. Before a single space is best: Qwen's and Llama's patterns tie a line end to the punctuation before it, and
a word tokenizer takes spaces side by side as one.
"""

import re
from collections.abc import Iterable, Iterator

LIMIT = 16_384  # characters: at most 64 KiB in UTF-8

_SPACE = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # white space to every regex engine
_OTHER = r"[^\s\u180e\u200b]"  # white space to none of them: Unicode and Python differ on a few control characters
# where to cut, as late as possible; and what is quickly looked for first, for there may be no such place at all
_PLACES = tuple(
    (re.compile(sign), re.compile(rf"(?s:.+){place}"))
    for sign, place in (
        (rf" (?<!  ){_OTHER}", rf"(?<! )(?= {_OTHER})"),
        (rf"{_SPACE}{_OTHER}", rf"(?={_SPACE}{_OTHER})(?!(?<= ) )"),
        (rf"{_SPACE}{_OTHER}", rf"(?={_SPACE}{_OTHER})"),
        # scripts that put no spaces between their words
        (r"[。、，．！？；：](?<=[^\W\d_].)(?s:.)", r"(?<=[^\W\d_])(?=[。、，．！？；：](?s:.))"),
    )
)


def cut_pieces(texts: Iterable[str], limit: int = LIMIT) -> Iterator[str]:
    """Join texts and cut them anew into pieces of at most `limit` characters, the same however they came.

    Where there is no white space to cut at in `limit` characters, a piece ends at the limit, and only there may the ids
    differ from those of the whole text.

    >>> list(cut_pieces(["to be or n", "ot to be"], limit=8))
    ['to be or', ' not to', ' be']
    """
    waiting = ""
    for text in texts:
        *pieces, waiting = _cut_all(waiting + text, limit, limit + 2)  # two characters tell whether a cut is safe
        yield from pieces
    yield from filter(None, _cut_all(waiting, limit, limit + 1))


def _cut_all(text: str, limit: int, enough: int) -> list[str]:
    """Pieces for as long as there is enough text to cut one from, and what is left."""
    pieces = []
    start = 0
    while len(text) - start >= enough:
        end = start + _end(text[start : start + limit + 2], limit)
        pieces.append(text[start:end])
        start = end
    return [*pieces, text[start:]]


def _end(window: str, limit: int) -> int:
    """Where to cut; the pattern that a sign rules out is not tried, for it looks at every place from the end on."""
    if window.isspace():
        return limit
    found = (place.match(window) for sign, place in _PLACES if sign.search(window))
    return next((match.end() for match in found if match), limit)
