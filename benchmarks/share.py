"""What share of the processor's own speed a training step reaches, at the sizes that are planned for some minutes.

    python benchmarks/share.py      # for 5 minutes on tiny-Shakespeare

The step is timed as it is; beside it the matrix products that are in it, of the same shapes and in the same precision,
one after the other and nothing else: forward, and twice backward. Both in turns, medians.
"""

import sys
import time
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor, nn

from octavo import training
from octavo.config import Asked, RunConfig
from octavo.data.batches import cuts
from octavo.learner import Learner
from octavo.planner import Plan

TURNS, REPEATS = 7, 5


def timed(work: "list[tuple[Tensor, Tensor]]") -> tuple[float, float]:
    """Seconds that these products take, and how many operations they are."""
    begin = time.perf_counter()
    for one, other in work:
        torch.mm(one, other)
    return time.perf_counter() - begin, float(sum(2 * one.size(0) * one.size(1) * other.size(1) for one, other in work))


def products(learner: Learner, rows: int) -> list[tuple[Tensor, Tensor]]:
    """The products of a step: x Wᵀ, and on the way back dy W and dyᵀ x."""
    found = []
    for module in learner.model.modules():
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().to(learner.spread.dtype)
            x, dy = (torch.randn(rows, size).to(learner.spread.dtype) for size in (weight.size(1), weight.size(0)))
            found += [(x, weight.mT), (dy, weight), (dy.mT, x)]
    return found


def step(learner: Learner, config: RunConfig, number: int) -> float:
    """Seconds of one step."""
    begin = time.perf_counter()
    learner.learn(number, config.train.micro_batches, 0.5)
    return time.perf_counter() - begin


def measure(plan: Plan, learner: Learner) -> list[str]:
    """A table of both."""
    config = plan.config
    sizes = [stop - start for start, stop in pairwise(cuts(config.train.batch, config.train.micro_batches))]
    bare = [work for size in sizes for work in products(learner, size * config.window)]
    steps, alone, count = [], [], 0
    operations = timed(bare)[1]
    step(learner, config, 0)
    for _ in range(TURNS):
        for _ in range(REPEATS):
            count += 1
            steps.append(step(learner, config, count))
        alone += [timed(bare)[0] for _ in range(REPEATS)]
    whole, peak = median(steps), median(alone)
    model = config.model
    return [
        f"{model.layers} layers of width {model.width}, {config.train.batch} × {config.window} tokens, "
        f"{config.train.dtype}, {torch.get_num_threads()} threads",
        "",
        "| | seconds | GFLOP/s |",
        "|---|---|---|",
        f"| the products alone | {peak:.4f} | {operations / peak / 1e9:.0f} |",
        f"| a step, its products counted | {whole:.4f} | {operations / whole / 1e9:.0f} |",
        f"| share | {peak / whole:.0%} | |",
    ]


def main() -> None:
    """Print the table."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    plan, prepared = training.plan_training(["shakespeare"], Asked(minutes=minutes, split=0.9, device="cpu"))
    print("\n".join(measure(plan, Learner(plan.config, prepared))))


if __name__ == "__main__":
    main()
