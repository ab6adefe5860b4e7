"""How often a text is worth reading, and how much of what is read dropout should hide meanwhile.

    python benchmarks/often.py train                  # what often.jsonl does not hold yet: ten minutes on two cores
    python benchmarks/often.py train --device cuda    # the larger models, some minutes on a GPU
    python benchmarks/often.py page                   # its table in docs/planner.md

The losses do not depend on the clock, so several of these may run side by side, a thread each. The first lines of a GPU
were made by `octavo train` with the same settings, those of ten readings by what it planned for `--minutes 3`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from forecast import Cell, counted, text_of
from measured import read, with_table

from octavo import training
from octavo.config import Asked
from octavo.events import Finished
from octavo.scale import parameters
from octavo.shapes import LADDER, Shape

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "planner.md"
BEGIN = "<!-- made by benchmarks/often.py -->"
FOUND = HERE / "often.jsonl"
WAYS = ((10, 0.1), (20, 0.1), (20, 0.2), (20, 0.3), (40, 0.2), (40, 0.3), (40, 0.4))  # readings, dropout
SMALL = {(10, 0.1), (20, 0.1), (20, 0.2), (40, 0.3)}  # those of them that a small model is tried with
SPLIT = 0.9


@dataclass(frozen=True)
class Often:
    """One training: a text or its beginning, a rung of the planner's ladder, how often it is read, and dropout."""

    text: str
    megabytes: float | None
    rung: int
    readings: int
    dropout: float
    seed: int = 0


def grid(device: str) -> Iterator[Often]:
    """On a GPU those that would take a processor hours."""
    texts: list[tuple[str, float | None, int]] = [(text, 0.1, 0) for text in ("shakespeare", "networkx", "poems")]
    if device != "cpu":
        texts = [("shakespeare", None, 3), ("shakespeare", None, 4)]
    for readings, dropout in WAYS:
        for text, megabytes, rung in texts if device != "cpu" or (readings, dropout) in SMALL else []:
            yield Often(text, megabytes, rung, readings, dropout)


def learn(cell: Often, folder: Path, device: str) -> dict[str, Any]:
    """The lowest loss of a training, and after how many readings it came."""
    shape: Shape = LADDER[cell.rung]
    text = text_of(Cell(cell.text, cell.megabytes, cell.rung, 0), folder)
    asked = Asked(
        split=SPLIT,
        tokenizer="bpe",
        layers=shape.layers,
        heads=shape.heads,
        width=shape.width,
        context=shape.context,
        batch=shape.batch,
        dropout=cell.dropout,
        seed=cell.seed,
        device=device,
    )
    prepared = training.plan_training([str(text)], asked)[1]
    different = len(prepared.train.tokens) - 1
    steps = round(cell.readings * different / (shape.batch * shape.context))
    asked = Asked(**{**vars(asked), "steps": steps, "lr": shape.lr, "eval_every": steps // 12})
    trainer = training.begin([str(text)], asked, out=folder / "run", force=True)
    found = next(event for event in trainer.events() if isinstance(event, Finished))
    return {
        "loss": round(found.val_nats_per_character, 4),
        "val_loss": round(found.val_loss, 4),
        "lowest_after": round(cell.readings * found.best_step / steps, 1),
        "tokens": steps * shape.batch * shape.context,
        "parameters": parameters(trainer.config.model),
        "different": different,
        "device": device,
        "counted": counted(trainer.prepared.train.tokens, trainer.held_out.tokens),
    }


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lowest losses, in nats a character; behind each after how many readings it came."""
    found: dict[tuple[Any, ...], dict[tuple[int, float], dict[str, Any]]] = {}
    for line in (line for line in lines if line["seed"] == 0):
        found.setdefault((line["text"], line["megabytes"], line["rung"]), {})[line["readings"], line["dropout"]] = line
    rows = [
        "| text | model | tokens for each parameter | "
        + " | ".join(f"{readings}×, {dropout:g}" for readings, dropout in WAYS)
        + " |",
        "|---|---|---|" + "---|" * len(WAYS),
    ]
    for (text, megabytes, rung), ways in found.items():
        shape, name = LADDER[rung], text if megabytes is None else f"{text}, {megabytes:g} MB of it"
        line = next(iter(ways.values()))
        least = min(one["loss"] for one in ways.values())
        cells = " | ".join(_cell(ways.get(way), least) for way in WAYS)
        share = line["different"] / line["parameters"]
        rows.append(f"| {name} | {shape.layers} × {shape.width} | {share:.2f} | {cells} |")
    return "\n".join(rows) + "\n"


def _cell(line: dict[str, Any] | None, least: float) -> str:
    if line is None:
        return "–"
    loss = f"{line['loss']:.3f}"
    return f"{f'**{loss}**' if line['loss'] == least else loss}, {line['lowest_after']:.0f}"


def train_missing(device: str, cells: Sequence[Often]) -> None:
    for cell in cells:
        if any(asdict(cell).items() <= line.items() for line in read(FOUND)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            line = {**asdict(cell), **learn(cell, Path(folder), device)}
        with FOUND.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(cell, line["loss"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "page"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"), help="every OF-th cell")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.what == "page":
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), BEGIN, table(read(FOUND))), "utf-8")
        return
    part, of = words.part
    train_missing(words.device, list(grid(words.device))[part::of])


if __name__ == "__main__":
    main()
