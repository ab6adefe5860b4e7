"""What the planner's forecast rests on: trainings of several sizes on several texts, and the line fitted to them.

    python benchmarks/forecast.py train     # what forecast.jsonl does not hold yet, a line each: hours on two cores
    python benchmarks/forecast.py fit       # the coefficients for octavo/forecast.py, and how far off they are
    python benchmarks/forecast.py page      # its tables in docs/planner.md

The losses do not depend on the clock, so several of these may run side by side, a thread each. Those by character were
made when AdamW's rate was 0.15 of Muon's, which `recipe.py` has found to come to the same.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from measured import read, with_table
from wheels import FITTED

from octavo import planner, training
from octavo.config import Asked
from octavo.data import fetch
from octavo.events import Finished
from octavo.forecast import OFF, Counted, doubt, features
from octavo.ngrams import spread, surprise
from octavo.scale import parameters
from octavo.shapes import LADDER

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "planner.md"
BEGIN = "<!-- made by benchmarks/forecast.py -->"
READINGS = "<!-- readings, made by benchmarks/forecast.py -->"
OFTEN = 8  # readings of a text, of which the second table tells
ORDER = 6
COUNTED = (10_000, 20_000, 50_000, 100_000, 200_000, 400_000)
LOOKED_AT = 50_000


@dataclass(frozen=True)
class Cell:
    """One training: a text or its beginning, a rung of the planner's ladder, and about how many tokens to read."""

    text: str
    megabytes: float | None
    rung: int
    tokens: int
    tokenizer: str = "bpe"

    @property
    def key(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("text", "megabytes", "rung", "tokens", "tokenizer")}


def grid() -> Iterator[Cell]:
    """Cheap ones first. Those in characters are what the ones in pieces of words are compared with, and fitted with."""
    short: list[tuple[str, float | None]] = [
        (text, megabytes) for megabytes in (0.02, 0.1) for text in ("shakespeare", "networkx")
    ]
    whole: list[tuple[str, float | None]] = [
        (text, None) for text in ("shakespeare", "networkx", "poems", "chichewa", "sotu", "chitchat")
    ]
    for tokens in (300_000, 1_500_000):
        for text, megabytes in [*short, ("poems", 0.1)]:
            yield Cell(text, megabytes, 0, tokens, "character")
            if megabytes == 0.1:
                yield Cell(text, megabytes, 0, tokens)
    for rung, tokens in ((1, 150_000), (1, 450_000), (2, 900_000)):
        for text, megabytes in [*whole, ("shakespeare", 0.4), ("networkx", 1.0)]:
            if (rung, text) != (2, "chitchat") and (rung, megabytes) not in {(2, 0.4), (2, 1.0)}:
                yield Cell(text, megabytes, rung, tokens, "character")
            if (rung, text) != (2, "poems"):
                yield Cell(text, megabytes, rung, tokens)
    for text in ("sympy", "ec2", "thai"):
        yield Cell(text, None, 1, 450_000)
        yield Cell(text, None, 2, 900_000)
    for text in ("networkx", "chichewa"):
        yield Cell(text, None, 2, 2_200_000)


def learn(cell: Cell, folder: Path, pairs: int | None = None) -> dict[str, Any]:
    """One training; the loss it came to, and what counting makes of the same text.

    For the line that is fitted here no model begins with pairs: `early.py` finds what those are worth besides.
    """
    shape = LADDER[cell.rung]
    step = shape.batch * shape.context
    steps = cell.tokens // step
    asked = Asked(
        steps=steps,
        tokenizer=cell.tokenizer,  # type: ignore[arg-type]
        layers=shape.layers,
        heads=shape.heads,
        width=shape.width,
        context=shape.context,
        batch=shape.batch,
        lr=shape.lr,
        eval_every=-(-steps // (1 if cell.megabytes is None else 10)),  # a whole text is not read so often as to tire
    )
    with mock.patch.object(planner, "pairs", lambda *_: pairs):
        trainer = training.begin([str(text_of(cell, folder))], asked, out=folder / "run", force=True)
    for event in trainer.events():
        if isinstance(event, Finished):
            loss, best, nats = event.val_loss, event.best_step, event.val_nats_per_character
    return {
        "val_loss": loss,
        "val_nats_per_character": nats,
        "best_step": best,
        "steps": steps,
        "parameters": parameters(trainer.config.model),
        "vocabulary": trainer.config.model.vocab_size,
        "weight_decay": trainer.config.train.weight_decay,
        "different": len(trainer.prepared.train.tokens) - 1,
        "counted": counted(trainer.prepared.train.tokens, trainer.held_out.tokens),
    }


def counted(tokens: np.ndarray, held_out: np.ndarray) -> dict[str, list[float]]:
    """The surprise of n-grams counted in more and more of the text."""
    looked_at = spread(held_out, LOOKED_AT)
    sizes = sorted({min(size, len(tokens)) for size in COUNTED})
    return {str(size): surprise(spread(tokens, size), looked_at, ORDER) for size in sizes}


def text_of(cell: Cell, folder: Path) -> Path:
    whole = fetch(FITTED[cell.text])
    if cell.megabytes is None:
        return whole
    cut = folder / f"{cell.text}.txt"
    cut.write_text(whole.read_bytes()[: round(cell.megabytes * 1e6)].decode("utf-8", "ignore"), "utf-8")
    return cut


def counted_in(line: dict[str, Any]) -> Counted:
    """What `octavo.forecast.count` would have come to: between two sizes, in the line of their logarithms."""
    sizes = sorted(map(int, line["counted"]))
    counted = [line["counted"][str(size)] for size in sizes]
    most = min(line["different"] + 1, line["tokens"], COUNTED[-1])

    def at(size: float, values: list[float]) -> float:
        return float(np.interp(np.log(size), np.log(sizes), values))

    least = [min(nats) for nats in counted]
    short = (at(most, [nats[order] for nats in counted]) for order in (0, 1))
    return Counted(at(most, least), *short, half=at(most / 2, least))


def table(lines: Sequence[dict[str, Any]]) -> str:
    """What the same number of tokens comes to, be they characters or pieces of words, in nats a character."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for line in lines:
        place = (line["rung"], line["tokens"], line["text"], line["megabytes"])
        found.setdefault(place, {})[line["tokenizer"]] = line
    rows = ["| text | model | tokens read | by character | in pieces of words | less |", "|---|---|---|---|---|---|"]
    for (rung, tokens, text, megabytes), pair in found.items():
        if len(pair) == 2:
            by_character, pieces = pair["character"], pair["bpe"]["val_nats_per_character"]
            character = by_character.get("val_nats_per_character", by_character["val_loss"])  # early ones lack it
            shape, name = LADDER[rung], text if megabytes is None else f"{text}, {megabytes:g} MB of it"
            rows.append(
                f"| {name} | {shape.layers} × {shape.width} | {tokens:,} | {character:.3f} "
                f"| {pieces:.3f} ({pair['bpe']['vocabulary']:,}) | {character - pieces:+.3f} |"
            )
    return "\n".join(rows) + "\n"


def readings(lines: Sequence[dict[str, Any]]) -> str:
    """What the same text comes to, read a few times and read often; where the loss was lowest, in readings."""
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in sorted(lines, key=lambda line: line["tokens"]):
        place = (line["text"], line["megabytes"], line["tokenizer"], line["rung"])
        found.setdefault(place, []).append(line)
    rows = ["| text | model | tokens for each parameter | readings: loss, lowest after | |", "|---|---|---|---|---|"]
    for (text, megabytes, tokenizer, rung), pair in found.items():
        if len(pair) == 2 and pair[1]["tokens"] > OFTEN * pair[1]["different"]:
            shape, name = LADDER[rung], text if megabytes is None else f"{text}, {megabytes:g} MB of it"
            cells = " | ".join(_read_so_often(line) for line in pair)
            share = pair[0]["different"] / pair[0]["parameters"]
            unit = "by character" if tokenizer == "character" else "in pieces"
            rows.append(f"| {name}, {unit} | {shape.layers} × {shape.width} | {share:.2f} | {cells} |")
    return "\n".join(rows) + "\n"


def _read_so_often(line: dict[str, Any]) -> str:
    often = line["tokens"] / line["different"]
    return f"{often:.0f}: {line['val_loss']:.3f}, {often * line['best_step'] / line['steps']:.0f}"


def fit(lines: Sequence[dict[str, Any]]) -> tuple[list[float], float]:
    """The coefficients of the line, and how far off it is for a text that it was not fitted to, per nat of loss.

    A short text counts for less: it has little held out, and its loss depends on chance.
    """
    x = np.array([_features(line) for line in lines])
    y = np.log([line["val_loss"] for line in lines])
    texts = np.array([line["text"] for line in lines])
    sure = np.array([OFF / doubt(line["different"]) for line in lines])

    def solved(rows: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(x[rows] * sure[rows, None], y[rows] * sure[rows], rcond=None)[0]

    off = np.zeros(len(lines))
    for text in set(texts):
        off[texts == text] = y[texts == text] - x[texts == text] @ solved(texts != text)
    return [round(float(value), 4) for value in solved(texts != "")], float(np.sqrt(np.mean((off * sure) ** 2)))


def all_lines() -> list[dict[str, Any]]:
    """What the line is fitted to: these trainings, and those of `often.py` with the weight decay that is planned."""
    often = read(HERE / "often.jsonl")
    return read(HERE / "forecast.jsonl") + [line for line in often if _as_planned(line)]


def _as_planned(line: dict[str, Any]) -> bool:
    return line["seed"] == 0 and line["dropout"] == 0 and line.get("fades", False)


def _features(line: dict[str, Any]) -> list[float]:
    return features(counted_in(line), line["tokens"], line["different"], LADDER[line["rung"]].context)


def train_missing(out: Path, cells: Sequence[Cell]) -> None:
    for cell in cells:
        if any(cell.key.items() <= line.items() for line in read(out)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            line = {**cell.key, **learn(cell, Path(folder))}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(cell, round(line["val_loss"], 4), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "fit", "page"])
    parser.add_argument("--out", type=Path, default=HERE / "forecast.jsonl")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"), help="every OF-th cell")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.what == "fit":
        print(*fit(all_lines()))
        return
    if words.what == "page":
        page = with_table(PAGE.read_text("utf-8"), BEGIN, table(read(words.out)))
        PAGE.write_text(with_table(page, READINGS, readings(read(words.out))), "utf-8")
        return
    part, of = words.part
    train_missing(words.out, list(grid())[part::of])


if __name__ == "__main__":
    main()
