"""How often each promise is tried: (in `make test`, in `make test-all`). docs/reliability.md names the same numbers."""

import pytest

SWEEPS = {
    "kills": (6, 1000),
    "power failures": (500, 10_000),
    "resumed trainings": (6, 40),
    "flipped bits": (250, 10_000),
    "truncations": (50, 1000),
    "signals": (8, 200),
    "mutations": (3600, 1_188_000),
    "byte strings": (500, 10_000),
    "full disks": (4, 64),
    "aborts": (60, 10_000),
    "requests": (100, 5600),
}


def sweep(name: str, *, shares: int = 1) -> list[object]:
    """The quick number and the full one, which is slow, for `parametrize`; where several tests share, a part of it."""
    quick, full = SWEEPS[name]
    return [quick // shares, pytest.param(full // shares, marks=pytest.mark.slow)]
