"""The cores that octavo computes on: all of them, or those that other programs leave it.

The threads of a step wait for each other at every product. Where another program takes a core now and then from one of
them, all wait for that one: beside one busy program, two threads on two cores are slower than one by far.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import torch

STAT = Path("/proc/stat")
MOMENT = 0.3  # seconds that are looked at, at least: the system counts in hundredths
TICK = 0.01  # of the system's count
IDLE = (3, 4)  # where a line has the time in which a core did nothing, or waited for a disk
TIMES = 7  # what it has besides is counted twice there, or is another machine's


class Spent(NamedTuple):
    """Seconds: those that went by, those in which cores of this process were busy, and its own part in them."""

    wall: float
    busy: float
    own: float


class Neighbours:
    """What other programs do on the cores of this process, from now on."""

    def __init__(self) -> None:
        self._before = _spent()
        self._known: float | None = None
        self._looking = Lock()

    def wait(self) -> None:
        """Let a moment have gone by; mostly it has, while a text was read."""
        time.sleep(max(0.0, MOMENT + TICK - (time.monotonic() - self._before.wall)))

    def busy(self) -> float | None:
        """How many cores they have kept busy since a moment ago, or since this was last asked, on average.

        Nothing before a moment has gone by; zero where the system does not tell.
        """
        with self._looking:
            if time.monotonic() - self._before.wall >= MOMENT:
                before, self._before = self._before, _spent()
                wall, busy, own = (now - then for now, then in zip(self._before, before, strict=True))
                self._known = max(0.0, busy - own) / wall
            return self._known


def threads_beside(busy: float, threads: int, cores: int) -> int:
    """How many of so many threads to use on so many cores, where others keep this many of these busy.

    >>> [threads_beside(busy, threads=4, cores=4) for busy in (0.4, 0.6, 1.9, 7.0)]
    [4, 3, 2, 1]
    """
    return max(1, min(threads, cores - int(busy + 0.5)))


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Threads:
    """How many threads there are to compute with here, and how many of them are of use beside other programs."""

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self.neighbours = Neighbours()

    def useful(self, *, wait: bool = False) -> int:
        """As many as there were cores left lately; with `wait`, after the moment that it takes to see that.

        Before that moment as many as there are now.
        """
        if self.most == 1:
            return 1
        if wait:
            self.neighbours.wait()
        busy = self.neighbours.busy()
        return torch.get_num_threads() if busy is None else threads_beside(busy, self.most, cores())

    def use(self, threads: int | None) -> int | None:
        """Compute with so many from now on; nothing stands for all of them, and is given where it is all."""
        torch.set_num_threads(min(threads or self.most, self.most))
        return None if threads in (None, self.most) else threads

    @contextmanager
    def using(self, threads: int | None) -> Iterator[None]:
        """Compute with so many for a while."""
        self.use(threads)
        try:
            yield
        finally:
            self.use(None)


def _spent() -> Spent:
    return Spent(time.monotonic(), _busy(), time.process_time())


def _busy() -> float:
    """Seconds in which the cores of this process were busy since the machine was started; none where nothing tells."""
    try:
        lines, here, tick = STAT.read_text().splitlines(), os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK")
        rows = (line.split() for line in lines)
        counted = [
            row[1 : 1 + TIMES]
            for row in rows
            if row[0][:3] == "cpu" and row[0][3:].isdigit() and int(row[0][3:]) in here
        ]
        return sum(int(time) for row in counted for place, time in enumerate(row) if place not in IDLE) / tick
    except (OSError, AttributeError, ValueError, IndexError):
        return 0.0


NEIGHBOURS = Neighbours()


@contextmanager
def giving_way(asked: bool = True) -> Iterator[None]:
    """Within a `with` statement, where that is asked for, no more threads than other programs leave cores for.

    It takes next to no time where nothing has to be changed.
    """
    most = torch.get_num_threads() if asked else 1
    busy = NEIGHBOURS.busy() if most > 1 else None
    threads = most if busy is None else threads_beside(busy, most, cores())
    if threads == most:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(most)
