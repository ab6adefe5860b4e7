"""One training step, and one reading of the held-out text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Int
from torch import Tensor

from octavo.errors import UpdateError
from octavo.loss import IGNORED
from octavo.model import GPT
from octavo.objective import Objective
from octavo.parallel import Spread

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
    spread: Spread | None = None,
) -> StepResult:
    """Learn from one global batch, read in pieces: any way of cutting it gives the same gradient.

    `rate` is the factor on every group's peak learning rate, `clip` bounds the length of the gradient [Pascanu 2013],
    `seeds` are one per piece, for dropout. A loss or gradient that is not finite leaves the weights as they were.
    Where the model is `spread` over processes, these are the pieces of one of them. What runs out of memory leaves the
    weights as they were too; where it is the update itself, some have changed by then, and that is an `UpdateError`.
    """
    spread = spread or Spread(model, dtype)
    losses, norm = learn_from(spread, pieces, clip, seeds)
    loss, length = spread.processes.summed(sum(loss.item() for loss in losses)), norm.item()
    finite = isfinite(loss) and isfinite(length)
    if finite:
        set_rate(optimizers, rate)
        _update(optimizers, spread.device)
    spread.forget_gradients()
    return StepResult(loss, length, finite)


def learn_from(
    spread: Spread, pieces: Sequence[Batch], clip: float, seeds: Sequence[int] = ()
) -> tuple[list[Tensor], Tensor]:
    """Make the gradient of one global batch, shortened to `clip`; each piece's share of the loss, and its length.

    Nothing here asks a GPU for a number, unless the model is spread over several processes.
    """
    targets, losses = _targets(spread, pieces), []
    for index, (piece, seed) in enumerate(_seeded(pieces, seeds), 1):
        losses.append(_accumulate(spread, piece, targets, seed, last=index == len(pieces)))
    return losses, spread.clip(clip)


def set_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Let each group learn at this part of its peak rate; on a GPU that is a number there."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(group["initial_lr"] * rate)
            else:
                group["lr"] = group["initial_lr"] * rate


def _update(optimizers: Sequence[torch.optim.Optimizer], device: torch.device) -> None:
    try:
        for optimizer in optimizers:
            optimizer.step()
    except torch.OutOfMemoryError:
        raise UpdateError(
            f"{device} ran out of memory in the middle of an update, and no step would have made such weights; "
            "the last checkpoint is intact, go on from it with more memory, or train with a smaller --width or --layers"
        ) from None


def _targets(spread: Spread, pieces: Sequence[Batch]) -> float | Tensor:
    """How many tokens the processes predict together."""
    counts = [(wanted != IGNORED).sum() for _, wanted in pieces]
    if spread.device.type == "cuda" and spread.way is None:
        return torch.stack(counts).sum().to(torch.float32)
    return spread.processes.summed(sum(map(int, counts)))


def _seeded(pieces: Sequence[Batch], seeds: Sequence[int]) -> Iterable[tuple[Batch, int | None]]:
    return zip(pieces, seeds if seeds else [None] * len(pieces), strict=True)


def _accumulate(spread: Spread, piece: Batch, targets: float | Tensor, seed: int | None, *, last: bool) -> Tensor:
    tokens, wanted = piece
    if seed is not None and spread.model.dropout.p > 0:
        torch.manual_seed(seed)
    loss = spread.surprise(tokens, wanted, last=last) / targets
    (loss * spread.processes.size if spread.way else loss).backward()  # gradients come back as the processes' mean
    return loss.detach()


def evaluate(
    model: GPT,
    batches: Iterable[Batch],
    dtype: torch.dtype = torch.float32,
    boundary: int | None = None,
    *,
    objective: Objective | None = None,
) -> tuple[float, int]:
    """Read held-out text without learning: the summed surprise in nats, and how many tokens were predicted.

    With the token that is the `boundary` of documents none sees another; an `objective` knows the last two itself.
    """
    training, objective = model.training, objective or Objective(model, dtype, boundary)
    model.eval()
    nats, count = 0.0, 0
    try:
        with torch.no_grad():  # what FSDP puts together in inference mode can never be learned again
            for tokens, targets in batches:
                nats += objective(tokens, targets).item()
                count += int((targets != IGNORED).sum())
    finally:
        model.train(training)
    return nats, count
