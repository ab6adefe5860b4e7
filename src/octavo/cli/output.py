"""Standard output, which says itself when it takes no more: an error of it is none of another file."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import TextIOWrapper
from typing import Any, TextIO, TypeVar, cast

Result = TypeVar("Result")


class OutputError(OSError):
    """Standard output takes no more. It is no `OctavoError`, for a talk would go on after one."""


class ReaderGone(Exception):
    """Nobody reads standard output any more; where it is said as `BrokenPipeError`, rich ends the process itself."""


class Output:
    """A stream as it is, but for what is raised where it takes no more."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        return _taken(lambda: self.stream.write(text))

    def flush(self) -> None:
        _taken(self.stream.flush)


def _taken(act: Callable[[], Result]) -> Result:
    try:
        return act()
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputError(error.errno, error.strerror) from error


@contextmanager
def checked_output() -> Iterator[None]:
    """Within it standard output tells its own errors, `OutputError` and `ReaderGone`, and at its end has taken all.

    A letter that it has no sign for is spelled out, as standard error does.
    """
    if sys.stdout is None:  # it was closed from the beginning
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
            yield
        return
    if isinstance(sys.stdout, TextIOWrapper) and is_narrow(sys.stdout):
        sys.stdout.reconfigure(errors="backslashreplace")
    output = Output(sys.stdout)
    with redirect_stdout(cast(TextIO, output)):
        yield
        output.flush()


def is_narrow(stream: TextIO) -> bool:
    """Whether there are letters that a stream has no sign for."""
    return not str(stream.encoding).lower().startswith("utf")


def seen(text: str) -> str:
    """A text as standard output wants it: as it is, but on a terminal such that it cannot command it."""
    from octavo.progress import readable

    return readable(text) if sys.stdout.isatty() else text


def give_up_output() -> None:
    """Let what is still to be written go nowhere, so that the end of the process does not try it again."""
    _give_up(sys.stdout)


def settle_errors() -> None:
    """Make standard error ready for the end of the process, which would fail where it takes no more (status 120)."""
    if sys.stderr is None:  # it was closed from the beginning
        return
    try:
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
