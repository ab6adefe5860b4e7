"""The page of a training: another process serves it, and whatever becomes of that, the training goes on."""

import json
import os
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from octavo.events import Note
from octavo.progress import Display

if TYPE_CHECKING:
    from octavo.trainer import Trainer

PORT = 8000
LAST = 5  # seconds that the other process has to end
OFTEN = 0.5  # seconds between two looks at whether the page is still there
MOMENT = 3.0  # seconds in which whoever left one room may come into another


class Page:
    """What the process that serves the page is told, and what it wishes."""

    def __init__(self, tell: Callable[[str], None], port: int) -> None:
        self.tell = tell
        self.trainer: Trainer | None = None
        self.wishes: SimpleQueue[str] = SimpleQueue()
        self.watchers, self.closing = 0, False
        self.changed = float("-inf")  # when the watchers last were others
        self.process = self._started(port)
        if self.process is not None:
            threading.Thread(target=self._listen, args=[self.process], daemon=True).start()

    def _started(self, port: int) -> "subprocess.Popen[str] | None":
        """In a session of its own, for a Ctrl-C is meant for the training; it ends when nobody speaks to it."""
        words = [sys.executable, "-P", "-m", "octavo.server.page", str(port)]  # -P: what lies here is no module
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        try:
            return subprocess.Popen(
                words,
                stdin=pipe,
                stdout=pipe,
                stderr=nothing,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # which Windows has instead
            )
        except OSError as error:
            self.tell(f"the page could not be started: {error.strerror}; the training does without it")
            return None

    def __enter__(self) -> "Page":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the other process, which tells whoever looks on how it stands."""
        if self.process is None:
            return
        self.closing = True
        if self.trainer is not None:  # it ends in the midst of its steps
            self._say({"state": "waiting"})
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(LAST)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def alive(self) -> bool:
        """Whether there is still somebody to ask."""
        return self.process is not None and self.process.poll() is None

    def follow(self, trainer: "Trainer") -> None:
        """A training begins, or goes on."""
        self.trainer = trainer
        run = str(trainer.run.resolve())
        self._say({"run": run, "fingerprint": trainer.prepared.fingerprint, "state": "running"})

    def wait(self, *, finished: bool) -> bool:
        """Wait for the wish to go on with what was stopped; gives whether it came. What has finished is only shown."""
        self.trainer, self.wishes = None, SimpleQueue()  # what was wished before is done
        self._say({"state": "finished" if finished else "waiting"})
        if not self.alive or (finished and not (on_terminal() and self._watched())):
            return False
        self.tell("the page stays; Ctrl-C ends it" if finished else "the page can go on with it; Ctrl-C ends it")
        while self.alive:
            with suppress(Empty):
                if self.wishes.get(timeout=OFTEN) == "resume" and not finished:
                    return True
        return False

    def _watched(self) -> bool:
        """Whether somebody looks on, or comes back in a moment."""
        while not self.watchers and self.alive and time.monotonic() < self.changed + MOMENT:
            time.sleep(OFTEN / 10)
        return self.watchers > 0

    def _say(self, words: Mapping[str, Any]) -> None:
        if self.process is not None and self.process.stdin is not None:
            with suppress(OSError, ValueError):  # it may be gone
                self.process.stdin.write(json.dumps(words) + "\n")
                self.process.stdin.flush()

    def _listen(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout, suppress(OSError, ValueError):
            for line in process.stdout:
                self._hear(json.loads(line))
        if not self.closing:
            self.tell("the page has ended; the training does without it")

    def _hear(self, words: Mapping[str, Any]) -> None:
        match words:
            case {"port": port}:
                address = f"http://127.0.0.1:{port}/learn"
                self.tell(f"the page is at {address}")
                if on_terminal() and on_screen():
                    webbrowser.open(address)
            case {"watchers": watchers}:
                self.watchers, self.changed = watchers, time.monotonic()
            case {"wish": "stop"}:
                if self.trainer is not None:
                    self.trainer.stop()
            case {"wish": wish}:
                self.wishes.put(wish)
            case {"failed": reason}:
                self.tell(f"there is no page: {reason}")


def page_of(display: Display, *, wanted: bool) -> AbstractContextManager[Page | None]:
    """The page of a training, where one is wanted."""
    return Page(lambda line: display.show(Note(line)), PORT) if wanted else nullcontext()


def on_terminal() -> bool:
    """Whether a person sits here."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def on_screen() -> bool:
    """Whether there is a screen for a browser to open on."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
