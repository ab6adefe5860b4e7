"""How much memory is free: the system's word, and a container's, of both versions."""

import platform
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from octavo import memory
from octavo.memory import free_memory, give_back_memory, give_back_soon, peak_memory

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, file in (("FREE", "meminfo"), ("GROUPS", "groups"), ("CGROUP", "cgroup")):
        monkeypatch.setattr(memory, name, tmp_path / file)
    (tmp_path / "meminfo").write_text("MemTotal: 33554432 kB\nMemAvailable:   16777216 kB\n")
    return tmp_path


def group(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def test_without_a_container_the_system_tells(machine: Path) -> None:
    assert free_memory() == 16 * GIB


def test_a_container_may_hold_less(machine: Path) -> None:
    (machine / "groups").write_text("0::/a/b\n")
    group(machine / "cgroup/a/b", {"memory.max": "max", "memory.current": GIB})
    group(machine / "cgroup/a", {"memory.max": 4 * GIB, "memory.current": 3 * GIB})
    assert free_memory() == GIB
    group(machine / "cgroup/a", {"memory.stat": f"anon 5\ninactive_file {GIB}"})
    assert free_memory() == 2 * GIB


def test_a_container_of_version_1_is_found_at_the_root_of_what_it_sees(machine: Path) -> None:
    (machine / "groups").write_text("4:memory:/docker/77\n3:cpu:/docker/77\n0::/\n")
    group(machine / "cgroup/memory", {"memory.limit_in_bytes": 2 * GIB, "memory.usage_in_bytes": GIB})
    assert free_memory() == GIB


def test_where_nothing_tells_nothing_is_known(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert free_memory() is None


def test_this_process_has_held_some() -> None:
    assert peak_memory() > 10_000_000


LET_GO = """
import sys
from pathlib import Path
from resource import getpagesize
from octavo.memory import give_back_memory, give_back_soon

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()

if "soon" in sys.argv:
    give_back_soon()
size = 2 << 20
once = b"x" * (12 * size)
del once  # after which glibc keeps pieces as large as that
pieces = [(b"x" * size, b"x" * 100_000) for _ in range(16)]
before = held()
between = [small for _, small in pieces]
del pieces
if "now" in sys.argv:
    give_back_memory()
print((before - held()) / (16 * size))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another library than glibc keeps other pieces")
@pytest.mark.parametrize(("how", "share"), [("never", 0.0), ("soon", 1.0), ("now", 1.0)])
def test_the_system_gets_what_the_library_would_have_kept(how: str, share: float) -> None:
    done = subprocess.run([sys.executable, "-c", LET_GO, how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(share, abs=0.1)


def test_another_library_may_keep_what_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Mock(return_value=object())
    monkeypatch.setattr("ctypes.CDLL", asked)
    give_back_memory()
    give_back_soon()
    assert asked.called
