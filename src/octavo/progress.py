"""What a person sees while a training runs: a live display on a terminal, one plain line per evaluation elsewhere."""

import sys
import unicodedata
from contextlib import suppress
from textwrap import TextWrapper
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from octavo.events import Evaluated, Event, Finished, Note, Planned, Preparing, Sampled, Stepped
from octavo.processes import started_by


def printable(text: str) -> str:
    """Text that cannot command a terminal, nor turn its lines round: what would becomes a sign, but for lines and tabs.

    >>> printable("red: \\x1b[31m")
    'red: ␛[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_sign(sign) if sign not in "\n\t" and _commands(sign) else sign for sign in text)


def readable(text: str) -> str:
    """The same of a text whose lines may end as Windows ends them, which is nothing to be seen."""
    return printable(text.replace("\r", ""))


LABEL = 10  # signs before what a line of a plan says
ROOMY = 100  # signs of a terminal from which on its bar has room for the speed beside it
MOVED = 0.1  # of the steps that were planned: by more, and the forecast was of another training
_COMMANDS = {"Cc", "Cs", "Co"}  # what else has no shape of its own joins letters, parts them or says where they go
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _commands(sign: str) -> bool:
    return unicodedata.category(sign) in _COMMANDS or unicodedata.bidirectional(sign) in _TURNS


def _sign(sign: str) -> str:
    return chr(0x2400 + ord(sign)) if ord(sign) < 32 else "�"


def duration(seconds: float) -> str:
    """A length of time as people say it.

    >>> duration(7), duration(200), duration(7260)
    ('7 s', '3 min 20 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def folded(line: str, width: int, indent: int = 0) -> str:
    """A line in as many as fit into so many signs each, cut between words; all but the first begin further in.

    >>> print(folded("model     modern, 6 layers of width 128", 24, indent=10))
    model     modern, 6
              layers of
              width 128
    """
    words = TextWrapper(width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return words.fill(line)


def say(line: str, file: TextIO | None = None) -> None:
    """One line for the person at the terminal, on standard error: standard output belongs to results."""
    with suppress(OSError):  # where nobody can be told, what was begun goes on
        print(printable(line), file=file or sys.stderr, flush=True)


class Telling(Console):
    """Standard error, where nobody has to listen: rich itself would end the process when a reader has gone."""

    def __init__(self) -> None:
        super().__init__(stderr=True, highlight=False)

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Display:
    """Shows events. On a terminal a live picture, elsewhere plain lines; `quiet` leaves only the end, `silent` none."""

    def __init__(self, *, quiet: bool = False, silent: bool = False) -> None:
        self.quiet, self.silent = quiet, silent
        self.console = Telling()
        self.live = _Live(self.console) if self.console.is_terminal and not (quiet or silent) else None

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            with suppress(OSError):
                self.live.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if self.live:
            with suppress(OSError):  # of a terminal that was closed
                self.live.show(event)
        if self.silent or (self.quiet and not isinstance(event, Finished)):
            return
        line = self._line(event)
        if line:
            self._print(line)

    def _print(self, line: str) -> None:
        with suppress(OSError):  # a full disk under what is said is no reason to lose what was learned
            self.console.print(Text(printable(line)), soft_wrap=True)

    def _folded(self, line: str, indent: int = 0) -> str:
        return folded(line, self.console.width, indent) if self.console.is_terminal else line

    def _line(self, event: Event) -> str:
        match event:
            case Note(text):
                return self._folded(text)
            case Planned(lines):
                return "\n".join(self._folded(line, LABEL) for line in lines)
            case Evaluated():
                return "" if self.live and event.step and event.step < event.steps else evaluation_line(event)
            case Preparing(what, 0, total) if not self.live and total > 20_000_000:
                return f"{what}: {total / 1e6:,.0f} MB"
            case Finished():
                return "\n".join(closing_lines(event))
            case _:
                return ""


def evaluation_line(event: Evaluated) -> str:
    """How far and how good, in one line."""
    trained = f"training {event.train_loss:.3f}  " if event.train_loss is not None else ""
    remaining = f"  {duration(event.remaining)} left" if event.remaining else ""
    return (
        f"step {event.step:>{len(str(event.steps))}} of {event.steps}  {duration(event.seconds):>10}  {trained}"
        f"held out {event.val_loss:.3f} nats a token, {event.val_bits_per_byte:.3f} bits a byte{remaining}"
    )


def closing_lines(event: Finished) -> list[str]:
    """What came of the training, and how to go on."""
    name = event.run
    head = "finished" if event.reason == "done" else "stopped and saved"
    steps = "1 step" if event.step == 1 else f"{event.step} steps"
    best = f"{head} after {steps} in {duration(event.seconds)}; {found(event)}"
    lines = [best]
    if event.forecast is not None and not unhelped(event):
        lines.append(judged(event.val_loss, *event.forecast, event.step))
    hint = f'try: octavo generate {name} "…"   or: octavo talk {name}'
    return [*lines, hint if event.reason == "done" else f"go on with: {started_by()} train --resume {name}"]


def found(event: Finished) -> str:
    """How good the weights are that were kept; where they were not measured, what is known of others."""
    if not event.evaluated:
        known = (
            "came out no better than before the first step"
            if event.read
            else "was read before the first step, and not since"
        )
        return f"the held-out text {known}"
    token, character = f"{event.val_loss:.4f}", f"{event.val_nats_per_character:.4f}"
    nats = f"{token} nats a token, " + (f"{character} nats a character, " if character != token else "")
    figures = f"{nats}{event.val_bits_per_byte:.4f} bits a byte"
    if unhelped(event):
        return f"nothing it learned helped on the held-out text, and the weights it began with are kept: {figures}"
    earlier = ", before it went back, which is kept" if event.best_step > event.step else ""
    return f"best at step {event.best_step}{earlier}: {figures}"


def unhelped(event: Finished) -> bool:
    """Whether all steps left the held-out text worse predicted than it was before the first one."""
    return event.best_step == 0 < event.step


def judged(loss: float, forecast: float, within: float, planned: int, steps: int) -> str:
    """How good the forecast was, which was of so many steps.

    >>> judged(1.523, 1.55, 0.04, 100, 102)
    'forecast 1.55 ± 0.04 nats a token, and it came to 1.523: 0.027 better'
    >>> judged(3.541, 3.12, 0.17, 124, 66)
    'forecast 3.12 ± 0.17 nats a token for 124 steps, and 66 came to 3.541: 0.421 worse'
    """
    off = round(loss - forecast, 3)
    how = "just so" if off == 0 else f"{abs(off):.3f} {'worse' if off > 0 else 'better'}"
    others = abs(steps - planned) > MOVED * planned
    came = f"for {planned} steps, and {steps} came" if others else "and it came"
    return f"forecast {forecast:.2f} ± {within:.2f} nats a token{' ' if others else ', '}{came} to {loss:.3f}: {how}"


class _Live:
    """The picture on a terminal: a bar, the figures, the latest sample."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), TextColumn("{task.fields[figures]}"))
        self.bar = Progress(*columns, console=console)
        self.task: TaskID | None = None
        self.sample, self.held_out = "", ""
        self.live = Live(self._picture(), console=console, refresh_per_second=8, transient=True)
        self.running = False

    def show(self, event: Event) -> None:
        match event:
            case Preparing(what, done, total):
                size = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB" if total >= 1_000_000 else ""
                self._update(what, done, total, size)
                if done >= total:
                    self.stop()
            case Stepped():
                self._update("training", event.step, event.steps, self._figures(event))
            case Evaluated():
                self.held_out = f"  held out {event.val_loss:.3f}"
            case Sampled(_, text):
                self.sample = text
                self.live.update(self._picture())
            case Finished():
                self.stop()

    def _figures(self, event: Stepped) -> str:
        speed = f"  {event.tokens_per_second:,.0f} tokens/s" if self.live.console.width >= ROOMY else ""
        left = f"  {duration(event.remaining)} left"
        return f"{event.step}/{event.steps}  loss {event.train_loss:.3f}{self.held_out}{speed}{left}"

    def _update(self, what: str, done: int, total: int, figures: str) -> None:
        if not self.running:
            self.live.start()
            self.running = True
        if self.task is None:
            self.task = self.bar.add_task(what, total=total, figures=figures)
        self.bar.update(self.task, description=what, completed=done, total=max(1, total), figures=figures)

    def _picture(self) -> Group:
        lines = readable(self.sample).strip("\n").split("\n")[:8]
        panel = Panel(Text("\n".join(lines)), title="what it writes by now", title_align="left", border_style="dim")
        return Group(self.bar, panel) if self.sample else Group(self.bar)

    def stop(self) -> None:
        if self.running:
            self.live.stop()
            self.running = False
