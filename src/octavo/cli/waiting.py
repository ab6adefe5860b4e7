"""What a person sees of a task that lasts: nothing for two seconds, then a bar on a terminal, elsewhere a line each."""

from contextlib import suppress
from threading import Lock, Timer
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from octavo.events import Event, Note, Preparing
from octavo.progress import Telling, printable

PATIENCE = 2.0  # seconds


class Waiting:
    """Shows what is being done, once it has lasted; what a `Note` says is shown at once."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.console = Telling()
        what, figures = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[figures]}")
        self.bar = Progress(what, BarColumn(bar_width=32), figures, console=self.console, transient=True)
        self.task = self.bar.add_task("", total=None, figures="")
        self.latest, self.said, self.patient = Preparing("", 0, 0), "", True
        self.lock, self.timer = Lock(), Timer(patience, self._lose_patience)
        self.timer.daemon = True

    def __enter__(self) -> "Waiting":
        self.timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.timer.cancel()
        with self.lock:
            if self.bar.live.is_started:  # else it would end a line that it has not begun
                self.bar.stop()

    def show(self, event: Event) -> None:
        """Show one event, if it is time."""
        match event:
            case Note(text):
                self._print(text)
            case Preparing():
                with self.lock:
                    self.latest = event
                    self._show()

    def _lose_patience(self) -> None:
        with self.lock:
            if not self.timer.finished.is_set():  # else it was cancelled meanwhile
                self.patient = False
                self._show()

    def _show(self) -> None:
        if self.patient or not self.latest.what:
            return
        if self.console.is_terminal:
            total = self.latest.total or None
            self.bar.update(
                self.task,
                description=printable(self.latest.what),
                completed=self.latest.done,
                total=total,
                figures=figures(self.latest),
            )
            self.bar.start()
        elif self.latest.what != self.said:
            self.said = self.latest.what
            self._print(self.said)

    def _print(self, text: str) -> None:
        with suppress(OSError):  # where nobody can be told, what was begun goes on
            self.console.print(Text(printable(text)), soft_wrap=True)


def figures(event: Preparing) -> str:
    """How far it is, where that is counted in bytes.

    >>> figures(Preparing("writing", 20_000_000, 270_000_000)), figures(Preparing("asking", 3, 32))
    ('20 of 270 MB', '')
    """
    return f"{event.done / 1e6:,.0f} of {event.total / 1e6:,.0f} MB" if event.total >= 1_000_000 else ""
