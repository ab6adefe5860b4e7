"""Being asked to stop, at any moment. What is raised for it may meet code that drops it, so it is remembered, too."""

import signal
from types import FrameType

asked: list[int] = []  # the signals that came
HANGUP = getattr(signal, "SIGHUP", None)  # the terminal was closed; not every system has it


class Stopped(SystemExit):
    """The training was asked to stop, by this signal: the exit status is 128 and its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def terminated(number: int, frame: FrameType | None) -> None:
    """Asked to end, by a system that shuts down or by `kill`: with everything closed, and the status that tells."""
    asked.append(number)
    raise Stopped(number)


def interrupted(number: int, frame: FrameType | None) -> None:
    """Ctrl-C, as Python has it."""
    asked.append(number)
    signal.default_int_handler(number, frame)


def heed() -> None:
    """Stop now, where a wish to stop was lost on its way: modules that are being loaded may drop what is raised."""
    if asked:
        number = asked[0]
        asked.clear()
        raise Stopped(number)
