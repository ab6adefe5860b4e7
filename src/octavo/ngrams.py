"""What somebody who only counts makes of a text: how surprising it is to Kneser-Ney smoothed n-grams."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 256  # tokens in a row, where a text is represented by pieces of it


def spread(tokens: np.ndarray, count: int) -> np.ndarray:
    """About so many tokens of a text, in pieces from its beginning to its end at equal distances.

    >>> spread(np.arange(2000), 512).tolist() == [*range(256), *range(1744, 2000)]
    True
    """
    if count >= len(tokens):
        return tokens
    pieces = max(1, count // BLOCK)
    starts = np.linspace(0, len(tokens) - min(BLOCK, len(tokens)), pieces).astype(np.int64)
    return np.concatenate([tokens[start : start + BLOCK] for start in starts])


def surprise(learned: np.ndarray, held_out: np.ndarray, order: int) -> list[float]:
    """Mean nats per token of a text to the unigrams, bigrams, … of another, up to this order  [Chen 1999, eq. 19].

    An n-gram's count is lowered by a discount, and what that frees goes by the shorter n-gram, which counts not how
    often a token occurred but after how many different ones [Kneser 1995]. Neither text may be empty.

    >>> counted = surprise(np.array([0, 1, 2] * 50), np.array([0, 1, 2] * 5), order=2)
    >>> [round(nats, 1) for nats in counted]
    [1.1, 0.0]
    """
    text = np.concatenate([learned, held_out]).astype(np.int64)
    told = np.full(len(held_out), 1 / (int(text.max()) + 1))
    found = []
    grams = list(_grams(text, order))
    for index, gram in enumerate(grams):
        everywhere = np.arange(len(learned))
        found.append(float(-np.log(_told(gram, everywhere, told)).mean()))
        if index + 1 < order:
            kinds = np.unique(grams[index + 1].ids[: len(learned)], return_index=True)[1]
            told = _told(gram, kinds, told)
    return found


class Grams(NamedTuple):
    """For each place of a text, which n-gram ends there, and which context of one token less stands before it."""

    ids: np.ndarray
    contexts: np.ndarray


def _grams(text: np.ndarray, order: int) -> Iterator[Grams]:
    contexts, size = np.zeros(len(text), np.int64), int(text.max()) + 1
    for _ in range(order):
        ids = np.unique(contexts * size + text, return_inverse=True)[1]
        yield Grams(ids, contexts)
        contexts = np.concatenate([[ids.max() + 1], ids[:-1]])  # nothing stands before the first


def _told(gram: Grams, places: np.ndarray, shorter: np.ndarray) -> np.ndarray:
    """The probability of each token at the end of the text, by what was counted at these places of it."""
    here, before = gram.ids[places], gram.contexts[places]
    counts = np.bincount(here, minlength=int(gram.ids.max()) + 1)
    contexts = int(gram.contexts.max()) + 1
    totals = np.bincount(before, minlength=contexts)
    kinds = np.bincount(before[np.unique(here, return_index=True)[1]], minlength=contexts)
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    discount = once / (once + 2 * twice) if once else 0.5
    ids, context = gram.ids[-len(shorter) :], gram.contexts[-len(shorter) :]
    total = np.maximum(totals[context], 1)
    freed = np.where(totals[context] > 0, discount * kinds[context] / total, 1.0)
    return np.maximum(counts[ids] - discount, 0) / total + freed * shorter
