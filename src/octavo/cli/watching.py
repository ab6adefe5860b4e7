"""Running a training in the foreground: its events on the display, and Ctrl-C as a wish to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from octavo.cli.page import Page
from octavo.cli.stopping import Stopped, asked, heed
from octavo.events import Finished
from octavo.processes import first_here
from octavo.progress import Display, say
from octavo.trainer import Trainer


def watch(
    start: Callable[[], Trainer],
    display: Display,
    page: Page | None = None,
    again: Callable[[Path], Trainer] | None = None,
) -> Finished:
    """Train to the end. The first Ctrl-C (or SIGTERM) ends it after its step, saved; a second one ends it at once.

    Before the first step there is nothing to save, and the first one ends it. What the page stopped waits there, and
    goes on by `again` when the page wishes so.
    """
    watched = Watched()
    with _signals(watched) as caught:
        finished = _train(start, display, watched, page)
        while page is not None and again is not None and not caught and _wished(page, finished):
            finished = _train(partial(again, finished.run), display, watched, page)
    if caught and finished.reason == "stopped":
        raise Stopped(caught[0])
    return finished


def _train(start: Callable[[], Trainer], display: Display, watched: "Watched", page: Page | None) -> Finished:
    trainer = start()
    heed()
    watched.trainer = trainer
    if page is not None:
        page.follow(trainer)
    finished = None
    for event in trainer.events():
        display.show(event)
        finished = event if isinstance(event, Finished) else finished
    watched.trainer = None
    assert finished is not None  # the last event of every training
    return finished


def _wished(page: Page, finished: Finished) -> bool:
    """Whether the page wishes to go on. A Ctrl-C ends the wait: it stopped nothing that had come to its end."""
    done = finished.reason == "done"
    try:
        return page.wait(finished=done)
    except Stopped:
        if done:
            return False
        raise


@dataclass
class Watched:
    """The training that a signal is meant for, once there is one."""

    trainer: Trainer | None = None


@contextmanager
def _signals(watched: Watched) -> Iterator[list[int]]:
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if caught or watched.trainer is None:
            asked.append(number)
            raise Stopped(number)
        caught.append(number)
        watched.trainer.stop()
        if first_here():
            say("\nstopping after this step; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        heed()
        yield caught
    finally:
        asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
