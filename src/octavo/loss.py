"""How wrong a model is about the next token."""

import importlib.util
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from octavo.config import LOGITS
from octavo.errors import OctavoError

IGNORED = -1  # a target that counts for nothing: padding at the end of a window
WIDE = 64  # columns: a GPU multiplies matrices of other widths by slower kernels


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
    """The same of what a model knows before its last layer: never more than `LOGITS` logits exist at once, or, where a
    kernel of a GPU leaves their gradients in their place, twice as many.

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
        judge = by_a_kernel if learning and has_kernel(known) else one_by_one
        size, most = unembed.size(0), LOGITS * (2 if judge is by_a_kernel else 1)  # which takes a third of the memory
        whole = F.pad(unembed, (0, 0, 0, -size % WIDE)) if judge is by_a_kernel else unembed
        to_known, to_whole = torch.empty_like(known), torch.zeros_like(whole, dtype=wide)
        count = max(1, -(-known.size(0) // max(1, most // size)))  # of rows, whole
        cut = (part.tensor_split(count) for part in (known, targets, to_known))
        for piece, wanted, to_piece in zip(*cut, strict=True):
            found, grad = judge(piece @ whole.mT, wanted, size, learning)
            loss += found
            if learning:
                torch.mm(grad, whole, out=to_piece)
                add_product(to_whole, grad.mT, piece)
        if learning:
            ctx.save_for_backward(to_known, to_whole[:size].to(unembed.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, dy: Float[Tensor, ""]) -> tuple[Tensor, Tensor, None]:
        check_once()
        to_known, to_unembed = ctx.saved_tensors
        return to_known * dy.to(to_known.dtype), to_unembed * dy.to(to_unembed.dtype), None


def check_once() -> None:
    """Raise `OctavoError` on a way back that is itself to be differentiated, where that has been left out.

    PyTorch's own `once_differentiable` lets such a gradient go on without the part that is missing, and says nothing.
    """
    if torch.is_grad_enabled():
        raise OctavoError(
            "this has a first derivative alone; for a second one take the loss of the logits, in float32, "
            "within torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
        )


def add_product(total: Float[Tensor, "n m"], one: Float[Tensor, "n rows"], other: Float[Tensor, "rows m"]) -> None:
    """Add a product to a sum in float32: on a GPU its own sums are added as they are, and not rounded before."""
    if total.is_cuda and total.dtype != one.dtype:
        torch.addmm(total, one, other, out_dtype=total.dtype, out=total)
    else:
        total += one @ other


def one_by_one(
    logits: Float[Tensor, "rows V"], targets: Int[Tensor, " rows"], size: int, learning: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "rows V"]]:
    """The surprise, and where it is asked for its gradient, by PyTorch's operations one after the other."""
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
    loss = F.cross_entropy(scores, targets, ignore_index=IGNORED, reduction="sum")
    return loss, gradient_of(scores, targets).to(logits.dtype) if learning else scores


def gradient_of(scores: Float[Tensor, "rows V"], targets: Int[Tensor, " rows"]) -> Float[Tensor, "rows V"]:
    """∂/∂scores Σ −log p(target) = softmax(scores) − onehot(target), and nothing where a target is `IGNORED`.

    >>> import torch
    >>> gradient_of(torch.zeros(2, 2), torch.tensor([1, -1])).tolist()
    [[0.5, -0.5], [0.0, 0.0]]
    """
    counted = (targets != IGNORED).to(scores.dtype)[:, None]
    return scores.softmax(-1).mul_(counted).scatter_add_(-1, targets.clamp(min=0)[:, None], -counted)


def by_a_kernel(
    logits: Float[Tensor, "rows columns"], targets: Int[Tensor, " rows"], size: int, learning: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "rows columns"]]:
    """The same by one kernel for a GPU, which reads the logits twice and leaves their gradient in their place.

    What PyTorch's compiler makes of it takes longer. Of the columns only the first `size` are tokens.
    """
    losses = torch.empty(len(targets), dtype=torch.float32, device=logits.device)
    with torch.cuda.device_of(logits):  # of several GPUs, that on which they are
        surprise_kernel()[(len(targets),)](logits, targets, losses, size, logits.size(1), BLOCK=2048, num_warps=8)
    return losses.sum(), logits


@cache
def has_triton() -> bool:
    """Whether there is a compiler of kernels for a GPU here; PyTorch brings it along where it is made for one."""
    return importlib.util.find_spec("triton") is not None


def has_kernel(known: Tensor) -> bool:
    """Whether the kernel is to be had for these numbers."""
    return known.is_cuda and known.itemsize <= 4 and has_triton()


@cache
def surprise_kernel() -> Any:
    """One program for each row of logits: log Σ exp in a first pass, with the running maximum of [Milakov 2018]; in a
    second one softmax(logits) − onehot(target).
    """
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def kernel(logits, targets, losses, size, columns, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
        row = tl.program_id(0).to(tl.int64)
        here, place = logits + row * columns, tl.arange(0, BLOCK)
        target = tl.load(targets + row)
        wanted = tl.load(here + tl.maximum(target, 0)).to(tl.float32)  # before the gradient can stand in its place
        most = tl.full((BLOCK,), -1e30, tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        for begin in range(0, size, BLOCK):
            x = tl.load(here + begin + place, mask=begin + place < size, other=-1e30).to(tl.float32)
            more = tl.maximum(most, x)
            total = total * tl.exp(most - more) + tl.exp(x - more)
            most = more
        top = tl.max(most, 0)
        sum_of_all = top + tl.log(tl.sum(total * tl.exp(most - top), 0))
        tl.store(losses + row, tl.where(target >= 0, sum_of_all - wanted, 0.0))
        for begin in range(0, columns, BLOCK):
            column = begin + place
            x = tl.load(here + column, mask=column < size, other=-1e30).to(tl.float32)
            grad = tl.exp(x - sum_of_all) - tl.where(column == target, 1.0, 0.0)
            tl.store(here + column, tl.where(target >= 0, grad, 0.0), mask=column < columns)

    return kernel
