"""What is learned: to be little surprised. A model and its loss as one module, for whoever wraps modules."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from octavo.loss import cross_entropy
from octavo.model import GPT


class Objective(nn.Module):
    """The surprise of a model about the targets, Σ −log p(target), computed in one precision or another."""

    def __init__(self, model: GPT, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, tokens: Int[Tensor, "B T"], targets: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        return cross_entropy(logits_in(self.model, tokens, self.dtype), targets)


def logits_in(model: GPT, tokens: Int[Tensor, "B T"], dtype: torch.dtype) -> Float[Tensor, "B T V"]:
    """What the model says, computed in bfloat16 around its float32 weights where that was asked for.

    Each weight is cast once, and its gradient comes back through the cast: autocast would cast at every use, and
    leave the norms and all that stands between the matrix products in float32  [Micikevicius 2018, section 3.1].
    """
    if dtype != torch.bfloat16:
        return model(tokens)
    cast = {name: value.to(dtype) for name, value in (*model.named_parameters(), *model.named_buffers())}
    return functional_call(model, cast, (tokens,))
