"""How much a figure would differ on another text of the kind, and whether a model knows how much it knows."""

import numpy as np

from octavo.report.findings import Bin, Calibration, Interval
from octavo.report.readings import Readings, Weighed

DRAWS = 2000
BINS = 10


def interval(weighed: Weighed, window: int, seed: int, draws: int = DRAWS) -> Interval:
    """The middle 95 % of the bits per byte of texts put together from windows of this one  [Efron 1979].

    A text of as many windows is drawn, with repetition, again and again: Σ bits / Σ bytes of each.
    """
    edges = np.arange(0, len(weighed.bits), window)
    bits, sizes = (np.add.reduceat(values, edges) for values in (weighed.bits, weighed.bytes))
    draw = np.random.default_rng(seed)
    drawn = (draw.integers(0, len(edges), len(edges)) for _ in range(draws))
    low, high = np.quantile([bits[rows].sum() / max(1e-9, sizes[rows].sum()) for rows in drawn], [0.025, 0.975])
    return Interval(float(low), float(high), len(edges))


def calibration(readings: Readings) -> Calibration:
    """Whether the likeliest token comes as often as its probability says, in ten bins of that probability.

    The expected calibration error is Σ (tokens of a bin / all) · |right − confidence|  [Guo 2017, eq. 3].
    """
    where = np.minimum((readings.sure * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(where, minlength=BINS)
    sure, right = (np.bincount(where, values, minlength=BINS) for values in (readings.sure, readings.right))
    bins = tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            tokens=int(count),
            confidence=float(sure[number] / count) if count else None,
            right=float(right[number] / count) if count else None,
        )
        for number, count in enumerate(counts)
    )
    return Calibration(float(readings.right.mean()), float(np.abs(right - sure).sum() / len(where)), bins)
