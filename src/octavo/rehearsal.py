"""A piece of a batch on trial: whether it fits into this process's memory, found out before others wait for it.

Several processes exchange gradients while they are made, and weights while they are used. One that runs out of memory
in the middle of that can tell nobody, and the others would wait for ever. So each takes all that a step takes once
before the first one, by itself, and then they tell one another.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from octavo.config import RunConfig
from octavo.imagined import Undrawn
from octavo.making import prepare_to_learn
from octavo.model import GPT
from octavo.objective import Objective
from octavo.optim import yet_to_take
from octavo.parallel import Spread
from octavo.scale import gathered

BLOCKS = 3  # of a model in parts that are whole at a time: the one at work, the next one, and the last one's gradient
MARGIN = 0.05  # of a GPU's memory: for what is being exchanged, and for gaps too small to be of use


def can_tell(device: torch.device) -> bool:
    """Whether trying shows anything: on a CPU the system ends a process that takes too much, and raises nothing."""
    return device.type != "cpu"


def fits(spread: Spread, config: RunConfig, optimizers: Sequence[torch.optim.Optimizer], rows: int) -> bool:
    """Whether this process has memory to learn from so many rows at once. Nothing is exchanged, and nothing left."""
    try:
        _rehearse(spread, config, optimizers, rows)
    except RuntimeError as error:  # cuBLAS says in its own words that it found no memory to begin with
        if not isinstance(error, torch.OutOfMemoryError) and "ALLOC_FAILED" not in str(error):
            raise
        return False
    return True


def _rehearse(spread: Spread, config: RunConfig, optimizers: Sequence[torch.optim.Optimizer], rows: int) -> None:
    device, in_parts = spread.device, spread.way == "fsdp"
    tokens = torch.zeros((rows, config.window), dtype=torch.long, device=device)
    objective = stand_in(config, spread.objective.boundary, device) if in_parts else spread.objective
    to_come = yet_to_take(optimizers) + (sum(weight.nbytes for weight in spread.weights.values()) if in_parts else 0)
    to_come += gathered(config.model, spread.dtype.itemsize) if spread.gathered else 0
    held = torch.empty(to_come + _margin(device), dtype=torch.uint8, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        _learn(objective, tokens)
    del held


def _learn(objective: Objective, tokens: Tensor) -> None:
    """All of a step but what is done with the gradients: they are asked for by name, so that no exchange begins."""
    torch.autograd.grad(objective(tokens, tokens), list(objective.parameters()))


def _margin(device: torch.device) -> int:
    return int(MARGIN * torch.cuda.mem_get_info(device)[1]) if device.type == "cuda" else 0


def stand_in(config: RunConfig, boundary: int | None, device: torch.device) -> Objective:
    """What takes as much memory as a model in parts does in one of its processes: all layers, but few layers' weights.

    A process that reads a model in parts keeps what every layer came to, and has the weights of but a few at a time.
    """
    model, train = config.model, config.train
    with torch.device(device), Undrawn():
        made = GPT(replace(model, layers=min(BLOCKS, model.layers)), dropout=train.dropout)
    made = prepare_to_learn(made, replace(config, train=replace(train, compile=False)), device)
    made = made.to(torch.bfloat16) if train.dtype == "bfloat16" else made
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
    few = list(made.blocks)
    made.blocks = nn.ModuleList(few[layer % len(few)] for layer in range(model.layers))
    return Objective(made, boundary=boundary)
