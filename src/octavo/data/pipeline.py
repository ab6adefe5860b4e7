"""Work that overlaps: what comes next is read while the last is still in work, and everything stays in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
PATIENCE = 0.1  # seconds until one that waits for room looks whether anybody still wants it


def ahead(items: Iterable[Item], room: int) -> Iterator[Item]:
    """The same items in the same order, made in a thread of their own, at most `room` of them before they are wanted.

    What goes wrong there is raised here, behind the items that came before it.

    >>> list(ahead("abc", room=1))
    ['a', 'b', 'c']
    """
    waiting: Queue[tuple[Item, ...] | BaseException] = Queue(room)
    unwanted = Event()
    thread = Thread(target=_make, args=(items, waiting, unwanted), daemon=True)
    thread.start()
    try:
        while found := waiting.get():
            if isinstance(found, BaseException):
                raise found
            yield found[0]
    finally:
        unwanted.set()
        thread.join()


def _make(items: Iterable[Item], waiting: "Queue[tuple[Item, ...] | BaseException]", unwanted: Event) -> None:
    try:
        for item in items:
            if not _put(waiting, (item,), unwanted):
                return
        _put(waiting, (), unwanted)
    except BaseException as error:
        _put(waiting, error, unwanted)


def _put(
    waiting: "Queue[tuple[Item, ...] | BaseException]", found: tuple[Item, ...] | BaseException, unwanted: Event
) -> bool:
    """Wait for room; whether there was any before nobody wanted it any more."""
    while not unwanted.is_set():
        try:
            waiting.put(found, timeout=PATIENCE)
        except Full:
            continue
        return True
    return False


def in_order(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """What `work` makes of each item, in the order of the items, `workers` of them being in work at a time.

    >>> list(in_order(str.upper, "abc", workers=2))
    ['A', 'B', 'C']
    """
    begun: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) > workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
