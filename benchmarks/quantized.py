"""What rounding weights to eight bits costs: the loss of one trained model on held-out text, whole and rounded."""

import tempfile
from pathlib import Path

import torch

import octavo
from octavo.config import DataConfig
from octavo.data import fetch, prepare
from octavo.evaluation import examine
from octavo.fused import fused
from octavo.places import cache

SHAPE = {"layers": 2, "heads": 8, "width": 512, "context": 128, "batch": 16}  # its matrices are large enough to round
MINUTES = 1.0


def main() -> None:
    """Train, read the held-out tenth both ways, and print a table."""
    text = str(fetch("shakespeare"))
    with tempfile.TemporaryDirectory() as folder:
        run = octavo.train(text, out=Path(folder) / "run", split=0.9, minutes=MINUTES, **SHAPE)
        model, tokenizer = octavo.load(run)
    held_out = prepare(DataConfig(texts=(text,), split=0.9), tokenizer, cache=cache()).val
    rows = {"float32": model, "int8": fused(model, quantize="int8")}
    with torch.inference_mode():
        seen = {name: examine(found, held_out, step=0, dtype=torch.float32) for name, found in rows.items()}
    losses = {name: found.val_nats_per_character for name, found in seen.items() if found}
    print("| weights | nats a character, held out | more |\n|---|---|---|")
    for name, loss in losses.items():
        print(f"| {name} | {loss:.4f} | {loss - losses['float32']:+.4f} |")


if __name__ == "__main__":
    main()
