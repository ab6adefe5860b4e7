"""Which tokens are learned from at which step: a pure function of (seed, step), and every token once per epoch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo.errors import ConfigError
from octavo.randomness import seed_for

IGNORED = -1  # a target that nothing is learned from
Rows = tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]

_ROUNDS = 6
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's own multipliers [Steele 2014]
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, eq=False)
class Batches:
    """The rows of every global batch of a training on `tokens`.

    The N - 1 pairs (token, next token) form a ring. An epoch begins somewhere in the first `context` of them and lays
    windows of `context` side by side once round the ring; what the last window has too much is ignored. The windows
    come in an order of their own in each epoch, which is computed and never stored.

    Raises `ConfigError` where the context is longer than the ring, or a size is not positive.
    """

    tokens: np.ndarray
    context: int
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if min(self.context, self.batch) < 1:
            raise ConfigError(f"context {self.context} and batch {self.batch} are too small; give at least 1")
        if self.context > self.ring:
            raise ConfigError(
                f"context {self.context} is longer than a text of {len(self.tokens)} tokens can fill; "
                f"choose at most {self.ring}"
            )

    @property
    def ring(self) -> int:
        """How many tokens are predicted in one epoch: all but the first."""
        return len(self.tokens) - 1

    @property
    def windows(self) -> int:
        """How many windows make an epoch."""
        return -(-self.ring // self.context)

    @property
    def steps_per_epoch(self) -> float:
        """How many steps it takes to see every token once."""
        return self.windows / self.batch

    def rows(self, step: int, start: int, stop: int) -> Rows:
        """Inputs and targets of the rows from `start` to `stop` of the global batch of this step, each (rows, context).

        A target of -1 is to be ignored. A batch may begin in one epoch and end in the next.

        >>> Batches(np.arange(5), context=2, batch=2, seed=0).rows(0, 0, 2)[0].shape
        (2, 2)
        """
        if not (step >= 0 and 0 <= start <= stop <= self.batch):
            raise ConfigError(f"rows {start} to {stop} of step {step} are not in a batch of {self.batch}; count from 0")
        first, last = step * self.batch + start, step * self.batch + stop
        inputs = np.zeros((stop - start, self.context), np.int64)
        targets = np.full((stop - start, self.context), IGNORED, np.int64)
        while first < last:
            epoch, index = divmod(first, self.windows)
            count = min(last - first, self.windows - index)
            here = slice(first - (step * self.batch + start), None)
            self._read(epoch, index, inputs[here][:count], targets[here][:count])
            first += count
        return inputs, targets

    def _read(self, epoch: int, index: int, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Fill in the windows that stand at `index` and after it in the order of this epoch."""
        order = permuted(np.arange(index, index + len(inputs)), self.windows, seed_for("order", self.seed, epoch))
        steps = order[:, None] * self.context + np.arange(self.context)
        place = (seed_for("offset", self.seed, epoch) % self.context + steps) % self.ring
        real = steps < self.ring
        inputs[real] = self.tokens[place[real]]
        targets[real] = self.tokens[place[real] + 1]


def permuted(indices: np.ndarray, size: int, key: int) -> np.ndarray:
    """Where each index below `size` goes in the permutation that a key names, without any other being computed.

    A Feistel network permutes the numbers of an even number of bits [Luby 1988]; one that lands beyond the end walks on
    along its cycle until it is back inside [Black 2002], on average in less than four steps.

    >>> sorted(permuted(np.arange(10), 10, key=3).tolist()) == list(range(10))
    True
    """
    return _walked(indices, size, _keys(key), _feistel)


def put_back(places: np.ndarray, size: int, key: int) -> np.ndarray:
    """Which index `permuted` has put into each place: the same walk, taken backwards.

    >>> put_back(permuted(np.arange(10), 10, key=3), 10, key=3).tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    return _walked(places, size, _keys(key)[::-1], _feistel_back)


def _keys(key: int) -> list[np.uint64]:
    return [np.uint64(seed_for("round", key, number)) for number in range(_ROUNDS)]


def _walked(numbers: np.ndarray, size: int, keys: list[np.uint64], step: Callable[..., np.ndarray]) -> np.ndarray:
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    places = step(numbers.astype(np.uint64), half, keys)
    while (outside := places >= size).any():
        places[outside] = step(places[outside], half, keys)
    return places.astype(np.int64)


def _feistel_back(numbers: np.ndarray, half: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    """A Feistel network undoes itself where its halves are exchanged and its keys come in the other order."""
    low = (np.uint64(1) << half) - np.uint64(1)
    found = _feistel(((numbers & low) << half) | (numbers >> half), half, keys)
    return ((found & low) << half) | (found >> half)


def _feistel(numbers: np.ndarray, half: np.uint64, keys: list[np.uint64]) -> np.ndarray:
    low = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & low
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & low)
    return (left << half) | right


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Spread every bit over all others, as splitmix64 ends [Steele 2014]."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * _MIX_1
    numbers = (numbers ^ (numbers >> np.uint64(27))) * _MIX_2
    return numbers ^ (numbers >> np.uint64(31))


def windows(tokens: np.ndarray, context: int, rows: int) -> Iterator[Rows]:
    """For an evaluation: windows side by side, `rows` at a time, in which every token but the first is predicted once.

    The last window is filled up with input 0 and target -1.

    >>> [targets.tolist() for _, targets in windows(np.array([5, 6, 7, 8]), context=2, rows=1)]
    [[[6, 7]], [[8, -1]]]
    """
    if min(context, rows) < 1:
        raise ConfigError(f"context {context} and rows {rows} are too small; give at least 1")
    return _windows(tokens, context, rows)


def _windows(tokens: np.ndarray, context: int, rows: int) -> Iterator[Rows]:
    predicted = len(tokens) - 1
    for start in range(0, predicted, context * rows):
        count = min(context * rows, predicted - start)
        shape = (-(-count // context), context)
        inputs, targets = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64)
        inputs.reshape(-1)[:count] = tokens[start : start + count]
        targets.reshape(-1)[:count] = tokens[start + 1 : start + count + 1]
        yield inputs, targets


def cuts(rows: int, pieces: int) -> list[int]:
    """Where to cut a batch into pieces whose sizes differ by one row at the most.

    >>> cuts(10, 4)
    [0, 2, 5, 7, 10]
    """
    return [rows * piece // pieces for piece in range(pieces + 1)]


def more_pieces(rows: int, pieces: int) -> int | None:
    """In how many pieces a batch is read when each is to be half as large; `None` where each is a row already.

    >>> more_pieces(6, 2), more_pieces(6, 4), more_pieces(6, 6)
    (4, 6, None)
    """
    return None if pieces >= rows else min(2 * pieces, rows)
