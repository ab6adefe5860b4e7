"""What kind of text it is: the script it is written in, and how much of it was said before."""

import unicodedata
from collections import Counter

import numpy as np

WINDOW = 64  # tokens in a row that are the same as others: that is no chance
ENOUGH = 2_000_000  # tokens to look at


def script(text: str) -> str:
    """The script that most letters of a text are of, by its name in Unicode; nothing where there are no letters.

    >>> script("Χαῖρε, world!"), script("Χαῖρε!"), script("1 + 1 = 2")
    ('Greek and Latin', 'Greek', '')
    """
    counts = Counter(unicodedata.name(sign, "").split(" ")[0] for sign in text if sign.isalpha())
    often = [name for name, count in counts.most_common(2) if count > 0.1 * counts.total() and name]
    return " and ".join(name if name == "CJK" else name.title() for name in often)


def repeated(tokens: np.ndarray) -> float:
    """The share of a text, from 0 to 1, that stands in it once more, in the same words for `WINDOW` tokens.

    >>> repeated(np.arange(10_000) % 5_000)
    0.5
    """
    hashes = np.sort(windows_hashed(tokens[:ENOUGH]))
    same = np.count_nonzero(hashes[1:] == hashes[:-1])
    return round(float(same) / max(1, len(hashes)), 2)


def known(learned: np.ndarray, held_out: np.ndarray) -> float:
    """The share of a held-out text, from 0 to 1, that stands in what is learned from, in the same words.

    >>> known(np.arange(5_000), np.arange(2_000, 4_000)), known(np.arange(5_000), np.arange(6_000, 7_000))
    (1.0, 0.0)
    """
    asked, there = (np.sort(windows_hashed(tokens[:ENOUGH])) for tokens in (held_out, learned))
    if not len(asked) or not len(there):
        return 0.0
    at = np.searchsorted(there, asked)  # np.isin takes far longer
    return round(float(np.mean(there[np.minimum(at, len(there) - 1)] == asked)), 2)


def windows_hashed(tokens: np.ndarray) -> np.ndarray:
    """A hash of each window of a text: that of two halves is made of theirs, so six steps are enough."""
    hashes, length, factor = tokens.astype(np.uint64) + np.uint64(1), 1, 0x9E3779B97F4A7C15
    while length < WINDOW and len(hashes) > length:
        hashes = hashes[:-length] * np.uint64(factor) + hashes[length:]
        length, factor = 2 * length, factor * factor % 2**64
    return hashes if length == WINDOW else hashes[:0]
