"""What it is worth to begin with what was counted, by how much is read of a text for each of its vocabulary.

    python benchmarks/early.py train     # what early.jsonl does not hold yet: a quarter of an hour on two cores
    python benchmarks/early.py fit       # the power for octavo/forecast.py
    python benchmarks/early.py page      # its table in docs/recipe.md

The losses do not depend on the clock, so several of these may run side by side, a thread each.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from math import log
from pathlib import Path
from typing import Any

import torch
from forecast import Cell, learn
from measured import read, with_table

from octavo.readings import OF_EACH, PAIRS
from octavo.shapes import LADDER

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "recipe.md"
BEGIN = "<!-- made by benchmarks/early.py -->"
FOUND = HERE / "early.jsonl"


def grid() -> Iterator[Cell]:
    """Cheap ones first: from trainings that see little of a text to those for which counting is of no use any more."""
    for rung, tokens in ((1, 50_000), (1, 150_000), (1, 450_000), (2, 900_000)):
        for text in ("shakespeare", "networkx", "chichewa", "sotu", "poems"):
            if (text, tokens) not in {("shakespeare", 900_000), ("chichewa", 900_000)}:
                yield Cell(text, None, rung, tokens, "character" if text == "poems" else "bpe")
    yield Cell("shakespeare", None, 1, 150_000, "character")


def train_missing(cells: Sequence[Cell]) -> None:
    for cell in cells:
        for pairs in (None, PAIRS):
            key = {**cell.key, "pairs": pairs}
            if any(key.items() <= line.items() for line in read(FOUND)):
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = learn(cell, Path(folder), pairs)
            kept = ("val_nats_per_character", "parameters", "vocabulary", "different")
            line = {**key, **{name: found[name] for name in kept}}
            with FOUND.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def both(lines: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each training without pairs, and the same with them, by how much is read for each of the vocabulary."""
    found: dict[tuple[Any, ...], dict[int | None, dict[str, Any]]] = {}
    for line in lines:
        place = (line["text"], line["rung"], line["tokens"], line["tokenizer"])
        found.setdefault(place, {})[line["pairs"]] = line
    pairs = [(ways[None], ways[PAIRS]) for ways in found.values() if len(ways) == 2]
    return sorted(pairs, key=lambda pair: of_each(pair[0]))


def of_each(line: dict[str, Any]) -> float:
    """How many tokens are read for each of the vocabulary."""
    return float(line["tokens"] / line["vocabulary"])


def table(lines: Sequence[dict[str, Any]]) -> str:
    """What trainings come to that begin with nothing, and with what was counted, in nats a character."""
    rows = [
        "| text | model | tokens read | for each of the vocabulary | readings | from nothing | counted first | less |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line, counted in both(lines):
        shape, unit = LADDER[line["rung"]], ", by character" * (line["tokenizer"] == "character")
        loss, less = line["val_nats_per_character"], counted["val_nats_per_character"]
        rows.append(
            f"| {line['text']}{unit} | {shape.layers} × {shape.width} | {line['tokens']:,} | {of_each(line):,.0f} "
            f"| {line['tokens'] / line['different']:.2f} | {loss:.3f} | {less:.3f} | {loss - less:+.3f} |"
        )
    return "\n".join(rows) + "\n"


def fit(lines: Sequence[dict[str, Any]]) -> float:
    """The power of tokens read, beside those from which on counting is of no use, by which a loss is less."""
    planned = [pair for pair in both(lines) if of_each(pair[0]) < OF_EACH]
    x = [log(of_each(line) / OF_EACH) for line, _ in planned]
    y = [log(counted["val_nats_per_character"] / line["val_nats_per_character"]) for line, counted in planned]
    return round(sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "fit", "page"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"), help="every OF-th cell")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.what == "fit":
        print(fit(read(FOUND)))
    elif words.what == "page":
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), BEGIN, table(read(FOUND))), "utf-8")
    else:
        part, of = words.part
        train_missing(list(grid())[part::of])


if __name__ == "__main__":
    main()
