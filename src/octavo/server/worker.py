"""A thread to compute in, which is there as long as there is something to compute.

A thread that computes brings a helper for every further core, and these wait for their next piece of work awake, unless
there are more of them in the process than cores: then each small operation begins with waking one. So models are opened
in a thread that ends, and those that write or look rest only a little while before they do.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import torch

REST = 3.0  # seconds without work after which a thread ends
CORES = torch.get_num_threads()  # before anybody does something alone, for then a new thread is told of one
T = TypeVar("T")
Task = tuple[Callable[[], Any], "Future[Any]"]


class Worker:
    """Does one thing after the other, in a thread of its own."""

    def __init__(self, rest: float = REST, cores: int = CORES) -> None:
        """Its thread ends after so many seconds without work."""
        self.rest, self.cores = rest, cores
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._lock = threading.Lock()
        self._there = False

    def begin(self, work: Callable[[], T]) -> "Future[T]":
        """Have something done when what came before it is."""
        done: Future[T] = Future()
        with self._lock:
            self._tasks.put((work, done))
            if not self._there:
                self._there = True
                threading.Thread(target=self._run, name="octavo worker", daemon=True).start()
        return done

    def do(self, work: Callable[[], T]) -> T:
        """Have something done, and wait for it; raises what it raises.

        Who is interrupted waits too: a program that ends in the midst of a computation is ended by the system.
        """
        done = self.begin(work)
        try:
            return done.result()
        finally:
            wait([done])

    def _run(self) -> None:
        torch.set_num_threads(self.cores)
        while (task := self._next()) is not None:
            work, done = task
            try:
                done.set_result(work())
            except BaseException as error:  # it is for who asked
                done.set_exception(error)
            del task, work, done  # a resting thread holds on to nothing

    def _next(self) -> Task | None:
        try:
            return self._tasks.get(timeout=self.rest)
        except Empty:
            pass
        with self._lock:
            if not self._tasks.empty():
                return self._tasks.get()
            self._there = False
            return None
