"""Fifteen minutes of tiny-Shakespeare: what docs/planner.md says of them, in benchmarks/fifteen.jsonl."""

import json
from pathlib import Path

from learning import octavo

from octavo.data import fetch

HERE = Path(__file__).resolve().parent
MINUTES = 15.0


def main() -> None:
    """Train once, and add a line to the file."""
    process = octavo(fetch("shakespeare"), MINUTES)
    line = {"loss": process.loss, "training": process.training, "whole": process.whole, "memory": process.memory}
    with (HERE / "fifteen.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(line)


if __name__ == "__main__":
    main()
