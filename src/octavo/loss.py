"""How wrong a model is about the next token."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from octavo.config import LOGITS

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


def cross_entropy_in_pieces(
    known: Float[Tensor, "B T C"], unembed: Float[Tensor, "V C"], targets: Int[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """The same of what a model knows before its last layer: never more than `LOGITS` logits exist at once.

    PyTorch's own `linear_cross_entropy` sums up in the type of its input: one in bfloat16 is off by two in a hundred.

    >>> import torch
    >>> cross_entropy_in_pieces(torch.ones(1, 2, 3), torch.zeros(8, 3), torch.tensor([[3, -1]])).exp().item()
    8.0
    """
    loss: Tensor = _InPieces.apply(known.flatten(0, 1), unembed, targets.flatten())
    return loss


class _InPieces(torch.autograd.Function):
    """Each piece's logits are gone before the next one's are made, so their gradients are taken on the way there."""

    @staticmethod
    def forward(
        ctx: Any, known: Float[Tensor, "rows C"], unembed: Float[Tensor, "V C"], targets: Int[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        learning = any(ctx.needs_input_grad)
        wide = torch.promote_types(known.dtype, torch.float32)
        loss = known.new_zeros((), dtype=wide)
        to_known, to_unembed = torch.empty_like(known), torch.zeros_like(unembed, dtype=wide)
        count = -(-known.size(0) * unembed.size(0) // LOGITS)
        cut = (part.tensor_split(count) for part in (known, targets, to_known))
        for piece, wanted, to_piece in zip(*cut, strict=True):
            scores = (piece @ unembed.mT).to(wide)
            loss += F.cross_entropy(scores, wanted, ignore_index=IGNORED, reduction="sum")
            if learning:
                grad = gradient_of(scores, wanted).to(known.dtype)
                torch.mm(grad, unembed, out=to_piece)
                to_unembed += grad.mT @ piece
        if learning:
            ctx.save_for_backward(to_known, to_unembed.to(unembed.dtype))
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Float[Tensor, ""]) -> tuple[Tensor, Tensor, None]:
        to_known, to_unembed = ctx.saved_tensors
        return to_known * dy.to(to_known.dtype), to_unembed * dy.to(to_unembed.dtype), None


def gradient_of(scores: Float[Tensor, "rows V"], targets: Int[Tensor, " rows"]) -> Float[Tensor, "rows V"]:
    """∂/∂scores Σ −log p(target) = softmax(scores) − onehot(target), and nothing where a target is `IGNORED`.

    >>> import torch
    >>> gradient_of(torch.zeros(2, 2), torch.tensor([1, -1])).tolist()
    [[0.5, -0.5], [0.0, 0.0]]
    """
    counted = (targets != IGNORED).to(scores.dtype)[:, None]
    return scores.softmax(-1).mul_(counted).scatter_add_(-1, targets.clamp(min=0)[:, None], -counted)
