"""How often a text is worth reading, and what keeps a model from learning it by heart: dropout, or weight decay.

    python benchmarks/often.py train    # what often.jsonl does not hold yet: twenty minutes on a core
    python benchmarks/often.py page     # its table in docs/planner.md

The losses do not depend on the clock, so several of these may run side by side, a thread each. Those with dropout were
made in float32, the larger ones on a GPU, most of them with a weight decay of 0.1 for Muon's matrices, which is next to
nothing: some by `octavo train` with the same settings, those of ten readings by what it planned for `--minutes 3`.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from forecast import Cell, counted, text_of
from measured import read, with_table

from octavo import planner, training
from octavo.config import Asked
from octavo.events import Finished
from octavo.scale import parameters
from octavo.shapes import LADDER, Shape

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "planner.md"
BEGIN = "<!-- made by benchmarks/often.py -->"
FOUND = HERE / "often.jsonl"
NONE, DROPOUT, DECAY = "nothing", "dropout", "weight decay"
SPLIT = 0.9


@dataclass(frozen=True)
class Often:
    """One training: a text or its beginning, a rung of the planner's ladder, how often it is read, and what is done."""

    text: str
    megabytes: float | None
    rung: int
    readings: int
    dropout: float = 0.0
    fades: bool = False  # by the weight decay that is planned
    seed: int = 0


def grid() -> Iterator[Often]:
    """Cheap ones first."""
    for text in ("shakespeare", "networkx", "poems"):
        yield Often(text, 0.1, 0, 5)
        yield from (Often(text, 0.1, 0, readings, fades=True) for readings in (5, 10, 20, 40))
    yield from (Often("shakespeare", None, rung, 7, fades=True) for rung in (2, 3))
    yield from (Often("shakespeare", None, 2, 7, dropout) for dropout in (0.0, 0.1))


def learn(cell: Often, folder: Path) -> dict[str, Any]:
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
        device="cpu",
    )
    prepared = training.plan_training([str(text)], asked)[1]
    different = len(prepared.train.tokens) - 1
    steps = round(cell.readings * different / (shape.batch * shape.context))
    asked = Asked(**{**vars(asked), "steps": steps, "lr": shape.lr, "eval_every": steps // 12})
    with nullcontext() if cell.fades else mock.patch.object(planner, "weight_decay", lambda *_: 0.0):
        trainer = training.begin([str(text)], asked, out=folder / "run", force=True)
    found = next(event for event in trainer.events() if isinstance(event, Finished))
    return {
        "loss": round(found.val_nats_per_character, 4),
        "val_loss": round(found.val_loss, 4),
        "lowest_after": round(cell.readings * found.best_step / steps, 1),
        "tokens": steps * shape.batch * shape.context,
        "parameters": parameters(trainer.config.model),
        "different": different,
        "device": asked.device,
        "counted": counted(trainer.prepared.train.tokens, trainer.held_out.tokens),
    }


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The lowest losses, in nats a character; behind each after how many readings it came."""
    found: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for line in lines:
        if line["seed"] == 0:
            place = (line["text"], line["megabytes"] or 1.0, line["rung"], line["readings"])
            done = DECAY if line.get("fades") else DROPOUT if line["dropout"] else NONE
            best = found.setdefault(place, {}).setdefault(done, line)
            found[place][done] = min(best, line, key=lambda line: line["loss"])
    rows = [
        f"| text | model | tokens for each parameter | readings | {NONE} | {DROPOUT} | {DECAY} |",
        "|---|---|---|---|---|---|---|",
    ]
    for (text, megabytes, rung, often), ways in sorted(found.items(), key=lambda item: (item[0][2], *item[0])):
        shape, line = LADDER[rung], next(iter(ways.values()))
        least = min(one["loss"] for one in ways.values())
        cells = " | ".join(_cell(ways.get(way), least) for way in (NONE, DROPOUT, DECAY))
        size = f"{shape.layers} × {shape.width} | {line['different'] / line['parameters']:.2f}"
        rows.append(f"| {text}, {megabytes:g} MB | {size} | {often} | {cells} |")
    return "\n".join(rows) + "\n"


def _cell(line: dict[str, Any] | None, least: float) -> str:
    if line is None:
        return "–"
    loss = f"{line['loss']:.3f}"
    hidden = f" ({line['dropout']:g})" if line["dropout"] else ""
    return f"{f'**{loss}**' if line['loss'] == least else loss}{hidden}, {line['lowest_after']:.0f}"


def train_missing(cells: Sequence[Often]) -> None:
    for cell in cells:
        if any(asdict(cell).items() <= {"fades": False, **line}.items() for line in read(FOUND)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            line = {**asdict(cell), **learn(cell, Path(folder))}
        with FOUND.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(cell, line["loss"], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "page"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("N", "OF"), help="every OF-th cell")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.what == "page":
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), BEGIN, table(read(FOUND))), "utf-8")
        return
    part, of = words.part
    train_missing(list(grid())[part::of])


if __name__ == "__main__":
    main()
