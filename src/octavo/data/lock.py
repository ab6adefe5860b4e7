"""One octavo at a time makes a thing in the cache; another that wants the same waits and finds it made."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octavo.errors import SaveError

try:
    import fcntl
except ImportError:  # no such locks on Windows: there two that make the same thing at once are on their own
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the right to make `target`; a file beside it carries the lock and is left there, empty.

    Raises `SaveError` with the path and the reason.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.with_name(target.name + ".lock").open("wb")
    except OSError as error:
        raise SaveError(f"{target} could not be written: {error.strerror}; set OCTAVO_HOME to another place") from error
    with file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
