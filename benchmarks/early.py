"""What it is worth to begin with what was counted, by how much is read of a text for each of its vocabulary.

    python benchmarks/early.py train     # what early.jsonl does not hold yet: three quarters of an hour on two cores
    python benchmarks/early.py fit       # the power for octavo/forecast.py, and how far off it is
    python benchmarks/early.py page      # its table in docs/recipe.md

The losses do not depend on the clock, so several of these may run side by side, a thread each. What was counted is
learned on from at AdamW's usual rate and at the one that is planned there.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from math import log, sqrt
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from forecast import Cell, learn
from measured import read, with_table

from octavo import optim
from octavo.readings import OF_EACH, PAIRS, pairs
from octavo.shapes import LADDER

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "recipe.md"
BEGIN = "<!-- made by benchmarks/early.py -->"
FOUND = HERE / "early.jsonl"
Line = dict[str, Any]
WAYS = ((None, optim.OUTER_RATE), (PAIRS, optim.OUTER_RATE), (PAIRS, optim.COUNTED_RATE))  # pairs, and AdamW's rate


def grid() -> Iterator[Cell]:
    """Cheap ones first: from trainings that see little of a text to those for which counting is of no use any more."""
    for rung, tokens in ((1, 50_000), (1, 150_000), (1, 450_000), (2, 900_000)):
        for text in ("shakespeare", "networkx", "chichewa", "sotu", "poems"):
            if (text, tokens) != ("shakespeare", 900_000):
                yield Cell(text, None, rung, tokens, "character" if text == "poems" else "bpe")
    yield Cell("shakespeare", None, 1, 150_000, "character")
    for tokens in (130_000, 260_000):  # once and twice
        yield Cell("poems", 0.4, 1, tokens, "character")
    for tokens in (50_000, 150_000):
        yield Cell("shakespeare", 0.4, 1, tokens)
    for text in ("networkx", "sotu"):
        yield Cell(text, None, 2, 1_500_000)


def train_missing(cells: Sequence[Cell]) -> None:
    for cell in cells:
        for steps, rate in WAYS:
            key = {**cell.key, "pairs": steps, "rate": rate}
            if any(key.items() <= line.items() for line in read(FOUND)):
                continue
            with tempfile.TemporaryDirectory() as folder, mock.patch.object(optim, "COUNTED_RATE", rate):
                found = learn(cell, Path(folder), steps)
            kept = ("val_nats_per_character", "parameters", "vocabulary", "different")
            line = {**key, **{name: found[name] for name in kept}}
            with FOUND.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def each_way(lines: Sequence[Line]) -> list[tuple[Line, Line, Line]]:
    """Each training in the three ways, by how much is read for each of the vocabulary."""
    found: dict[tuple[Any, ...], dict[tuple[int | None, float], Line]] = {}
    for line in lines:
        place = tuple(line[name] for name in ("text", "megabytes", "rung", "tokens", "tokenizer"))
        found.setdefault(place, {})[line["pairs"], line["rate"]] = line
    whole = [(ways[WAYS[0]], ways[WAYS[1]], ways[WAYS[2]]) for ways in found.values() if len(ways) == len(WAYS)]
    return sorted(whole, key=lambda ways: of_each(ways[0]))


def planned(line: Line) -> bool:
    """Whether the planner would have this training begin with what was counted."""
    return pairs(line["tokens"], line["vocabulary"], line["different"]) is not None


def of_each(line: Line) -> float:
    """How many tokens are read for each of the vocabulary."""
    return float(line["tokens"] / line["vocabulary"])


def table(lines: Sequence[Line]) -> str:
    """What trainings come to that begin with nothing, and with what was counted, in nats a character."""
    rows = [
        "| text | model | tokens read | for each of the vocabulary | readings | from nothing | counted first, "
        f"AdamW at {optim.OUTER_RATE:g} | at {optim.COUNTED_RATE:g} | less | planned |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for ways in each_way(lines):
        line, shape = ways[0], LADDER[ways[0]["rung"]]
        name = line["text"] if line["megabytes"] is None else f"{line['text']}, {line['megabytes']:g} MB of it"
        losses = [way["val_nats_per_character"] for way in ways]
        rows.append(
            f"| {name}{', by character' * (line['tokenizer'] == 'character')} | {shape.layers} × {shape.width} "
            f"| {line['tokens']:,} | {of_each(line):,.0f} | {line['tokens'] / line['different']:.2f} "
            f"| {' | '.join(f'{loss:.3f}' for loss in losses)} | {losses[0] - losses[2]:+.3f} "
            f"| {'yes' if planned(line) else 'no'} |"
        )
    return "\n".join(rows) + "\n"


def fit(lines: Sequence[Line]) -> tuple[float, float]:
    """The power of tokens read, beside those from which on counting is of no use, by which a loss is less.

    With it comes how far off that is, per nat of loss.
    """
    ways = [(line, told) for line, _, told in each_way(lines) if planned(line)]
    x = [log(of_each(line) / OF_EACH) for line, _ in ways]
    y = [log(told["val_nats_per_character"] / line["val_nats_per_character"]) for line, told in ways]
    power = sum(a * b for a, b in zip(x, y, strict=True)) / sum(a * a for a in x)
    off = sum((b - power * a) ** 2 for a, b in zip(x, y, strict=True)) / (len(x) - 1)
    return round(power, 4), round(sqrt(off), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "fit", "page"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"), help="every OF-th cell")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.what == "fit":
        print(*fit(read(FOUND)))
    elif words.what == "page":
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), BEGIN, table(read(FOUND))), "utf-8")
    else:
        part, of = words.part
        train_missing(list(grid())[part::of])


if __name__ == "__main__":
    main()
