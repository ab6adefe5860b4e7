"""One training at a time writes into a run: the folder itself is locked, and free again when the process ends."""

import os
import time
from pathlib import Path

from octavo.errors import RunError

try:
    import fcntl
except ImportError:  # no such locks on Windows: there two trainings in one folder are on their own
    fcntl = None  # type: ignore[assignment]


MOMENT = 0.05  # seconds: longer than anybody looks whether a run is claimed


class Claim:
    """The right to write into a run's folder, from its making to `release`; a `with` lets it go where that fails.

    Raises `RunError` where another training has it.
    """

    def __init__(self, run: Path) -> None:
        self._descriptor: int | None = None
        if fcntl is None:
            return
        descriptor = os.open(run, os.O_RDONLY)
        try:
            _lock(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise RunError(
                f"another training is writing into {run}; wait for its end, or give this one another --out"
            ) from None
        except OSError:  # a file system without locks: better no lock than no training
            os.close(descriptor)
            return
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others write into the run."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is not None:  # whoever keeps the exception keeps all that is in its frames
            self.release()

    def __del__(self) -> None:
        self.release()


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # perhaps somebody only looked, in this moment
        time.sleep(MOMENT)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def claimed(run: Path) -> bool:
    """Whether a training is writing into this run now, as far as the system can tell."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(run, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
