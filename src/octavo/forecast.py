"""What loss a training will come to: the surprise of n-grams counted in its own text, bent by what trainings taught.

A text is as hard to learn as it is hard to count. `benchmarks/forecast.py` trained models of several sizes on several
texts and fitted the line that leads from the one to the other; `forecast.jsonl` and `often.jsonl` beside it hold what
it saw.
"""

from dataclasses import dataclass
from math import exp, hypot, log, log2, sqrt

import numpy as np

from octavo.config import RunConfig
from octavo.ngrams import spread, surprise
from octavo.readings import OF_EACH

ORDER = 6
COUNTED = 400_000  # tokens at most
FEWEST = 100  # steps that say anything
RATES = 0.01, 0.04
LEAST = 1e-3  # nats: a text that says the same for ever leaves none
LOOKED_AT = 50_000  # tokens of the held-out text


@dataclass(frozen=True)
class Forecast:
    """The loss on held-out text, in nats per token, and how near to it two of three trainings come."""

    loss: float
    within: float


@dataclass(frozen=True)
class Counted:
    """The surprise of n-grams from as much text as will be read, in nats per token: the least, and of short ones."""

    nats: float
    one: float  # of single tokens
    two: float  # of a token after another
    half: float  # the least from half as much text, where more is read than is counted


def forecast(config: RunConfig, learned: np.ndarray, held_out: np.ndarray, sight: int) -> Forecast | None:
    """The loss that a training on these tokens will come to; `None` for a recipe of which nothing was measured.

    Nothing was of GPT-2's dialect, of very few steps, and at rates that are far from the recipe's. What the model sees
    beyond its `sight` is taken to be of no use.
    """
    train = config.train
    if config.model.dialect != "modern" or train.optimizer != "muon" or train.steps < FEWEST:
        return None
    if not RATES[0] <= train.lr <= RATES[1]:
        return None
    tokens = train.steps * train.batch * config.window
    found = expect(count(learned, held_out, tokens), tokens, len(learned) - 1, sight)
    return found if train.pairs is None else told_pairs(found, tokens, config.model.vocab_size)


def count(learned: np.ndarray, held_out: np.ndarray, tokens: int) -> Counted:
    """Look at a text as a training that reads so many tokens of it will."""
    size = min(len(learned), tokens, COUNTED)
    looked_at = spread(held_out, LOOKED_AT)
    one, two, *_ = nats = _surprised(learned, size, looked_at)
    more = min(len(learned) - 1, tokens) > COUNTED  # else nobody asks
    half = _surprised(learned, size // 2, looked_at) if more else nats
    return Counted(min(nats), one, two, half=min(half))


def _surprised(learned: np.ndarray, size: int, looked_at: np.ndarray) -> list[float]:
    return [max(LEAST, value) for value in surprise(spread(learned, size), looked_at, ORDER)]


def features(counted: Counted, tokens: int, different: int, context: int) -> list[float]:
    """What the logarithm of the loss is linear in; `different` tokens are read `tokens / different` times.

    The surprise itself; how much is read, how far the model sees, and how often it reads the same; how much of the text
    follows from what stands before it, and what of that is to be had by seeing further; what counting on would find, by
    what the second half of the counted text did, where more is read than is counted.
    """
    further = log(context / 64)
    uncounted = max(0.0, log2(min(tokens, different) / COUNTED))  # doublings
    return [
        1.0,
        log(counted.nats),
        log(tokens / 1e6),
        further,
        log(max(1.0, tokens / different)),
        log(counted.one / counted.nats),
        log(counted.two / counted.nats) * further,
        log(counted.half / counted.nats) * uncounted,
    ]


def expect(counted: Counted, tokens: int, different: int, context: int) -> Forecast:
    """The fitted line, at this place. A short text holds little out, and what that says depends on chance."""
    values = features(counted, tokens, different, context)
    loss = exp(sum(weight * value for weight, value in zip(WEIGHTS, values, strict=True)))
    return Forecast(loss, loss * doubt(different) * beyond(tokens))


def told_pairs(found: Forecast, tokens: int, vocab_size: int) -> Forecast:
    """The same for a training that begins with what was counted: the less it reads, the lower; and less surely."""
    less = min(1.0, tokens / (OF_EACH * vocab_size)) ** COUNTED_FIRST
    return Forecast(found.loss * less, found.loss * less * hypot(found.within / found.loss, COUNTED_OFF))


def doubt(different: int) -> float:
    """How far off the line is for a text of so many tokens that it was not fitted to, per nat of loss."""
    return OFF * sqrt(1 + NOISY / different)


def beyond(tokens: int) -> float:
    """By how much a forecast's uncertainty grows with what a training reads beyond those that were measured.

    >>> beyond(900_000), round(beyond(6_000_000), 1)
    (1.0, 2.4)
    """
    return 1 + max(0.0, log(tokens / MEASURED))


COUNTED_FIRST = 0.038  # the power of what is read by which counting beforehand lowers a loss (`benchmarks/early.py`)
COUNTED_OFF = 0.0357  # and how far off that is, per nat of loss
WEIGHTS = (-0.1354, 1.0176, -0.0348, -0.0287, 0.0017, 0.1637, -0.103, -0.3948)
OFF = 0.0333
NOISY = 300_000
MEASURED = 1_500_000  # tokens: few trainings read more
