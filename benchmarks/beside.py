"""Learning beside another program that keeps one core busy: with all threads, and with those that `--minutes` takes.

python benchmarks/beside.py           # about three minutes
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TURNS = 3
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


def main() -> None:
    found: dict[str, list[float]] = {"alone": [], "all threads": [], "as octavo takes them": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS):
            found["alone"].append(speed(Path(folder) / f"alone-{turn}", ALWAYS))
            with busy():
                found["all threads"].append(speed(Path(folder) / f"all-{turn}", ALWAYS))
                found["as octavo takes them"].append(speed(Path(folder) / f"some-{turn}", SHORTLY))
    alone, everything, some = (statistics.median(speeds) for speeds in found.values())
    print("| | tokens a second | beside it alone |\n|---|---|---|")
    print(f"| alone | {alone:,.0f} | 1 |")
    print(f"| beside a busy program, all threads | {everything:,.0f} | {everything / alone:.2f} |")
    print(f"| beside a busy program, as `--minutes` takes them | {some:,.0f} | {some / alone:.2f} |")


if __name__ == "__main__":
    main()
