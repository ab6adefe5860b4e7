"""Texts that are no texts: how fast a gigabyte of one letter, of empty lines or of random bytes becomes tokens."""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from preparation import MEGABYTE, in_its_own_process, write_text


def repeated(sign: bytes) -> Callable[[Path, int], None]:
    """A text of nothing else."""

    def write(path: Path, size: int) -> None:
        with path.open("wb") as file:
            for _ in range(size // MEGABYTE):
                file.write(sign * MEGABYTE)

    return write


def noise(path: Path, size: int) -> None:
    """Random bytes, most of which are no UTF-8: they are read with `--errors replace`. None is zero, as in no text."""
    draw = Random(0)
    with path.open("wb") as file:
        for _ in range(size // MEGABYTE):
            file.write(draw.randbytes(MEGABYTE).replace(b"\0", b"\n"))


TEXTS: dict[str, Callable[[Path, int], None]] = {
    "words": write_text,
    "one letter": repeated(b"a"),
    "empty lines": repeated(b"\n"),
    "random bytes": noise,
}


def measure(megabytes: int) -> list[str]:
    """The lines of a Markdown table, with the speed beside that of words."""
    lines = [f"| {megabytes:,} MB of | cut into | prepared at | beside words | memory |", "|---|---|---|---|---|"]
    for kind, vocabulary in (("character", "0"), ("bpe", "8192")):
        words = 0.0
        for name, write in TEXTS.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "text.txt"
                write(path, megabytes * MEGABYTE)
                size = path.stat().st_size / MEGABYTE
                found = in_its_own_process("prepare", str(path), kind, vocabulary)
            speed = size / found["seconds"]
            words = words or speed
            memory = found["memory"] / 2**20
            lines.append(f"| {name} | {kind} | {speed:.1f} MB/s | {speed / words:.2f} | {memory:.0f} MiB |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


if __name__ == "__main__":
    print("\n".join(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)))
