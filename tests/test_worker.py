"""A worker: one thing after the other, in a thread that is there as long as there is something to do."""

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from alarm import alarm
from octavo.server.worker import Worker


def until(what: Callable[[], bool], wait: float = 20) -> None:
    """Wait until something is so."""
    end = time.monotonic() + wait
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "octavo worker"]


def test_a_worker_does_one_thing_after_the_other_and_never_two_at_once() -> None:
    worker, done, inside = Worker(), list[int](), threading.Lock()

    def work(number: int) -> int:
        assert inside.acquire(blocking=False)
        time.sleep(0.001)
        done.append(number)
        inside.release()
        return number * number

    results = [worker.begin(partial(work, number)) for number in range(30)]
    assert [result.result(20) for result in results] == [number * number for number in range(30)]
    assert done == list(range(30))


def test_what_is_raised_is_raised_for_who_asked_and_for_nobody_else() -> None:
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        worker.do(lambda: 1 // 0)
    assert worker.do(lambda: "well") == "well"


def test_who_is_interrupted_waits_until_what_was_begun_is_done() -> None:
    done = list[int]()

    def work() -> None:
        time.sleep(0.3)
        done.append(1)

    def interrupted(*_: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), alarm(0.1, interrupted):
        Worker(rest=0).do(work)
    assert done == [1]


def test_its_thread_ends_when_there_is_nothing_to_do_and_another_comes_when_there_is() -> None:
    until(lambda: not workers())
    worker = Worker(rest=0.05)
    first = worker.do(threading.current_thread)
    assert first in workers()
    assert worker.do(threading.current_thread) is first
    until(lambda: not workers())
    second = worker.do(threading.current_thread)
    assert second is not first
    until(lambda: not workers())


def test_nothing_is_lost_when_work_comes_just_as_a_thread_ends() -> None:
    worker = Worker(rest=0)
    crowd = [threading.Thread(target=lambda: [worker.do(lambda: None) for _ in range(200)]) for _ in range(4)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(60)
        assert not one.is_alive()
    until(lambda: not workers())
