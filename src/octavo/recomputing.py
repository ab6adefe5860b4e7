"""Memory for time: what a block keeps for the way back is forgotten, and computed again when it is needed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from octavo.model import GPT, GPTBlock


def recompute_blocks(model: GPT) -> None:
    """Let each block keep nothing but what came into it  [Chen 2016].

    The gradients are the same to the bit, for the random numbers of dropout are drawn again, too. Without gradients,
    and with a cache, a block does as ever. No name of a weight or module changes.
    """
    for block in model.blocks:
        assert isinstance(block, GPTBlock)  # what GPT makes
        object.__setattr__(block, "forward", _Recomputed(block))


class _Recomputed:
    """A block's way forward, in place of its own."""

    changes_nothing = True

    def __init__(self, block: GPTBlock) -> None:
        self.inner = _Inner(block)

    def __call__(self, x: Tensor, rotation: Any = None, cache: Any = None) -> Tensor:
        if not torch.is_grad_enabled() or not self.inner.block.training:
            return self.inner(x, rotation, cache)
        # a cast of the weights stands in their place for one step, and is gone when the way back begins
        named = self.inner.named_parameters()
        casts = {name: weight for name, weight in named if not isinstance(weight, nn.Parameter)}

        def forward(x: Tensor, *casted: Tensor) -> Tensor:
            return functional_call(self.inner, dict(zip(casts, casted, strict=True)), (x, rotation, cache))

        recomputed: Tensor = checkpoint(forward, x, *casts.values(), use_reentrant=False)
        return recomputed


class _Inner(nn.Module):
    """The block as its class defines it, whatever stands in place of that."""

    def __init__(self, block: GPTBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, rotation: Any, cache: Any) -> Tensor:
        return GPTBlock.forward(self.block, x, rotation, cache)
