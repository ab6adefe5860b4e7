"""RMSNorm with a backward pass of its own, for processors on which PyTorch has none."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """x / √(mean(x²) + ε) · g  [Zhang 2019, eq. 4].

    On a CPU, PyTorch reads and learns through this in a dozen small operations, in bfloat16 by way of float32; written
    out it takes less time. On other devices, within `torch.func`, and in float16, whose range is too small
    for it, PyTorch's own is used.

    >>> RMSNorm(2, eps=0.0)(torch.tensor([3.0, 4.0])).mul(5 / 2**0.5).round(decimals=4).tolist()
    [3.0, 4.0]
    """

    def forward(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        usual = x.device.type == "cpu" and self.eps is not None and not torch._C._are_functorch_transforms_active()
        if usual and x.dtype != torch.float16:
            normed: Tensor = WrittenOut.apply(x, self.weight, self.eps)
            return normed
        return super().forward(x)


class WrittenOut(torch.autograd.Function):
    """y = x r g with r = 1 / √(mean(x²) + ε), one r per row; the mean is taken in float32 or better."""

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "*rows C"], weight: Float[Tensor, " C"], epsilon: float
    ) -> Float[Tensor, "*rows C"]:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        r = length.square_().div_(x.size(-1)).add_(epsilon).rsqrt_().to(x.dtype)
        ctx.save_for_backward(x, weight, r)
        ctx.epsilon = epsilon
        return (x * r).mul_(weight)

    @staticmethod
    def backward(ctx: Any, dy: Float[Tensor, "*rows C"]) -> tuple[Tensor | None, Tensor | None, None]:
        """dx = r g dy − x r³ (x · g dy) / C, and dg = Σ r x dy over the rows.

        Where that is to be differentiated once more, by PyTorch's own operations.
        """
        x, weight, r = ctx.saved_tensors
        width = x.size(-1)
        if torch.is_grad_enabled():
            found = iter(
                torch.autograd.grad(
                    F.rms_norm(x, (width,), weight, ctx.epsilon),
                    [value for value, needed in zip((x, weight), ctx.needs_input_grad, strict=False) if needed],
                    dy,
                    create_graph=True,
                )
            )
            return next(found) if ctx.needs_input_grad[0] else None, next(found, None), None
        dy, gain = dy.contiguous(), weight.to(x.dtype)  # of heads the gradient comes turned round
        product = (dy * x).view(-1, width)
        along = (product @ gain).view(r.shape)  # how much of the gradient only makes x longer
        dx = torch.addcmul((dy * gain).mul_(r), x, along.mul_(r.pow(3)).div_(-width))
        return dx, (r.view(1, -1) @ product).view(width).to(weight.dtype), None
