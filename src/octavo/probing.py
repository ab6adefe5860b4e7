"""What a training step of given sizes takes on this machine: measured in seconds, estimated in memory."""

import time
from dataclasses import replace
from itertools import pairwise
from statistics import median

import torch

from octavo.config import LOGITS, RunConfig
from octavo.data.batches import cuts, more_pieces
from octavo.making import make_model, prepare_to_learn
from octavo.optim import make_optimizers
from octavo.scale import PER_LOGIT, parameters
from octavo.step import training_step

PER_PARAMETER = 20  # bytes: the weight, its gradient, its momentum, its change, and its cast for one step
SHARE = 0.6  # of the free memory of a CPU: what takes more of it is ended by the system, without a word


def work(config: RunConfig) -> float:
    """The arithmetic of one step, as far as its size goes: parameters times tokens."""
    return float(parameters(config.model)) * config.train.batch * config.window


def step_memory(config: RunConfig) -> int:
    """About how many bytes a step takes at its height."""
    model, train = config.model, config.train
    kept = 40 + 25 * getattr(torch, train.dtype).itemsize  # for the way back, per token, layer and number of its width
    blocks, streams = (1, model.layers) if train.recompute else (model.layers, 0)
    tokens = -(-train.batch // train.micro_batches) * config.window
    streamed = getattr(torch, train.dtype).itemsize * streams * model.width
    per_token = kept * blocks * model.width + streamed
    return PER_PARAMETER * parameters(model) + tokens * per_token + PER_LOGIT * min(LOGITS, tokens * model.vocab_size)


def fit_into(config: RunConfig, free: int | None) -> RunConfig | None:
    """The same training, its batch read in as many pieces as it must be; `None` where a single row is too much."""
    found: RunConfig | None = config
    while found and free is not None and config.train.device == "cpu" and step_memory(found) > SHARE * free:
        found = halved(found)
    return found


def probe(config: RunConfig, steps: int = 3) -> tuple[float, RunConfig]:
    """Seconds a training step takes here, the median of a few after one to warm up; and in how many pieces it fits.

    Raises `torch.OutOfMemoryError` where not even a single row does.
    """
    while True:
        try:
            return _measure(config, steps), config
        except torch.OutOfMemoryError:
            less = halved(config) or recomputed(config)
            if less is None:
                raise
            config = less


def halved(config: RunConfig) -> RunConfig | None:
    """The same training, its batch read in pieces half as large; `None` where a piece is a single row already."""
    pieces = more_pieces(config.train.batch, config.train.micro_batches)
    return None if pieces is None else replace(config, train=replace(config.train, micro_batches=pieces))


def recomputed(config: RunConfig) -> RunConfig | None:
    """The same training, each block computed again on the way back; `None` where that is done already."""
    return None if config.train.recompute else replace(config, train=replace(config.train, recompute=True))


def _measure(config: RunConfig, steps: int) -> float:
    train, device = config.train, torch.device(config.train.device)
    model = prepare_to_learn(make_model(config), config)
    with torch.random.fork_rng(devices=[]):
        tokens = torch.randint(config.model.vocab_size, (train.batch, config.window), device=device)
    optimizers = make_optimizers(model, train)
    pieces = [(tokens[start:stop],) * 2 for start, stop in pairwise(cuts(train.batch, train.micro_batches))]
    seeds = [0] * len(pieces)

    def step() -> float:
        begin = time.perf_counter()
        dtype = getattr(torch, train.dtype)
        training_step(model, optimizers, pieces, rate=1.0, clip=1.0, dtype=dtype, seeds=seeds)
        return time.perf_counter() - begin

    step()
    return median(step() for _ in range(steps))
