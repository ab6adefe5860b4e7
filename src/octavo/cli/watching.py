"""Running a training in the foreground: its events on the display, and Ctrl-C as a wish to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from octavo.cli.page import Page
from octavo.cli.stopping import HANGUP, Stopped, asked, heed
from octavo.events import Finished, Note
from octavo.processes import first_here, started_by_torchrun
from octavo.progress import Display, say
from octavo.speed import Speed
from octavo.tracking import Tracker, check_tracking
from octavo.trainer import Trainer


def watch(
    start: Callable[[], Trainer],
    display: Display,
    page: Page | None = None,
    again: Callable[[Path], Trainer] | None = None,
    *,
    track: bool = False,
) -> Finished:
    """Train to the end. The first Ctrl-C (or SIGTERM) ends it after its step, saved; a second one ends it at once.
    A terminal that is closed ends it so, too, but under nohup.

    Before the first step there is nothing to save, and the first one ends it. What the page stopped waits there, and
    goes on by `again` when the page wishes so. Where it is to be tracked, tensorboard can read its figures.
    """
    if track:
        check_tracking()
    watched = Watched()
    with _signals(watched) as caught:
        finished = _train(start, display, watched, page, track)
        while page is not None and again is not None and not caught and _wished(page, finished):
            finished = _train(partial(again, finished.run), display, watched, page, track)
    if caught and finished.reason == "stopped":
        raise Stopped(caught[0])
    return finished


def _train(
    start: Callable[[], Trainer], display: Display, watched: "Watched", page: Page | None, track: bool
) -> Finished:
    trainer = start()
    heed()
    watched.trainer = trainer
    if page is not None:
        page.follow(trainer)
    finished, speed = None, Speed(trainer.config, trainer.processes.size)
    tracker = Tracker(trainer.run, trainer.config, speed, trainer.at.step) if track and first_here() else None
    with closing(tracker) if tracker else nullcontext():
        for event in trainer.events():
            speed.hear(event)
            if tracker is not None:
                tracker.hear(event)
            finished = event if isinstance(event, Finished) else finished
            if finished is not None and speed.paces:
                display.show(Note(speed.line()))
            display.show(event)
    watched.trainer = None
    assert finished is not None  # the last event of every training
    return finished


def _wished(page: Page, finished: Finished) -> bool:
    """Whether the page wishes to go on. A Ctrl-C ends the wait: it stopped nothing that had come to its end."""
    done = finished.reason == "done"
    if not done and started_by_torchrun():  # the others have ended
        return False
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
        if caught and number == HANGUP:
            return  # which shells pass on when the system has said it already
        if caught or watched.trainer is None:
            asked.append(number)
            raise Stopped(number)
        caught.append(number)
        watched.trainer.stop()
        if first_here():
            say("\nstopping after this step; once more to stop at once")

    hangup = [] if HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN else [HANGUP]
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM, *hangup)}
    try:
        heed()
        yield caught
    finally:
        asked.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
