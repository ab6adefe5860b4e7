"""What is learned: to be little surprised. A model and its loss as one module, for whoever wraps modules."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from octavo.cache import Documents
from octavo.config import LOGITS
from octavo.loss import check_once, cross_entropy, cross_entropy_in_pieces
from octavo.model import GPT


class Objective(nn.Module):
    """The surprise of a model about the targets, Σ −log p(target), computed in one precision or another.

    In bfloat16, that is around its float32 weights: each is cast once, and its gradient comes back through the cast.
    Autocast would cast at every use, and leave the norms and all that stands between the matrix products in float32
    [Micikevicius 2018, section 3.1]. With the token that is the `boundary` of documents, none of them sees another.
    """

    def __init__(self, model: GPT, dtype: torch.dtype = torch.float32, boundary: int | None = None) -> None:
        super().__init__()
        self.model, self.dtype, self.boundary = model, dtype, boundary
        self.together = False  # whether weights are cast all at once, and so are their gradients, after the last one

    def forward(self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        if self.dtype == torch.bfloat16:
            names, weights = zip(*self.model.named_parameters(), strict=True)
            cast = {f"model.{name}": half for name, half in zip(names, self._halves(weights), strict=True)}
            cast |= {f"model.{name}": buffer.to(self.dtype) for name, buffer in self.model.named_buffers()}
            return functional_call(Objective(self.model, boundary=self.boundary), cast, (tokens, targets))
        cache = None if self.boundary is None else Documents(self.model.config, tokens, self.boundary)
        if tokens.numel() * self.model.config.vocab_size <= LOGITS:
            return cross_entropy(self.model(tokens, cache), targets)
        return cross_entropy_in_pieces(self.model.read(tokens, cache), self.model.unembed.weight, targets)

    def _halves(self, weights: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.together:
            halves: tuple[Tensor, ...] = Halves.apply(self.dtype, *weights)
            return halves
        return [weight.to(self.dtype) for weight in weights]


class Halves(torch.autograd.Function):
    """Many tensors in half precision by a few kernels, where one by one they would be a few hundred."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [value.dtype for value in values]
        ctx.set_materialize_grads(False)
        halves = [torch.empty_like(value, dtype=dtype) for value in values]
        torch._foreach_copy_(halves, values)
        return tuple(halves)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        check_once()
        found = [gradient for gradient in gradients if gradient is not None]
        wide = [torch.empty_like(g, dtype=kind) for g, kind in zip(gradients, ctx.dtypes, strict=True) if g is not None]
        torch._foreach_copy_(wide, found)
        rest = iter(wide)
        return (None, *(None if gradient is None else next(rest) for gradient in gradients))
