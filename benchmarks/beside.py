"""Learning and writing beside another program that keeps one core busy: with all threads, and with fewer.

python benchmarks/beside.py           # about four minutes
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from octavo.config import GPT2
from octavo.cores import NEIGHBOURS
from octavo.generation import generate
from octavo.model import GPT

TURNS = 3
WRITTEN = 60  # tokens
SHAPE = "--layers 6 --width 128 --heads 2 --context 128 --batch 16 --eval-every 1000 --quiet"
ALWAYS, SHORTLY = "--steps 60", "--minutes 0.2"  # with the former the threads stay what they are


@contextmanager
def busy() -> Iterator[None]:
    """Another program, which wants all of one core."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            yield
        finally:
            other.kill()


def speed(run: Path, length: str) -> float:
    """Tokens a second, once it is warm."""
    words = f"-m octavo train shakespeare {length} --out {run} {SHAPE}".split()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return statistics.median(line["tokens_per_second"] for line in lines[len(lines) // 2 :])


def writing(model: GPT) -> float:
    """Tokens a second that one text gains; the median of three times."""
    speeds = []
    for _ in range(TURNS):
        steps = generate(model, [1], max_new_tokens=WRITTEN + 10, temperature=0)
        begun, ended = [time.perf_counter() for place, _ in enumerate(steps) if place in (9, WRITTEN + 9)]
        speeds.append(WRITTEN / (ended - begun))
    return statistics.median(speeds)


def learning() -> list[list[float]]:
    """Tokens a second alone, and beside another program with all threads and as octavo takes them; some turns."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS):
            alone = speed(Path(folder) / f"alone-{turn}", ALWAYS)
            with busy():
                everything = speed(Path(folder) / f"all-{turn}", ALWAYS)
                found.append([alone, everything, speed(Path(folder) / f"some-{turn}", SHORTLY)])
    return found


def written() -> list[list[float]]:
    """The same of a text that a GPT-2 of 124 million parameters writes."""
    model, found, look = GPT(GPT2), [], NEIGHBOURS.busy
    for _ in range(TURNS):
        alone = writing(model)
        with busy():
            NEIGHBOURS.busy = lambda: 0.0
            everything = writing(model)
            NEIGHBOURS.busy = look
            time.sleep(1)
            found.append([alone, everything, writing(model)])
    return found


def main() -> None:
    print("| | tokens a second | beside it alone |\n|---|---|---|")
    for what, found, how in (("learning", learning(), "as `--minutes` takes them"), ("writing", written(), "fewer")):
        alone, everything, some = map(statistics.median, zip(*found, strict=True))
        print(f"| {what} alone | {alone:,.0f} | 1 |")
        print(f"| {what} beside a busy program, all threads | {everything:,.0f} | {everything / alone:.2f} |")
        print(f"| {what} beside a busy program, {how} | {some:,.0f} | {some / alone:.2f} |")


if __name__ == "__main__":
    main()
