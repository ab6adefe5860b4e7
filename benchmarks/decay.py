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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measured import read, with_table
from often import Often, learn

from octavo import learner
from octavo.optim import make_optimizers

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "recipe.md"
BEGIN = "<!-- made by benchmarks/decay.py -->"
FOUND = HERE / "decay.jsonl"
SEEDS, DECAYS = (0, 1, 2), (0.0, 0.1)


READINGS = (
    Often("shakespeare", 0.1, 0, readings=20, dropout=0.2),
    Often("networkx", 0.1, 0, readings=20, dropout=0.2),
    Often("shakespeare", None, 1, readings=7, dropout=0.1),
)


def learn_with(cell: Often, decay: float, folder: Path) -> dict[str, Any]:
    """The lowest loss of a training, in nats a character, and after how many readings it came."""

    def with_decay(model: Any, train: Any, *more: Any) -> Any:
        return make_optimizers(model, replace(train, weight_decay=decay), *more)

    with mock.patch.object(learner, "make_optimizers", with_decay):
        found = learn(cell, folder, "cpu")
    return {name: found[name] for name in ("loss", "lowest_after")}


def table(lines: Sequence[dict[str, Any]]) -> str:
    """The mean of the seeds with and without, and how far apart they are."""
    rows = ["| text | readings | without | decay 0.1 | more with it | from seed to seed |", "|---|---|---|---|---|---|"]
    for reading in READINGS:
        found: dict[float, dict[int, float]] = {decay: {} for decay in DECAYS}
        for line in lines:
            if asdict(replace(reading, seed=line["seed"])).items() <= line.items():
                found[line["decay"]][line["seed"]] = line["loss"]
        seeds = [seed for seed in found[0.0] if seed in found[0.1]]
        without, held = ([found[decay][seed] for seed in seeds] for decay in DECAYS)
        name = reading.text if reading.megabytes is None else f"{reading.text}, {reading.megabytes:g} MB of it"
        more = [one - other for one, other in zip(held, without, strict=True)]
        rows.append(
            f"| {name} | {reading.readings} | {statistics.mean(without):.3f} | {statistics.mean(held):.3f} "
            f"| {statistics.mean(more):+.3f} | {min(more):+.3f} to {max(more):+.3f}, of {len(seeds)} |"
        )
    return "\n".join(rows) + "\n"


def train_missing() -> None:
    for reading in READINGS:
        for seed in SEEDS:
            for decay in DECAYS:
                cell = replace(reading, seed=seed)
                key = {**asdict(cell), "decay": decay}
                if any(key.items() <= line.items() for line in read(FOUND)):
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    line = {**key, **learn_with(cell, decay, Path(folder))}
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
