"""How well the planner keeps its word: texts that its forecast was not fitted to, each for some minutes.

    python benchmarks/pairs.py train    # what pairs.jsonl does not hold yet, a line each: nearly two hours
    python benchmarks/pairs.py page     # the tables in docs/planner.md, from pairs.jsonl and forecast.jsonl

Nothing else should run beside it: these trainings go by the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measured import read, with_table
from wheels import UNSEEN

from octavo import toml
from octavo.data import fetch
from octavo.saved import checkpoint_folder, read_facts, steps_saved

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "planner.md"
BEGIN = "<!-- made by benchmarks/pairs.py -->"
NEAR = 0.05  # nats a character


def pairs() -> Iterator[tuple[str, float]]:
    """Which text for how many minutes, the short ones first."""
    yield from ((text, minutes) for minutes in (1.0, 2.0, 5.0) for text in UNSEEN)
    yield "django", 15.0
    yield "ataturk", 60.0


def train(text: str, minutes: float) -> dict[str, Any]:
    """`octavo train TEXT --minutes …` in a process of its own: what was said of it, and what it came to."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = ["train", str(fetch(UNSEEN[text])), "--minutes", str(minutes), "--quiet", "--out", str(run)]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "octavo", *words], check=True, env={**os.environ})
        whole = time.perf_counter() - begin
        config = toml.load(run)
        facts = read_facts(checkpoint_folder(run, steps_saved(run)[0]))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    looked = next(line for line in lines if "val_loss" in line)
    return {
        "forecast": config.train.forecast,
        "within": config.train.forecast_within,
        "val_loss": facts["best"]["val_loss"],
        "share": looked["val_nats_per_character"] / looked["val_loss"],  # tokens of a character
        "best_step": facts["best"]["step"],
        "steps_planned": config.train.steps,
        "most_steps": config.train.most_steps,
        "steps": facts["step"],
        "seconds": facts["seconds"],
        "whole": whole,
        "shape": f"{config.model.layers} x {config.model.width}",
    }


def train_missing(out: Path, most: float) -> None:
    """Train each pair that the file does not hold yet, of at most so many minutes."""
    for text, minutes in pairs():
        key = {"text": text, "minutes": minutes}
        if minutes > most or any(key.items() <= line.items() for line in read(out)):
            continue
        line = {**key, **train(text, minutes)}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def table(lines: list[dict[str, Any]]) -> str:
    """What was said and what came of it, in nats a character."""
    rows = ["| text | asked | took | model | forecast | came to | off |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        took, share = line["seconds"] / 60, line["share"]
        forecast, within, loss = (share * line[name] for name in ("forecast", "within", "val_loss"))
        cells = (
            UNSEEN[line["text"]].what,
            f"{line['minutes']:g} min",
            f"{took:.2f} min" + (f" ({took / line['minutes'] - 1:+.1%})" if in_time(line) else ", as planned"),
            line["shape"].replace("x", "×"),
            f"{forecast:.2f} ± {within:.2f}",
            f"{loss:.3f}",
            f"{loss - forecast:+.3f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", summary(lines)]) + "\n"


def in_time(line: dict[str, Any]) -> bool:
    """Whether it was the time that ended a training, and not what its text is good for."""
    return bool(line["steps"] != line["most_steps"])


def summary(lines: list[dict[str, Any]]) -> str:
    """How far off all of them were, in one sentence."""
    off = [line["share"] * abs(line["val_loss"] - line["forecast"]) for line in lines]
    likely = sum(abs(line["val_loss"] - line["forecast"]) <= line["within"] for line in lines)
    late = max(abs(line["seconds"] / 60 / line["minutes"] - 1) for line in lines if in_time(line))
    near = sum(one < NEAR for one in off)
    return (
        f"The ends are off by {late:.1%} at most. The losses are off by {statistics.mean(off):.3f} in the mean, "
        f"by less than {NEAR} in {near} of {len(off)}; {likely} of them came within what was likely."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "page"])
    parser.add_argument("--out", type=Path, default=HERE / "pairs.jsonl")
    parser.add_argument("--most", type=float, default=60.0, help="leave out what takes more minutes than this")
    words = parser.parse_args()
    if words.what == "page":
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), BEGIN, table(read(words.out))), "utf-8")
    else:
        train_missing(words.out, words.most)


if __name__ == "__main__":
    main()
