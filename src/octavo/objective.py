"""What is learned: to be little surprised. A model and its loss as one module, for whoever wraps modules."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from octavo.cache import Documents
from octavo.config import LOGITS
from octavo.loss import cross_entropy, cross_entropy_in_pieces
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

    def forward(self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        if self.dtype == torch.bfloat16:
            whole = (*self.model.named_parameters(), *self.model.named_buffers())
            cast = {f"model.{name}": value.to(self.dtype) for name, value in whole}
            return functional_call(Objective(self.model, boundary=self.boundary), cast, (tokens, targets))
        cache = None if self.boundary is None else Documents(self.model.config, tokens, self.boundary)
        if tokens.numel() * self.model.config.vocab_size <= LOGITS:
            return cross_entropy(self.model(tokens, cache), targets)
        return cross_entropy_in_pieces(self.model.read(tokens, cache), self.model.unembed.weight, targets)
