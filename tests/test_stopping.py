"""A wish to stop that is dropped on its way, by code that catches all there is, is heeded all the same."""

import os
import signal
import time
from contextlib import suppress
from typing import Any

import pytest

from octavo.cli.stopping import Stopped, asked, interrupted, terminated
from octavo.cli.watching import watch
from octavo.progress import Display


def never() -> Any:
    raise AssertionError("nothing was to begin")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_a_preparation_drops_ends_the_training(number: signal.Signals, status: int) -> None:
    def start() -> Any:
        with suppress(BaseException):
            os.kill(os.getpid(), number)
            time.sleep(1)
        return None

    with pytest.raises(Stopped) as stopped:
        watch(start, Display(quiet=True))
    assert stopped.value.code == status and asked == []


@pytest.mark.parametrize(
    ("handler", "number", "status"), [(interrupted, signal.SIGINT, 130), (terminated, signal.SIGTERM, 143)]
)
def test_so_does_one_that_was_dropped_while_modules_were_loaded(handler: Any, number: int, status: int) -> None:
    with suppress(BaseException):
        handler(number, None)
    with pytest.raises(Stopped) as stopped:
        watch(never, Display(quiet=True))
    assert stopped.value.code == status and asked == []


def test_the_handlers_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(AssertionError, match="nothing was to begin"):
        watch(never, Display(quiet=True))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
