"""What weight decay is worth where a text is read again and again, which is what it is said to be for.

    python benchmarks/decay.py train   # what decay.jsonl does not hold yet: a good hour on two cores
    python benchmarks/decay.py page    # its table in docs/recipe.md

The losses do not depend on the clock, so several of these may run side by side, a thread each.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from forecast import Cell, text_of
from measured import read, with_table
from often import SPLIT

from octavo import learner, training
from octavo.config import Asked
from octavo.events import Finished
from octavo.optim import make_optimizers
from octavo.shapes import LADDER

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "recipe.md"
BEGIN = "<!-- made by benchmarks/decay.py -->"
FOUND = HERE / "decay.jsonl"
SEEDS, DECAYS = (0, 1, 2), (0.0, 0.1)


@dataclass(frozen=True)
class Reading:
    """A text or its beginning, as a rung of the planner's ladder reads it so many times."""

    text: str
    megabytes: float | None
    rung: int
    readings: int
    dropout: float

    @property
    def name(self) -> str:
        return self.text if self.megabytes is None else f"{self.text}, {self.megabytes:g} MB of it"


READINGS = (
    Reading("shakespeare", 0.1, 0, 20, 0.2),
    Reading("networkx", 0.1, 0, 20, 0.2),
    Reading("shakespeare", None, 1, 7, 0.1),
)


def learn(reading: Reading, decay: float, seed: int, folder: Path) -> dict[str, Any]:
    """The lowest loss of a training, in nats a character, and the step it came at."""
    shape = LADDER[reading.rung]
    text = text_of(Cell(reading.text, reading.megabytes, reading.rung, 0), folder)
    asked = Asked(
        split=SPLIT,
        tokenizer="bpe",
        layers=shape.layers,
        heads=shape.heads,
        width=shape.width,
        context=shape.context,
        batch=shape.batch,
        dropout=reading.dropout,
        seed=seed,
        device="cpu",
    )
    prepared = training.plan_training([str(text)], asked)[1]
    steps = round(reading.readings * (len(prepared.train.tokens) - 1) / (shape.batch * shape.context))
    asked = replace(asked, steps=steps, lr=shape.lr, eval_every=steps // 12)

    def with_decay(model: Any, train: Any, *more: Any) -> Any:
        return make_optimizers(model, replace(train, weight_decay=decay), *more)

    with mock.patch.object(learner, "make_optimizers", with_decay):
        trainer = training.begin([str(text)], asked, out=folder / "run", force=True)
        found = next(event for event in trainer.events() if isinstance(event, Finished))
    return {"loss": round(found.val_nats_per_character, 4), "best": found.best_step, "steps": steps}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The mean of the seeds with and without, and how far apart they are."""
    rows = ["| text | readings | without | decay 0.1 | more with it | from seed to seed |", "|---|---|---|---|---|---|"]
    for reading in READINGS:
        own = [line for line in lines if asdict(reading).items() <= line.items()]
        found = {decay: {line["seed"]: line["loss"] for line in own if line["decay"] == decay} for decay in DECAYS}
        seeds = [seed for seed in found[0.0] if seed in found[0.1]]
        without, held = ([found[decay][seed] for seed in seeds] for decay in DECAYS)
        more = [one - other for one, other in zip(held, without, strict=True)]
        rows.append(
            f"| {reading.name} | {reading.readings} | {statistics.mean(without):.3f} | {statistics.mean(held):.3f} "
            f"| {statistics.mean(more):+.3f} | {min(more):+.3f} to {max(more):+.3f}, of {len(seeds)} |"
        )
    return "\n".join(rows) + "\n"


def train_missing() -> None:
    for reading in READINGS:
        for seed in SEEDS:
            for decay in DECAYS:
                key = {**asdict(reading), "decay": decay, "seed": seed}
                if any(key.items() <= line.items() for line in read(FOUND)):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    line = {**key, **learn(reading, decay, seed, Path(folder))}
                with FOUND.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "page"])
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.what == "page":
        PAGE.write_text(with_table(PAGE.read_text("utf-8"), BEGIN, table(read(FOUND))), "utf-8")
        return
    train_missing()


if __name__ == "__main__":
    main()
