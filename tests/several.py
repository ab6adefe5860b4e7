"""What one of several processes does in a test: torchrun starts this file with the name of a task and a place to write.

A task is a function here that gets the processes and the task's own words, and returns plain values; the first process
writes them down.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from octavo import training
from octavo.config import Asked, ModelConfig, TrainConfig
from octavo.data import Batches
from octavo.data.batches import cuts
from octavo.events import Stepped
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.parallel import Replicated, Sharded, Spread
from octavo.parts import parts_of
from octavo.processes import ALONE, Processes, joined
from octavo.step import training_step

BATCH, CONTEXT, VOCABULARY = 10, 8, 13  # ten rows are cut unevenly: 3, 2, 3, 2 for two processes and two pieces
SHAPES = {
    "gpt2": ModelConfig(vocab_size=VOCABULARY, context=CONTEXT, layers=1, heads=3, width=15),  # odd on purpose
    "modern": ModelConfig(
        dialect="modern", vocab_size=VOCABULARY, context=CONTEXT, layers=1, heads=2, kv_heads=1, width=20, tied=False
    ),
}


def model_of(dialect: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(SHAPES[dialect]).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def spread(model: GPT, way: str | None, processes: Processes) -> Spread:
    if way is None:
        return Spread(model, torch.float64)
    if way == "ddp":
        return Replicated(model, torch.float64, processes)
    return Sharded(model, torch.float64, processes, torch.device("cpu"))


def learned(
    dialect: str, optimizer: Any, pieces: int, steps: int, way: str | None = None, processes: Processes = ALONE
) -> dict[str, Any]:
    """Losses, gradients' lengths and the weights after so many steps, in float64."""
    train = TrainConfig(steps=steps, batch=BATCH, optimizer=optimizer, lr=0.01)
    over = spread(model_of(dialect), way, processes)
    optimizers = make_optimizers(over.model, train, over.weights, over.matrices)
    text = np.random.default_rng(0).integers(VOCABULARY, size=203)  # the last window of an epoch ignores some targets
    batches = Batches(text, CONTEXT, BATCH, seed=1)
    losses, norms = [], []
    for step in range(steps):
        own = cuts(BATCH, pieces * processes.size)
        mine = list(pairwise(own))[processes.rank :: processes.size]
        rows = [tuple(map(torch.from_numpy, batches.rows(step, *cut))) for cut in mine]
        result = training_step(over.model, optimizers, rows, rate=1.0, clip=0.5, spread=over)
        losses.append(result.loss)
        norms.append(result.grad_norm)
    weights: dict[str, Any] = {}
    over.lend(lambda whole: weights.update({name: value.tolist() for name, value in parts_of(whole).weights.items()}))
    return {"losses": losses, "norms": norms, "weights": weights}


def learn(processes: Processes, cases: list[list[Any]]) -> list[dict[str, Any]]:
    """Several settings after one another."""
    return [learned(*case, processes=processes) for case in cases]


def heard_rows(real: Callable[..., Any], place: Path) -> Callable[..., Any]:
    """`Batches.rows`, which writes down what it gave."""

    def rows(self: Batches, step: int, start: int, stop: int) -> Any:
        found = real(self, step, start, stop)
        with place.open("a") as file:
            file.write(json.dumps([step, start, stop, [part.tolist() for part in found]]) + "\n")
        return found

    return rows


def go_on(
    processes: Processes, run: str, asked: dict[str, Any], parallel: Any, stop: int | None, heard: str
) -> list[float]:
    """Begin a training, or go on with it, and stop it after a step that one of the processes is asked in alone."""
    Batches.rows = heard_rows(Batches.rows, Path(f"{heard}-{processes.rank}"))  # type: ignore[method-assign]
    words: dict[str, Any] = {"processes": processes, "parallel": parallel}
    if asked:
        trainer = training.begin(["text.txt"], Asked(**asked), out=run, **words)
    else:
        trainer = training.resume(Path(run), Asked(), **words)
    losses = []
    for event in trainer.events():
        if isinstance(event, Stepped):
            losses.append(event.train_loss)
            if event.step == stop and processes.rank == processes.size - 1:
                trainer.stop()
    return losses


def memory(processes: Processes, way: str | None) -> float:
    """The most memory that this process took for three steps of AdamW, beside what a small model takes, in bytes."""
    heights = []
    for width in (64, 768):
        model = GPT(ModelConfig(vocab_size=64, context=8, layers=8, heads=4, width=width))
        over = Sharded(model, torch.float32, processes, torch.device("cpu")) if way else Spread(model)
        del model
        train = TrainConfig(steps=3, batch=2, optimizer="adamw")
        optimizers = make_optimizers(over.model, train, over.weights, over.matrices)
        tokens = torch.arange(8)[None] + processes.rank
        for _ in range(3):
            training_step(over.model, optimizers, [(tokens, tokens)], rate=1.0, clip=1.0, spread=over)
        heights.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0)
    return heights[1] - heights[0]


def killed(processes: Processes, run: str, asked: dict[str, Any]) -> None:
    """A training of which one process is killed after its sixth step."""
    trainer = training.begin(["text.txt"], Asked(**asked), out=run, processes=processes)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 6 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def start(count: int, task: str, where: Path, **words: Any) -> Any:
    """Have so many processes do a task, and give what the first one found."""
    answer = where / f"{task}-{count}.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), __file__]
    done = subprocess.run(
        [*command, task, str(answer), json.dumps(words)],
        cwd=where,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(answer.read_text())


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined() as these:
        found = globals()[sys.argv[1]](these, **json.loads(sys.argv[3]))
    if these.first:
        Path(sys.argv[2]).write_text(json.dumps(found))
