"""Dropout from whole words of random bits, for processors on which PyTorch draws one number for each element."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

LEVELS = 2**16  # a probability is rounded to a multiple of one part in so many


class Dropout(nn.Dropout):
    """While it learns, a part `p` of the numbers is hidden, and the others grow by as much  [Srivastava 2014].

    On a CPU four decisions are cut from one random word of torch's generator: drawn one by one they took a good part
    of a training step. On other devices, and within `torch.func`, PyTorch's own is used.

    >>> sorted(Dropout(0.5)(torch.ones(64)).unique().tolist())
    [0.0, 2.0]
    """

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        hidden = round(self.p * LEVELS)
        usual = x.device.type == "cpu" and not torch._C._are_functorch_transforms_active()
        if not self.training or not hidden or hidden == LEVELS or not usual:
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= hidden - LEVELS // 2
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - hidden))
