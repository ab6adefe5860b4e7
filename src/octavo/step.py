"""One training step, and one reading of the held-out text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from octavo.cache import Documents
from octavo.loss import IGNORED, cross_entropy
from octavo.model import GPT

Batch = tuple[Int[Tensor, "_ _"], Int[Tensor, "_ _"]]  # tokens and targets, each B T; pieces may differ in both


@dataclass(frozen=True)
class StepResult:
    """The mean surprise of the global batch in nats per token, the length of its gradient, and whether it was used."""

    loss: float
    grad_norm: float
    used: bool


def logits_in(
    model: GPT, tokens: Int[Tensor, "B T"], dtype: torch.dtype, boundary: int | None = None
) -> Float[Tensor, "B T V"]:
    """What the model says, computed in bfloat16 around its float32 weights where that was asked for.

    With the token that is the `boundary` of documents, none of them sees another.

    Each weight is cast once, and its gradient comes back through the cast: autocast would cast at every use, and
    leave the norms and all that stands between the matrix products in float32  [Micikevicius 2018, section 3.1].
    """
    cache = None if boundary is None else Documents(model.config, tokens, boundary)
    if dtype != torch.bfloat16:
        return model(tokens, cache)
    cast = {name: value.to(dtype) for name, value in (*model.named_parameters(), *model.named_buffers())}
    return functional_call(model, cast, (tokens, cache))


def training_step(
    model: GPT,
    optimizers: Sequence[torch.optim.Optimizer],
    pieces: Sequence[Batch],
    *,
    rate: float,
    clip: float,
    dtype: torch.dtype = torch.float32,
    seeds: Sequence[int] = (),
    boundary: int | None = None,
) -> StepResult:
    """Learn from one global batch, read in pieces: any way of cutting it gives the same gradient.

    `rate` is the factor on every group's peak learning rate, `clip` bounds the length of the gradient [Pascanu 2013],
    `seeds` are one per piece, for dropout, `boundary` is the token that documents begin with, where none is to see
    another. A loss or gradient that is not finite leaves the weights as they were.
    """
    targets = sum(int((piece_targets != IGNORED).sum()) for _, piece_targets in pieces)
    loss = sum(_accumulate(model, piece, targets, dtype, seed, boundary) for piece, seed in _seeded(pieces, seeds))
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


def _accumulate(
    model: GPT, piece: Batch, targets: int, dtype: torch.dtype, seed: int | None, boundary: int | None
) -> float:
    tokens, wanted = piece
    if seed is not None and model.dropout.p > 0:
        torch.manual_seed(seed)
    loss = cross_entropy(logits_in(model, tokens, dtype, boundary), wanted) / targets
    loss.backward()
    return loss.item()


@torch.inference_mode()
def evaluate(
    model: GPT, batches: Iterable[Batch], dtype: torch.dtype = torch.float32, boundary: int | None = None
) -> tuple[float, int]:
    """Read held-out text without learning: the summed surprise in nats, and how many tokens were predicted."""
    training = model.training
    model.eval()
    nats, count = 0.0, 0
    try:
        for tokens, targets in batches:
            nats += cross_entropy(logits_in(model, tokens, dtype, boundary), targets).item()
            count += int((targets != IGNORED).sum())
    finally:
        model.train(training)
    return nats, count
