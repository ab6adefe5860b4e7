"""How wrong a model is about the next token."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -1  # a target that counts for nothing: padding at the end of a window


def cross_entropy(logits: Float[Tensor, "B T V"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
    """The surprise, Σ −log p(target), in nats, summed over all targets that are not `IGNORED`.

    It is a sum and no mean: whoever divides it by the global number of targets gets the same loss from one large batch
    and from any pieces of it.

    >>> import torch
    >>> cross_entropy(torch.zeros(1, 2, 8), torch.tensor([[3, -1]])).exp().item()
    8.0
    """
    scores = logits.flatten(0, 1)
    scores = scores.float() if scores.itemsize < 4 else scores  # a sum in bfloat16 would lose what it adds up
    return F.cross_entropy(scores, targets.flatten(), ignore_index=IGNORED, reduction="sum")
