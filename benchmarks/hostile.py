"""Texts that are no texts: how fast a gigabyte of one letter, of empty lines or of random bytes becomes tokens.

python benchmarks/hostile.py                                     # all of it: above an hour
python benchmarks/hostile.py 200 --kinds bpe --texts "random bytes"  # beside words, 200 MB of each
"""

import argparse
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


KINDS = {"character": "0", "bpe": "8192"}  # and the size of the vocabulary


def measure(megabytes: int, kinds: list[str], texts: list[str]) -> list[str]:
    """The lines of a Markdown table, with the speed beside that of words."""
    lines = [f"| {megabytes:,} MB of | cut into | prepared at | beside words | memory |", "|---|---|---|---|---|"]
    for kind in kinds:
        words = 0.0
        for name in ("words", *(text for text in texts if text != "words")):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "text.txt"
                TEXTS[name](path, megabytes * MEGABYTE)
                size = path.stat().st_size / MEGABYTE
                found = in_its_own_process("prepare", str(path), kind, KINDS[kind])
            speed = size / found["seconds"]
            words = words or speed
            memory = found["memory"] / 2**20
            lines.append(f"| {name} | {kind} | {speed:.1f} MB/s | {speed / words:.2f} | {memory:.0f} MiB |")
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megabytes", nargs="?", type=int, default=1000)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--texts", nargs="*", default=list(TEXTS), choices=list(TEXTS))
    asked = parser.parse_args()
    print("\n".join(measure(asked.megabytes, asked.kinds, asked.texts)))
