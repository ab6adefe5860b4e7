"""How fast a training learns, and what share that is of what the device could do."""

import time
from collections import deque
from functools import cache
from statistics import median

import torch

from octavo.config import RunConfig
from octavo.events import Event, Stepped
from octavo.scale import work_per_token

SIZES = {"cpu": 1024, "cuda": 8192}  # of the largest matrices
SMALLEST, TRIALS = 256, 5
MOMENT = 0.2  # seconds, after which nothing more is tried: many a processor is ten times slower in bfloat16
LATEST = 100  # steps: the pace of the first ones is that of warming up


@cache
def peak(device: str, dtype: str) -> float:
    """Floating-point operations a second that this device comes to in a large product of matrices, as measured.

    It is that of a layer, x Wᵀ: a processor without units for bfloat16 takes many times as long to multiply rows by
    columns, not rows by rows.
    """
    size, found, spent = SMALLEST, 0.0, 0.0
    while size <= SIZES.get(device, 2048) and spent < MOMENT:  # not counting what a GPU takes to be ready
        try:
            one = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
            other, result = one.clone().T, one.clone()
            _timed(one, other, result)
        except torch.OutOfMemoryError:  # beside the model
            break
        times: list[float] = []
        while len(times) < TRIALS and spent < MOMENT:
            times.append(_timed(one, other, result))
            spent += times[-1]
        found, size = max(found, 2 * size**3 / min(times)), 2 * size
    return found


def _timed(one: torch.Tensor, other: torch.Tensor, result: torch.Tensor) -> float:
    waits = torch.cuda.synchronize if one.device.type == "cuda" else int
    waits()
    begin = time.perf_counter()
    torch.mm(one, other, out=result)
    waits()
    return time.perf_counter() - begin


class Speed:
    """Hears of each step, and knows the pace of the latest ones."""

    def __init__(self, config: RunConfig, processes: int = 1) -> None:
        self.processes = processes  # each with a device of its own
        self.work = work_per_token(config.model, config.window).total
        self.device, self.dtype = config.train.device, config.train.dtype
        self.peak = peak(self.device, self.dtype)  # now, for nothing else is computed yet
        self.paces: deque[float] = deque(maxlen=LATEST)

    def hear(self, event: Event) -> None:
        """Take note of a step; nothing else is of interest."""
        if isinstance(event, Stepped):
            self.paces.append(event.tokens_per_second)

    @property
    def tokens_per_second(self) -> float:
        """The median of the latest steps; nothing before the first one."""
        return median(self.paces) if self.paces else 0.0

    @property
    def utilisation(self) -> float:
        """The share of the device's peak that went into the model's own arithmetic  [Chowdhery 2022, appendix B]."""
        return self.work * self.tokens_per_second / (self.peak * self.processes)

    def line(self) -> str:
        """Both of them, for people; nothing before the first step."""
        if not self.paces:
            return ""
        each = f" ({self.tokens_per_second / self.processes:,.0f} in each process)" if self.processes > 1 else ""
        pace = f"{self.tokens_per_second:,.0f} tokens a second{each}, and with them"
        if self.utilisation > 1:  # something else was computing when it was measured
            return f"{pace} more than the {operations(self.peak)} a second measured of {self.device} in {self.dtype}"
        share = f"{self.utilisation:.0%}" if self.utilisation >= 0.005 else "less than 1%"
        return (
            f"{pace} {share} of the arithmetic that {self.device} can do in {self.dtype} "
            f"({operations(self.peak)} a second, as measured)"
        )


def operations(count: float) -> str:
    """So many floating-point operations, for people.

    >>> operations(1.25e11), operations(9.9e14), operations(8.266e21)
    ('125 GFLOP', '990 TFLOP', '8.27 ZFLOP')
    """
    units = ["", "K", "M", "G", "T", "P", "E", "Z", "Y"]
    count = float(f"{count:.3g}")
    while len(units) > 1 and count >= 1000:
        count, units = count / 1000, units[1:]
    return f"{count:,.3g} {units[0]}FLOP"
