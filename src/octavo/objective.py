"""What is learned: to be little surprised. A model and its loss as one module, for whoever wraps modules."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from octavo.config import LOGITS
from octavo.loss import cross_entropy, cross_entropy_in_pieces
from octavo.model import GPT


class Objective(nn.Module):
    """The surprise of a model about the targets, Σ −log p(target), computed in one precision or another.

    In bfloat16, that is around its float32 weights: each is cast once, and its gradient comes back through the cast.
    Autocast would cast at every use, and leave the norms and all that stands between the matrix products in float32
    [Micikevicius 2018, section 3.1].
    """

    def __init__(self, model: GPT, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        if self.dtype == torch.bfloat16:
            whole = (*self.model.named_parameters(), *self.model.named_buffers())
            cast = {f"model.{name}": value.to(self.dtype) for name, value in whole}
            return functional_call(Objective(self.model), cast, (tokens, targets))
        if tokens.numel() * self.model.config.vocab_size <= LOGITS:
            return cross_entropy(self.model(tokens), targets)
        return cross_entropy_in_pieces(self.model.read(tokens), self.model.unembed.weight, targets)
