"""What loss a training will come to: the surprise of n-grams counted in its own text, bent by what trainings taught.

A text is as hard to learn as it is hard to count. `benchmarks/forecast.py` trained models of several sizes on several
texts and fitted the line that leads from the one to the other; `benchmarks/forecast.jsonl` holds what it saw.
"""

from dataclasses import dataclass
from math import exp, log

import numpy as np

from octavo.config import RunConfig
from octavo.ngrams import spread, surprise

ORDER = 6
COUNTED = 400_000  # tokens at most
FEWEST = 100  # steps that say anything
LOOKED_AT = 50_000  # tokens of the held-out text


@dataclass(frozen=True)
class Forecast:
    """The loss on held-out text, in nats per token, and how near to it two of three trainings come."""

    loss: float
    within: float


@dataclass(frozen=True)
class Counted:
    """The least surprise, in nats per token, of n-grams from as much text as will be read, and from a quarter of it."""

    nats: float
    nats_from_quarter: float


def forecast(config: RunConfig, parameters: int, learned: np.ndarray, held_out: np.ndarray) -> Forecast | None:
    """The loss that a training on these tokens will come to; `None` for a recipe of which
    nothing was measured, and for very few steps."""
    train = config.train
    if config.model.dialect != "modern" or train.optimizer != "muon" or train.steps < FEWEST:
        return None
    tokens = train.steps * train.batch * config.model.context
    return expect(count(learned, held_out, tokens), tokens, len(learned) - 1, parameters)


def count(learned: np.ndarray, held_out: np.ndarray, tokens: int) -> Counted:
    """Look at a text as a training that reads so many tokens of it will."""
    size, looked_at = min(len(learned), tokens, COUNTED), spread(held_out, LOOKED_AT)
    whole, quarter = (min(surprise(spread(learned, part), looked_at, ORDER)) for part in (size, max(1, size // 4)))
    return Counted(whole, quarter)


def features(counted: Counted, tokens: int, different: int, parameters: int) -> list[float]:
    """What the logarithm of the loss is linear in; `different` tokens are read `tokens / different` times."""
    again = log(max(1.0, tokens / different))
    return [
        1.0,
        log(counted.nats),
        log(counted.nats_from_quarter / counted.nats),
        log(tokens / 1e6),
        log(parameters / 1e6),
        again,
    ]


def expect(counted: Counted, tokens: int, different: int, parameters: int) -> Forecast:
    """The fitted line, at this place."""
    values = features(counted, tokens, different, parameters)
    loss = exp(sum(weight * value for weight, value in zip(WEIGHTS, values, strict=True)))
    return Forecast(loss, WITHIN * loss)


WEIGHTS = (-0.038, 0.88, 0.657, -0.081, 0.108, 0.076)
WITHIN = 0.05  # of the loss
