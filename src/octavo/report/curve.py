"""Where other sizes lead: the loss to expect of trainings that read less of the same text, or more of it."""

from math import log

import numpy as np

from octavo.config import RunConfig
from octavo.data import Part, Prepared
from octavo.forecast import FEWEST, count, expect, told_pairs
from octavo.readings import MOST, pairs
from octavo.report.findings import Further
from octavo.shapes import sight

TIMES = (0.25, 1.0, 4.0, 16.0)


def curve(config: RunConfig, prepared: Prepared, part: Part) -> tuple[Further, ...]:
    """What the planner's forecast says of as many times the tokens, each read by a model that sees as far as this one.

    Nothing where the plan of the training had no forecast, or it has made so few steps that there would be none. More
    tokens are left out where the text would be read more often for them than was ever worth its time.
    """
    train, learned = config.train, prepared.train.tokens
    if train.forecast is None or train.steps < FEWEST:
        return ()
    read = train.steps * train.batch * config.window
    most = max(read, MOST * (len(learned) - 1))
    tokens = {times: int(times * read) for times in TIMES if times * read <= most}
    return tuple(_further(times, read, config, learned, part) for times, read in tokens.items())


def _further(times: float, tokens: int, config: RunConfig, learned: np.ndarray, part: Part) -> Further:
    different, words = len(learned) - 1, config.model.vocab_size
    told = expect(count(learned, part.tokens, tokens), tokens, different, sight(config))
    if not config.model.tied and pairs(tokens, words, different) is not None:
        told = told_pairs(told, tokens, words)
    bits = told.loss / log(2) * (len(part.tokens) - 1) / part.bytes
    return Further(times, tokens, told.loss, told.within, bits)
