"""One model in the parts of two processes, on this machine, which exchange through gloo.

    python benchmarks/parts.py      # two minutes; nothing else may run meanwhile

First what a process takes while its part is made, while the whole is written and while it learns, as /proc tells it;
then the seconds of a step, read in more and more pieces: with a copy in each process, with parts that are put together
for each piece, and with parts that stay whole for all of the step (`gathered`). The three take turns; medians.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import cast

import torch

from octavo.config import ModelConfig, RunConfig, TrainConfig
from octavo.imagined import imagine
from octavo.memory import give_back_memory
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.parallel import Spread
from octavo.processes import Processes, joined
from octavo.run import save_model
from octavo.scale import parameters
from octavo.spreading import spread_over
from octavo.step import training_step

PIECES, TURNS, ROWS, WINDOW = (1, 2, 4, 8), 5, 2, 64
LEARNS = ModelConfig(dialect="modern", vocab_size=2048, context=WINDOW, layers=6, heads=4, width=256)
LARGE = ModelConfig(dialect="modern", vocab_size=10240, context=8, layers=16, heads=8, width=640)
FEW, MANY = (ModelConfig(vocab_size=64, context=8, layers=8, heads=4, width=width) for width in (64, 768))
WAYS = {"copies": False, "parts, for each piece": False, "parts, gathered": True}


def run_of(shape: ModelConfig) -> RunConfig:
    """A training of this shape."""
    return RunConfig(model=shape, train=TrainConfig(steps=3, batch=2))


def memory(name: str) -> int:
    """What this process holds now (VmRSS), or held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def height(work: Callable[[], object]) -> int:
    """What some work takes at most, beside what is held already."""
    give_back_memory()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the height is measured anew
    kept.append(work())
    return memory("VmHWM") - before


kept: list[object] = []  # what was made is held


def learned(processes: Processes) -> Iterator[str]:
    """What three steps of AdamW take beside those of a small model, of all of it in a process and of a part in each."""
    train, taken = TrainConfig(steps=3, batch=2, optimizer="adamw"), []

    def learn(shape: ModelConfig, in_parts: bool) -> None:
        config = RunConfig(model=shape, train=train)
        over = spread_over(processes, config, "fsdp") if in_parts else Spread(GPT(shape))
        over.gathered = False
        optimizers = make_optimizers(over.model, train, over.weights, over.matrices)
        tokens = torch.arange(8)[None] + processes.rank
        for _ in range(3):
            training_step(over.model, optimizers, [(tokens, tokens)], rate=1.0, clip=1.0, spread=over)

    for in_parts in (False, True):
        _, small, large = (height(partial(learn, shape, in_parts)) for shape in (FEW, FEW, MANY))  # the first one loads
        taken.append(large - small)
    alone, part = taken
    count = parameters(MANY) / 1e6
    yield (
        f"one of {count:.0f} million parameters learns by AdamW: a process takes {alone / 1e6:,.0f} MB alone and "
        f"{part / 1e6:,.0f} MB as one of two, {part / alone:.2f} times as much"
    )


def made_and_written(processes: Processes) -> Iterator[str]:
    """What is taken while a model in parts is made, and while it is written."""
    spread_over(processes, run_of(LEARNS), "fsdp")  # for what is loaded and kept for later
    taken = height(lambda: spread_over(processes, run_of(LARGE), "fsdp"))
    over = cast(Spread, kept[-1])
    sizes = [weight.nbytes for weight in imagine(LARGE).parameters()]
    part = sum(weight.nbytes for weight in over.weights.values())
    yield (
        f"a model of {sum(sizes) / 1e6:,.0f} MB is made: a process takes {taken / 1e6:,.0f} MB, "
        f"{taken / part:.2f} times its part of it"
    )
    with TemporaryDirectory() as where:
        taken = height(lambda: over.lend(lambda whole: save_model(whole, where)))
    others = processes.summed(0.0 if processes.first else taken)
    yield (
        f"it is written: the first takes {taken / 1e6:,.0f} MB, {taken / max(sizes):.2f} times its largest weight, "
        f"and the other {others / 1e6:,.1f} MB"
    )


def steps(processes: Processes) -> Iterator[str]:
    """A table of seconds."""
    spreads, learners = {}, {}
    for name, gathered in WAYS.items():
        over = spread_over(processes, run_of(LEARNS), "ddp" if name == "copies" else "fsdp")
        over.gathered = gathered
        spreads[name] = over
        learners[name] = make_optimizers(over.model, run_of(LEARNS).train, over.weights, over.matrices)
    yield f"| pieces | {' | '.join(WAYS)} | gathered / for each piece |"
    yield "|---|" + "---|" * (len(WAYS) + 1)
    for pieces in PIECES:
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(TURNS):
            for name, over in spreads.items():
                times[name].append(step(over, learners[name], pieces))
        found = [median(taken) for taken in times.values()]
        yield f"| {pieces} | " + " | ".join(f"{taken:.3f} s" for taken in found) + f" | **{found[2] / found[1]:.2f}** |"


def step(over: Spread, optimizers: list[torch.optim.Optimizer], pieces: int) -> float:
    """Seconds of one."""
    tokens = torch.arange(ROWS * WINDOW).view(ROWS, WINDOW)
    over.processes.agree()
    begin = time.perf_counter()
    training_step(over.model, optimizers, [(tokens, tokens)] * pieces, rate=0.1, clip=1.0, spread=over)
    return time.perf_counter() - begin


def main() -> None:
    """Start two processes; in one of them, measure."""
    if "RANK" not in os.environ:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
        subprocess.run(launch, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return
    with joined() as processes:
        for line in chain(made_and_written(processes), learned(processes), [""], steps(processes)):
            if processes.first:
                print(line, flush=True)


if __name__ == "__main__":
    main()
