"""What loss a training will come to: the surprise of n-grams counted in its own text, bent by what trainings taught.

A text is as hard to learn as it is hard to count. `benchmarks/forecast.py` trained models of several sizes on several
texts and fitted the line that leads from the one to the other; `benchmarks/forecast.jsonl` holds what it saw.
"""

from dataclasses import dataclass
from math import log, sqrt

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


def forecast(config: RunConfig, learned: np.ndarray, held_out: np.ndarray) -> Forecast | None:
    """The loss that a training on these tokens will come to; `None` for a recipe of which nothing was measured.

    Nothing was of GPT-2's dialect, and of very few steps.
    """
    train, context = config.train, config.model.context
    if config.model.dialect != "modern" or train.optimizer != "muon" or train.steps < FEWEST:
        return None
    tokens = train.steps * train.batch * context
    return expect(count(learned, held_out, tokens), tokens, len(learned) - 1, context)


def count(learned: np.ndarray, held_out: np.ndarray, tokens: int) -> Counted:
    """Look at a text as a training that reads so many tokens of it will."""
    size, looked_at = min(len(learned), tokens, COUNTED), spread(held_out, LOOKED_AT)
    whole, quarter = (min(surprise(spread(learned, part), looked_at, ORDER)) for part in (size, max(1, size // 4)))
    return Counted(whole, quarter)


def features(counted: Counted, tokens: int, different: int, context: int) -> list[float]:
    """What the loss is linear in; `different` tokens are read `tokens / different` times.

    Beside the surprise itself: how it falls with what was read, with how far the model sees, and rises with reading
    the same again; and how much the text still taught when a quarter of it had been counted.
    """
    nats, again = counted.nats, max(1.0, tokens / different)
    return [
        1.0,
        nats,
        nats * log(tokens / 1e6),
        nats * log(context / 64),
        nats * log(again),
        counted.nats_from_quarter - nats,
    ]


def expect(counted: Counted, tokens: int, different: int, context: int) -> Forecast:
    """The fitted line, at this place. A short text holds little out, and what that says depends on chance."""
    values = features(counted, tokens, different, context)
    loss = max(LEAST, sum(weight * value for weight, value in zip(WEIGHTS, values, strict=True)))
    return Forecast(loss, loss * doubt(different))


def doubt(different: int) -> float:
    """How far off the line is for a text of so many tokens that it was not fitted to, per nat of loss."""
    return OFF * sqrt(1 + NOISY / different)


WEIGHTS = (0.1186, 0.8254, -0.0517, -0.0642, 0.0076, 0.8443)
OFF = 0.0273
NOISY = 300_000
LEAST = 0.01  # nats: a text that says the same for ever is learned to the end
