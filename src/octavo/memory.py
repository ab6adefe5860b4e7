"""How much memory there is to be had: what the system counts as free, and no more than a container allows."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

FREE = Path("/proc/meminfo")
GROUPS = Path("/proc/self/cgroup")
CGROUP = Path("/sys/fs/cgroup")
MMAP_THRESHOLD, PIECE = -3, 1 << 20  # mallopt's number for it, and bytes


def free_memory() -> int | None:
    """Bytes that this process can take before something is ended for want of them; `None` where nothing tells."""
    told = [*_system(), *_container()]
    return min(told) if told else None


def peak_memory() -> int:
    """The most bytes that this process has held at a time."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # not there on Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def give_back_soon() -> None:
    """Have the C library return what is freed to the system, where it would keep it for what comes next.

    glibc keeps pieces of up to 32 MiB. Where large pieces come and go, and others stay between them, what it keeps
    grows to several times of what is held.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, PIECE)


def give_back_memory() -> None:
    """Let the system have what was let go here: C's own library keeps it for later, which may be as much as a model."""
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _system() -> list[int]:
    text = _read(FREE)
    return [int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("MemAvailable:")]


def _container() -> list[int]:
    """What is left in each group of processes that this one is in: of version 2 or 1, the nearest and those above."""
    left = []
    for line in _read(GROUPS).splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = CGROUP / "memory" if kinds else CGROUP
        limit, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        here = root / path.lstrip("/")
        for folder in (folder for folder in (here, *here.parents) if folder.is_relative_to(root)):
            most, now = _read(folder / limit).strip(), _read(folder / used).strip()
            if most.isdigit() and now.isdigit():
                left.append(max(0, int(most) - int(now) + _given_back(folder)))
    return left


def _given_back(folder: Path) -> int:
    """What counts as used, and is only a copy of files that were read: it goes when something else needs the room."""
    lines = (line.split() for line in _read(folder / "memory.stat").splitlines())
    return sum(int(size) for name, size in lines if name == "inactive_file")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
