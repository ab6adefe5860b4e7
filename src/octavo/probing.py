"""What a training step of given sizes takes on this machine: measured in seconds, estimated in memory."""

import time
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import NoReturn

import torch

from octavo.config import LOGITS, RunConfig
from octavo.data.batches import cuts, more_pieces
from octavo.errors import ConfigError, UpdateError
from octavo.making import make_model, prepare_to_learn
from octavo.optim import make_optimizers
from octavo.parallel import Spread
from octavo.repeating import PLAIN, Repeated
from octavo.scale import PER_LOGIT, Way, activations, gathered, held, muon_work, parameters, work_per_token
from octavo.speed import peak

PER_PARAMETER = 20  # bytes: the weight, its gradient, its momentum, its change, and its cast for one step
SHARE = 0.6  # of the free memory of a CPU: what takes more of it is ended by the system, without a word
MOMENT = 5.0  # seconds of trying, after which a step is not tried again
SLOW = 10.0  # seconds of a first step, after which there is no second one to see how long it takes when it is warm
HOPED_SHARE = 0.3  # of a device's peak, of a model that cannot be tried


def work(config: RunConfig) -> float:
    """The arithmetic of one step, as far as its size goes: parameters times tokens."""
    return float(parameters(config.model)) * config.train.batch * config.window


def update_share(config: RunConfig) -> float:
    """How much of the arithmetic of a step of one row is the optimizer's: of a large model, most of Muon's step."""
    if config.train.optimizer != "muon":
        return 0.0
    update, row = muon_work(config.model), work_per_token(config.model, config.window).total * config.window
    return update / (update + row)


class TooLargeError(ConfigError):
    """A training that does not fit into the memory here."""


@dataclass(frozen=True)
class Room:
    """The memory that each of some processes has for a training: free bytes, or `None` where nothing tells.

    In parts, each keeps its share of the model's state; its share of the rows it reads either way. `gathered`, it has
    the weights and their gradients whole besides, for all of a step, so many times.
    """

    free: int | None = None
    processes: int = 1
    in_parts: bool = False
    gathered: int = 0

    def holds(self, config: RunConfig) -> bool:
        """Whether a step fits; of one process on a GPU it is seen when it is tried."""
        told = self.free is not None and (config.train.device == "cpu" or self.processes > 1)
        return not told or step_memory(config, self) <= SHARE * (self.free or 0)


ONE = Room()


def step_memory(config: RunConfig, room: Room = ONE) -> int:
    """About how many bytes a step takes at its height, in each process.

    A GPU keeps what the arithmetic of `scale` says, a little less. A CPU keeps more: its kernels have fewer of the
    steps in one, and what one has freed is not at once another's.
    """
    model, train, size = config.model, config.train, getattr(torch, config.train.dtype).itemsize
    tokens = -(-train.batch // (train.micro_batches * room.processes)) * config.window
    whole = room.gathered * gathered(model, size)
    if train.device == "cuda":
        state = held(model, train.optimizer, Way(room.processes, sharded=room.in_parts), size)
        return state + whole + activations(model, tokens, recompute=train.recompute, size=size)
    kept = 40 + 25 * size  # for the way back, per token, layer and number of its width
    blocks, streams = (1, model.layers) if train.recompute else (model.layers, 0)
    per_token = kept * blocks * model.width + size * streams * model.width
    state = PER_PARAMETER * parameters(model) // (room.processes if room.in_parts else 1)
    return state + whole + tokens * per_token + PER_LOGIT * min(LOGITS, tokens * model.vocab_size)


def fit_into(config: RunConfig, room: Room) -> RunConfig | None:
    """The same training, its batch read in as many pieces as it must be; `None` where a single row is too much."""
    found: RunConfig | None = config
    while found and not room.holds(found):
        found = halved(found, room.processes)
    return found


def refuse(config: RunConfig, room: Room) -> NoReturn:
    """Raise `TooLargeError` with what a single row would take, each block computed again."""
    row = replace(config, train=replace(config.train, micro_batches=config.train.batch, recompute=True))
    raise TooLargeError(
        f"to learn from a row takes about {step_memory(row, room) / 1e9:.1f} GB "
        f"and {(room.free or 0) / 1e9:.1f} GB are free, "
        f"of which at most {SHARE:.0%} are taken; ask for a smaller --context, --width or --layers"
    )


def probe(config: RunConfig, room: Room = ONE, steps: int = 3) -> tuple[float, RunConfig]:
    """Seconds a training step takes here, the median of a few once it is warm; and in how many pieces it fits.

    A slow one is not tried again and again. Of several processes each takes its share of the rows. What no process
    holds whole cannot be tried in one: its time is told by its arithmetic. Raises `torch.OutOfMemoryError` where not
    even a single row fits.
    """
    whole = Room(room.free, room.processes)
    if room.in_parts and not whole.holds(config):
        return reckoned(config) / room.processes, config
    while True:
        rows = -(-config.train.batch // room.processes)
        own = replace(config.train, batch=rows, micro_batches=min(rows, config.train.micro_batches))
        try:
            return _measure(replace(config, train=own), steps, alone=room.processes == 1), config
        except torch.OutOfMemoryError:
            less = halved(config, room.processes) or recomputed(config)
            if less is None:
                raise
            config = less


def step_time(config: RunConfig) -> tuple[float, bool]:
    """Seconds that a step takes here, and whether that was tried: one that lasts is told by its arithmetic."""
    expected = reckoned(config)
    return (probed(config)[0], True) if expected < MOMENT else (expected, False)


def probed(config: RunConfig, room: Room = ONE) -> tuple[float, RunConfig]:
    """Seconds that a step takes here, and in how many pieces it fits. Raises `TooLargeError` where it does not."""
    try:
        return probe(config, room)
    except torch.OutOfMemoryError:
        raise TooLargeError(
            f"{config.train.device} has not enough memory for a row of {config.window} tokens; "
            "ask for a smaller --context, --width or --layers"
        ) from None


def reckoned(config: RunConfig) -> float:
    """Seconds that a step takes by its arithmetic, at a share of the device's peak that may be hoped for."""
    train = config.train
    work = work_per_token(config.model, config.window).total * train.batch * config.window
    return work / (peak(train.device, train.dtype) * HOPED_SHARE)


def halved(config: RunConfig, processes: int = 1) -> RunConfig | None:
    """The same training, its batch read in pieces half as large; `None` where a piece is a single row already."""
    pieces = more_pieces(max(1, config.train.batch // processes), config.train.micro_batches)
    return None if pieces is None else replace(config, train=replace(config.train, micro_batches=pieces))


def recomputed(config: RunConfig) -> RunConfig | None:
    """The same training, each block computed again on the way back; `None` where that is done already."""
    return None if config.train.recompute else replace(config, train=replace(config.train, recompute=True))


def _measure(config: RunConfig, steps: int, *, alone: bool) -> float:
    train, device = config.train, torch.device(config.train.device)
    model = prepare_to_learn(make_model(config), config)
    with torch.random.fork_rng(devices=[]):
        tokens = torch.randint(config.model.vocab_size, (train.batch, config.window), device=device)
    optimizers = make_optimizers(model, train)
    pieces = [(tokens[start:stop],) * 2 for start, stop in pairwise(cuts(train.batch, train.micro_batches))]
    seeds = [0] * len(pieces)
    repeated = Repeated(Spread(model, getattr(torch, train.dtype)), optimizers, train.clip)
    if not alone:  # several processes take each step as it is
        repeated.give_up()

    def step() -> float:
        begin = time.perf_counter()
        try:
            repeated.step(pieces, rate=1.0, seeds=seeds)
        except UpdateError:  # of weights that nobody needs
            raise torch.OutOfMemoryError from None
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    for _ in range(1 + PLAIN * repeated.works):
        if (cold := step()) > SLOW:
            return cold
    times = [step()]
    while len(times) < steps and sum(times) < MOMENT:
        times.append(step())
    return median(times)
