"""What two minutes of training come to: the loss on held-out Shakespeare, and how much of the writing is English."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from octavo import completions, load
from octavo.data import fetch

MINUTES = "2"
WORD = re.compile(r"[A-Za-z']+")


def words_known(run: Path, characters: int = 2000) -> float:
    """The share of the words in so many sampled characters (at temperature 0.8) that occur in the training text."""
    model, tokenizer = load(run)
    [sample] = completions(model, tokenizer, "\n", max_new_tokens=characters, temperature=0.8, seed=1)
    text = fetch("shakespeare").read_text("utf-8")
    known = set(WORD.findall(text[: int(0.9 * len(text))].lower()))
    words = WORD.findall(sample.text.lower())[:-1]  # the last one may be cut
    return sum(word in known for word in words) / len(words)


def train(*flags: str) -> dict[str, float]:
    """Train on Shakespeare in a process of its own."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        words = ["train", "shakespeare", "--split", "0.9", "--minutes", MINUTES, "--quiet", "--out", str(run), *flags]
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "octavo", *words], check=True)
        whole = time.perf_counter() - begin
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        best = min((line for line in lines if "val_loss" in line), key=lambda line: line["val_loss"])
        return {
            "loss": best["val_nats_per_character"],
            "training": lines[-1]["seconds"],
            "whole": whole,
            "read": lines[-1]["tokens"] * best["val_loss"] / best["val_nats_per_character"],
            "words": words_known(run),
        }


def measure() -> list[str]:
    """The lines of a Markdown table, a dialect each."""
    lines = [
        "| dialect | nats a character, held out | training | whole process | characters read | words that are words |",
        "|---|---|---|---|---|---|",
    ]
    for dialect in ("modern", "gpt2"):
        seen = train("--dialect", dialect)
        lines.append(
            f"| {dialect} | **{seen['loss']:.3f}** | {seen['training']:.0f} s | {seen['whole']:.0f} s "
            f"| {seen['read'] / 1e6:.2f} million | {seen['words']:.0%} |"
        )
    return lines


if __name__ == "__main__":
    print("\n".join(measure()))
