"""How much sooner, and how much better, a text is learned than by the yardstick's recipe (`yardstick.py`)."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from octavo.data import fetch
from octavo.figure import Series, line_chart

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent / "docs" / "pictures" / "learning.svg"
SHORT = (0.03, 0.05, 0.1, 0.2, 0.35, 0.5)  # minutes: the first that comes to the yardstick's loss is shown
LEARNED = 0.1  # minutes, in which more is learned than counted
REPEATS = 3


@dataclass(frozen=True)
class Process:
    """What a whole process took, from its start to its end, and the loss it came to, in nats a character."""

    loss: float
    training: float  # seconds
    whole: float  # seconds
    memory: float  # MiB, at most
    way: list[tuple[float, float]]  # seconds, and the loss on what was read then


def timed(*words: str) -> tuple[float, float]:
    """Seconds and MiB of a Python process."""
    begin = time.perf_counter()
    child = subprocess.Popen([sys.executable, *words])
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {child.returncode}")
    return time.perf_counter() - begin, used.ru_maxrss / 1024


def yardstick(text: Path) -> Process:
    """The recipe over transformers' GPT-2, in a process of its own."""
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        whole, memory = timed(str(HERE / "yardstick.py"), str(text), str(result))
        said = json.loads(result.read_text("utf-8"))
    return Process(said["loss"], said["seconds"], whole, memory, said["way"])


def octavo(text: Path, minutes: float, *more: str) -> Process:
    """`octavo train TEXT --split 0.9 --minutes …`, in a process of its own."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        flags = ["--split", "0.9", "--minutes", f"{minutes:.4f}", "--quiet", "--out", str(run), *more]
        whole, memory = timed("-m", "octavo", "train", str(text), *flags)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    best = min((line for line in lines if "val_loss" in line), key=lambda line: line["val_loss"])
    share = best["val_nats_per_character"] / best["val_loss"]  # tokens of a character
    way = [(line["seconds"], share * line["train_loss"]) for line in lines]
    return Process(best["val_nats_per_character"], lines[-1]["seconds"], whole, memory, way)


def repeated(text: Path, minutes: float) -> list[Process]:
    """Some trainings of so many minutes, by their losses."""
    return sorted((octavo(text, minutes) for _ in range(REPEATS)), key=lambda process: process.loss)


def soonest(text: Path, loss: float) -> tuple[float, list[Process]]:
    """The shortest training that comes to this loss: its minutes, and some repeats of it, by their losses."""
    for minutes in SHORT:
        tried = repeated(text, minutes)
        if statistics.median(process.loss for process in tried) <= loss:
            break
    return minutes, tried


def row(name: str, process: Process, yard: Process) -> str:
    """A line of the table."""
    ratio = yard.whole / process.whole
    return (
        f"| {name} | {process.loss:.4f} | {process.whole:.1f} s | {process.training:.1f} s | {process.memory:,.0f} MiB "
        f"| **{ratio:.1f}** |"
    )


def draw(yard: Process, ours: Process) -> None:
    """The picture of the page: how fast either learns, in seconds of training."""
    series = [Series("the yardstick", yard.way).smoothed(), Series("octavo, in the same time", ours.way).smoothed()]
    PICTURE.write_text(line_chart(series, x="seconds", y="loss on what is read (nats a character)"), "utf-8")


def measure() -> list[str]:
    """The lines of a Markdown table."""
    text = fetch("shakespeare")
    yard = yardstick(text)
    minutes, short = soonest(text, yard.loss)
    middle, further = short[REPEATS // 2], repeated(text, LEARNED)
    start = middle.whole - middle.training
    long = octavo(text, (yard.whole - start) / 60)
    draw(yard, long)
    reached = middle.loss <= yard.loss
    losses, others = (", ".join(f"{process.loss:.3f}" for process in tried) for tried in (short, further))
    return [
        "![Losses on the text being read, by seconds of training](pictures/learning.svg)",
        "",
        "| | nats a character, held out | whole process | in training | peak memory | sooner, times |",
        "|---|---|---|---|---|---|",
        row("the yardstick", yard, yard),
        row(f"octavo, `--minutes {minutes:g}`", middle, yard),
        row(f"octavo, `--minutes {LEARNED:g}`", further[REPEATS // 2], yard),
        row("octavo, given the yardstick's time", long, yard),
        "",
        f"The short trainings were repeated to losses of {losses}, and of {others}; the medians are shown. The first "
        "has counted what follows what in the text, and hardly begun to learn."
        + ("" if reached else " It did not come to the yardstick's loss, so its last figure says nothing."),
    ]


if __name__ == "__main__":
    print("\n".join(measure()))
