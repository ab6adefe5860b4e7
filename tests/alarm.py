"""Signals that come after a while. What is set before them stays set: it is by a timer that a test that hangs ends."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

TIMERS = {
    signal.ITIMER_REAL: (signal.SIGALRM, time.monotonic),
    signal.ITIMER_PROF: (signal.SIGPROF, time.process_time),
}


@contextmanager
def alarm(seconds: float, ring: Callable[[int, Any], Any], timer: int = signal.ITIMER_REAL) -> Iterator[None]:
    """Call `ring` after so many seconds by this timer, unless what is done ends before; then the one before goes on."""
    number, clock = TIMERS[timer]
    before, begun = signal.signal(number, ring), clock()
    left, interval = signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)
        if left:
            signal.setitimer(timer, max(left - (clock() - begun), 1e-6), interval)
