"""What a model of a size would take, in lines for people: parameters, work, memory on each of some GPUs, and time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from octavo.config import ModelConfig
from octavo.progress import duration
from octavo.scale import (
    FLOAT,
    HALF,
    LEFT_FREE,
    TOKENS,
    USED,
    Optimizer,
    Way,
    activations,
    held,
    most_rows,
    parameters,
    seconds,
    state_of,
    work_per_token,
)
from octavo.speed import operations

GB = 1e9
GPUS = (2, 4, 8)
DAY = 86400
TITLES = ("shared by", "state", "with a row", "recomputed", "rows at most", "recomputed", "time")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What there is to learn with: one GPU's memory in bytes, its peak in operations a second and the precision of its
    products, and how many of them.
    """

    memory: float
    peak: float
    measured: bool  # here, and not told
    gpus: tuple[int, ...] = GPUS
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    @property
    def size(self) -> int:
        """Bytes of a number that is multiplied."""
        return HALF if self.dtype == "bfloat16" else FLOAT


def outlook(
    model: ModelConfig, optimizer: Optimizer, window: int, hardware: Hardware, tokens: float | None = None
) -> tuple[str, ...]:
    """A model of this shape, learned in rows of `window` tokens: from so many in all, or 20 for each parameter."""
    count, work, state = parameters(model), work_per_token(model, window), state_of(model, optimizer, hardware.size)
    learned = tokens or float(TOKENS * count)
    said = "" if tokens else f", {TOKENS} a parameter"
    row, again = (activations(model, window, recompute=recompute, size=hardware.size) for recompute in (False, True))
    halves = f"their halves {_gb(state.casts)}, " if state.casts else ""
    head = (
        f"model     {model.dialect}, {model.layers} layers of width {model.width}, {model.heads} heads, "
        f"{model.vocab_size:,} tokens in its vocabulary: {_large(count)} parameters",
        f"work      {operations(work.total)} a token: {operations(work.products)} in its matrices, "
        f"{operations(work.looking)} looking back at {window:,} tokens",
        f"in all    {operations(work.total * learned)} for {_large(learned)} tokens{said}",
        f"state     {_gb(state.total)} GB: weights {_gb(state.weights)}, {halves}"
        f"gradients {_gb(state.gradients)}, the optimizer's ({optimizer}) {_gb(state.momenta)}",
        f"a row     {_gb(row)} GB to keep for the way back, {_gb(again)} GB where blocks are computed again",
        "",
    )
    ways = [Way(1), *(Way(gpus, sharded) for sharded in (False, True) for gpus in hardware.gpus if gpus > 1)]
    table = [TITLES, *(tuple(_row(model, optimizer, window, hardware, way, learned)) for way in ways)]
    rate = f"{operations(hardware.peak)} a second" + (" as measured here" if hardware.measured else "")
    foot = (
        "",
        f"GB on each GPU, multiplying in {hardware.dtype}; rows of {window:,} tokens on each, "
        f"in {1 - LEFT_FREE:.0%} of {_gb(hardware.memory)} GB; time at {USED:.0%} of {rate}",
    )
    return (*head, *_aligned(table), *foot)


def _row(
    model: ModelConfig, optimizer: Optimizer, window: int, hardware: Hardware, way: Way, tokens: float
) -> Iterator[str]:
    memory, size = hardware.memory, hardware.size
    state = held(model, optimizer, way, size)
    rows = [most_rows(model, way, optimizer, window, memory, recompute, size) for recompute in (False, True)]
    yield way.name
    yield _gb(state)
    for recompute in (False, True):
        yield _gb(state + activations(model, window, recompute=recompute, size=size))
    yield from (f"{count:,}" if count else "none" for count in rows)
    again = not rows[0]
    taken = seconds(model, way, tokens, window, hardware.peak, recompute=again)
    yield _long(taken) + (", recomputed" if again else "") if any(rows) else "does not fit"


def _aligned(table: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others[:-1], widths[1:-1], strict=True)]
        yield "   ".join([first.ljust(widths[0]), *cells, others[-1]])


def _gb(size: float) -> str:
    return f"{size / GB:,.1f}"


def _large(count: float) -> str:
    if count < 1e6:
        return f"{count:,.0f}"
    return f"{count / 1e9:,.2f} billion" if count >= 1e9 else f"{count / 1e6:,.2f} million"


def _long(taken: float) -> str:
    """So many seconds, for people.

    >>> _long(90), _long(3 * 86400), _long(1e12)
    ('1 min 30 s', '3.0 days', '31,710 years')
    """
    if taken < DAY:
        return duration(taken)
    days = taken / DAY
    return f"{days:,.1f} days" if days < 1000 else f"{days / 365:,.0f} years"
