"""One training step, and one reading of the held-out text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Int
from torch import Tensor

from octavo.loss import IGNORED
from octavo.model import GPT
from octavo.objective import Objective

Batch = tuple[Int[Tensor, "_ _"], Int[Tensor, "_ _"]]  # tokens and targets, each B T; pieces may differ in both


@dataclass(frozen=True)
class StepResult:
    """The mean surprise of the global batch in nats per token, the length of its gradient, and whether it was used."""

    loss: float
    grad_norm: float
    used: bool


def training_step(
    model: GPT,
    optimizers: Sequence[torch.optim.Optimizer],
    pieces: Sequence[Batch],
    *,
    rate: float,
    clip: float,
    dtype: torch.dtype = torch.float32,
    seeds: Sequence[int] = (),
) -> StepResult:
    """Learn from one global batch, read in pieces: any way of cutting it gives the same gradient.

    `rate` is the factor on every group's peak learning rate, `clip` bounds the length of the gradient [Pascanu 2013],
    `seeds` are one per piece, for dropout. A loss or gradient that is not finite leaves the weights as they were.
    """
    targets = sum(int((piece_targets != IGNORED).sum()) for _, piece_targets in pieces)
    loss = sum(_accumulate(model, piece, targets, dtype, seed) for piece, seed in _seeded(pieces, seeds))
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip).item()
    finite = isfinite(loss) and isfinite(norm)
    if finite:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
            optimizer.step()
    model.zero_grad(set_to_none=True)
    return StepResult(float(loss), norm, finite)


def _seeded(pieces: Sequence[Batch], seeds: Sequence[int]) -> Iterable[tuple[Batch, int | None]]:
    return zip(pieces, seeds if seeds else [None] * len(pieces), strict=True)


def _accumulate(model: GPT, piece: Batch, targets: int, dtype: torch.dtype, seed: int | None) -> float:
    tokens, wanted = piece
    if seed is not None and model.dropout.p > 0:
        torch.manual_seed(seed)
    loss = Objective(model, dtype)(tokens, wanted) / targets
    loss.backward()
    return loss.item()


@torch.inference_mode()
def evaluate(model: GPT, batches: Iterable[Batch], dtype: torch.dtype = torch.float32) -> tuple[float, int]:
    """Read held-out text without learning: the summed surprise in nats, and how many tokens were predicted."""
    training, objective = model.training, Objective(model, dtype)
    model.eval()
    nats, count = 0.0, 0
    try:
        for tokens, targets in batches:
            nats += objective(tokens, targets).item()
            count += int((targets != IGNORED).sum())
    finally:
        model.train(training)
    return nats, count
