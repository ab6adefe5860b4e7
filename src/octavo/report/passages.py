"""Which passages of the held-out text were the easiest to foretell, and which the hardest."""

import numpy as np

from octavo.data import Part
from octavo.report.findings import Passage
from octavo.report.readings import Weighed
from octavo.tokenizers import Tokenizer

LENGTH = 160  # bytes of a passage, about: two lines
SHOWN = 3


def extremes(weighed: Weighed, part: Part, tokenizer: Tokenizer) -> tuple[tuple[Passage, ...], tuple[Passage, ...]]:
    """The easiest and the hardest stretches of about `LENGTH` bytes, none of them overlapping another of its kind."""
    count = min(len(weighed.bits), max(1, round(LENGTH * len(weighed.bits) / part.bytes)))
    bits, sizes = (_sums(values, count) for values in (weighed.bits, weighed.bytes))
    each = np.where(sizes > 0, bits / np.maximum(sizes, 1e-9), np.nan)

    def shown(start: int) -> Passage:
        tokens = part.tokens[start + 1 : start + 1 + count]
        text = tokenizer.decode(tokens, special=True).strip("\ufffd")  # the rest of a character that it cuts in two
        return Passage(text, float(each[start]), start + 1)

    told = int(np.isfinite(each).sum())  # what is not stands behind all others
    easiest, hardest = (_apart(order[:told], count, len(each)) for order in (np.argsort(each), np.argsort(-each)))
    return tuple(map(shown, easiest)), tuple(map(shown, hardest))


def _sums(values: np.ndarray, count: int) -> np.ndarray:
    """The sum of each stretch of so many.

    >>> _sums(np.array([1.0, 2.0, 3.0]), 2).tolist()
    [3.0, 5.0]
    """
    before = np.concatenate([[0.0], np.cumsum(values)])
    return before[count:] - before[:-count]


def _apart(order: np.ndarray, count: int, starts: int) -> list[int]:
    """The first few of these starts whose stretches do not overlap."""
    chosen: list[int] = []
    free = np.ones(starts, bool)
    for start in order.tolist():
        if free[start]:
            chosen.append(start)
            free[max(0, start - count + 1) : start + count] = False
        if len(chosen) == SHOWN:
            break
    return chosen
