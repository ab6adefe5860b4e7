"""What it costs a training to be watched: the same steps with and without `--page`, a browser's stream open, in turns.

python benchmarks/watched.py           # about ten minutes
"""

import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

TURNS, STEPS = 5, 150
SHAPE = "--layers 6 --width 128 --heads 2 --context 128 --batch 16 --eval-every 75"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


def listen(address: str) -> None:
    """What an open page does: take every event as it comes."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/page/learn/events", timeout=60) as events:
        for _ in events:
            pass


def seconds_of(run: Path, *, watched: bool) -> float:
    """Training time of the steps, evaluations left out."""
    words = [sys.executable, *f"-m octavo train shakespeare --steps {STEPS} --out {run} {SHAPE}".split()]
    words.append("--page" if watched else "--quiet")
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := ADDRESS.search(line):
                threading.Thread(target=listen, args=[found[0]], daemon=True).start()
    if process.returncode:
        raise RuntimeError(f"{words} ended with {process.returncode}")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    speeds = [line["tokens_per_second"] for line in lines if line.get("tokens_per_second")]
    return 1 / statistics.median(speeds[10:])


def main() -> None:
    plain, watched = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS):
            plain.append(seconds_of(Path(folder) / f"plain-{turn}", watched=False))
            watched.append(seconds_of(Path(folder) / f"watched-{turn}", watched=True))
    ratio = statistics.median(watched) / statistics.median(plain)
    print(f"- a step with the page open takes {ratio:.3f} times as long as without ({TURNS} turns, medians)")


if __name__ == "__main__":
    main()
