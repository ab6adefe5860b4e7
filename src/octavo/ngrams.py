"""What somebody who only counts makes of a text: how surprising it is to Kneser-Ney smoothed n-grams."""

from collections.abc import Callable, Iterator
from itertools import chain, pairwise
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
    size = 1 + int(max(learned.max(), held_out.max()))
    return [float(nats.mean()) for nats in _surprises(learned, held_out, size, order, single_discount)]


def surprises(learned: np.ndarray, held_out: np.ndarray, vocab_size: int, order: int) -> Iterator[np.ndarray]:
    """Nats of every token of a text to the unigrams, bigrams, … of another, up to this order  [Chen 1999, section 3].

    As `surprise`, but what occurred once, twice, and more often is each lowered by a discount of its own. Beneath the
    unigrams every token of the vocabulary is as likely as any other.

    >>> [round(float(nats.sum()), 1) for nats in surprises(np.array([0, 1] * 50), np.array([0, 1] * 3), 2, order=2)]
    [4.2, 0.1]
    """
    return _surprises(learned, held_out, vocab_size, order, three_discounts)


Discounts = Callable[[np.ndarray], np.ndarray]  # from how often each n-gram occurred to what is taken off of it


def _surprises(
    learned: np.ndarray, held_out: np.ndarray, size: int, order: int, discounts: Discounts
) -> Iterator[np.ndarray]:
    text = np.concatenate([learned, held_out]).astype(np.int64)
    told = np.full(len(held_out), 1 / size)
    everywhere = np.arange(len(learned))
    for gram, longer in pairwise(chain(_grams(text, order), [None])):
        assert gram is not None  # only the last is
        yield -np.log(_told(gram, everywhere, told, discounts))
        if longer is not None:
            told = _told(gram, _one_of_each(longer.ids[: len(learned)]), told, discounts)


def single_discount(counts: np.ndarray) -> np.ndarray:
    """The same for every count: n₁ / (n₁ + 2 n₂), of how many n-grams occurred once and twice  [Kneser 1995]."""
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return np.full(len(counts), once / (once + 2 * twice) if once else 0.5)


def three_discounts(counts: np.ndarray) -> np.ndarray:
    """k − (k + 1) Y nₖ₊₁ / nₖ with Y = n₁ / (n₁ + 2 n₂), for k of 1, 2, and 3 for all above  [Chen 1999, section 3]."""
    of = np.bincount(np.minimum(counts, 5), minlength=6)  # how many n-grams occurred so often
    if not of[1:5].all():
        return single_discount(counts)
    share = of[1] / (of[1] + 2 * of[2])
    taken = [0.0, *(k - (k + 1) * share * of[k + 1] / of[k] for k in (1, 2, 3))]
    if min(taken[1:]) <= 0:  # so few were counted that nothing would be left for what was not seen
        return single_discount(counts)
    return np.array(taken)[np.minimum(counts, 3)]


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


def _told(gram: Grams, places: np.ndarray, shorter: np.ndarray, discounts: Discounts) -> np.ndarray:
    """The probability of each token at the end of the text, by what was counted at these places of it."""
    here, before = gram.ids[places], gram.contexts[places]
    counts = np.bincount(here, minlength=int(gram.ids.max()) + 1)
    contexts = int(gram.contexts.max()) + 1
    totals = np.bincount(before, minlength=contexts)
    taken = discounts(counts)
    one = _one_of_each(here)
    left = np.bincount(before[one], taken[here[one]], minlength=contexts)
    ids, context = gram.ids[-len(shorter) :], gram.contexts[-len(shorter) :]
    total = np.maximum(totals[context], 1)
    freed = np.where(totals[context] > 0, left[context] / total, 1.0)
    return np.maximum(counts[ids] - taken[ids], 0) / total + freed * shorter


def _one_of_each(ids: np.ndarray) -> np.ndarray:
    """A place where each of the ids stands, in their order."""
    place = np.full(int(ids.max()) + 1, -1)
    place[ids] = np.arange(len(ids))
    return place[place >= 0]
