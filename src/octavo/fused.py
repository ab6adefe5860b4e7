"""The same model in fewer, larger steps, for reading one token at a time on a CPU.

A step of generation does little arithmetic: its time goes into fetching weights, and into calling small operations one
after the other. So what reads the same input becomes one matrix, a norm's weight goes into the matrix behind it, and
large matrices are laid out in the order in which the processor fetches them. It is a copy, as large as the model.
"""

import math
from copy import copy
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from octavo.cache import LayerCache
from octavo.model import GPT, GPTBlock, Rotation, rotate

PACKED_FROM = 2**18  # numbers in a float32 matrix; a packed product takes longer to call, and a smaller one is quick


def fused(model: GPT) -> GPT:
    """A copy of a model that says the same up to rounding, and sooner; the model itself where there is none.

    A copy does not learn when the model does, has no dropout, and none of its taps can be listened to: a model on
    which somebody listens comes back as it is, and so does one that is not on a CPU, or is a copy already.
    """
    heard = any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    if heard or model.embed.weight.device.type != "cpu" or isinstance(model.unembed, Product):
        return model
    swift = copy(model)
    norm = Norm(model.norm)
    parts = {
        "blocks": nn.ModuleList(FusedBlock(block) for block in model.blocks if isinstance(block, GPTBlock)),
        "norm": norm,
        "unembed": norm.into(model.unembed),
        "dropout": nn.Dropout(0.0),
    }
    swift._modules = {**model._modules, **parts}  # what is not replaced is shared
    return swift


class Product(nn.Module):
    """x Wᵀ + b, with W packed for the processor where that is known to be quicker."""

    def __init__(self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None) -> None:
        super().__init__()
        self.packed = packs(weight.dtype) and (weight.dtype == torch.bfloat16 or weight.numel() >= PACKED_FROM)
        self.weight, self.bias = weight.detach(), None if bias is None else bias.detach()
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, 16)

    def forward(self, x: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether this PyTorch, on this processor, packs matrices of this type, and gives the right product with them."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x, weight = torch.eye(4, 32, dtype=dtype), torch.arange(1024.0).view(32, 32).to(dtype)
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
        product = torch.ops.mkldnn._linear_pointwise.default(x, packed, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):  # PyTorch keeps these to itself and may change them
        return False
    return torch.equal(product, F.linear(x, weight))


class Norm(nn.Module):
    """LayerNorm, or RMSNorm without its weight, which belongs into the matrix behind it.

    x / √(mean(x²) + ε) · g = x / √(‖x‖² + εC) · √C g: three steps for the processor, where PyTorch takes six. In half
    precision those six are the more exact way, and the matrix stays as it was.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = cast(nn.LayerNorm | nn.RMSNorm, norm)
        self.size, self.eps, weight = self.norm.normalized_shape, self.norm.eps or 0.0, self.norm.weight.detach()
        self.rms, self.precise = isinstance(norm, nn.RMSNorm), weight.dtype.itemsize < 4
        self.scale = weight if self.precise else weight * math.sqrt(self.size[0])
        self.least = weight.new_tensor(math.sqrt(self.eps * self.size[0]))

    def into(self, *linears: nn.Linear) -> Product:
        """The matrices that read what is normed, below each other, with the weight in them."""
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        folds = self.rms and not self.precise
        return Product(weight * self.scale if folds else weight, torch.cat(biases) if biases else None)

    def bare(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        """RMSNorm without a weight, and without √C, which is in `scale`, unless in half precision."""
        if self.precise:
            return F.rms_norm(x, self.size, None, self.eps)
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least)

    def forward(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        return self.bare(x) if self.rms and not self.precise else self.norm(x)


class FusedBlock(nn.Module):
    """`GPTBlock`, with queries, keys and values from one matrix, and gate and values from another."""

    def __init__(self, block: GPTBlock) -> None:
        super().__init__()
        heads, feed_forward = block.attention.heads, block.feed_forward
        self.head_width = heads.head_width
        self.heads, self.kv_heads = (part.out_features // heads.head_width for part in (heads.query, heads.key))
        self.attention_norm, self.feed_forward_norm = Norm(block.attention_norm), Norm(block.feed_forward_norm)
        self.project = self.attention_norm.into(heads.query, heads.key, heads.value)
        self.mix = Product(block.attention.mix.weight, block.attention.mix.bias)
        self.gated = feed_forward.gate is not None
        ups = [part for part in (feed_forward.gate, feed_forward.up) if part is not None]
        self.up = self.feed_forward_norm.into(*ups)
        self.down = Product(feed_forward.down.weight, feed_forward.down.bias)
        self.query_norm = None if heads.query_norm is None else Norm(heads.query_norm)
        if self.query_norm is not None and heads.key_norm is not None:
            scales = [self.query_norm.scale] * self.heads + [Norm(heads.key_norm).scale] * self.kv_heads
            self.head_scale = torch.stack(scales)[:, None]

    def forward(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None, cache: LayerCache
    ) -> Float[Tensor, "B T C"]:
        heads = self.project(self.attention_norm(x)).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        turned, values = heads[:, : -self.kv_heads], heads[:, -self.kv_heads :]
        if self.query_norm is not None:
            turned = self.query_norm.bare(turned) * self.head_scale
        if rotation is not None:
            turned = rotate(turned, rotation)
        k, v, mask = cache.append(turned[:, self.heads :], values)
        x = x + self.mix(attend(turned[:, : self.heads], k, v, mask).transpose(1, 2).flatten(2))
        inner = self.up(self.feed_forward_norm(x))
        if self.gated:
            gate, inner = inner.chunk(2, -1)
            return x + self.down(F.silu(gate).mul_(inner))
        return x + self.down(F.gelu(inner, approximate="tanh"))


def attend(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B K S D"],
    v: Float[Tensor, "B K S D"],
    mask: Bool[Tensor, "B 1 T S"] | None,
) -> Float[Tensor, "B H T D"]:
    """softmax(Q Kᵀ / √d_k) V, by two products where the fused kernel is slow: one query in bfloat16."""
    grouped = q.size(1) != k.size(1)
    if q.dtype != torch.bfloat16 or q.size(2) > 1:
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None and q.size(2) > 1, enable_gqa=grouped
        )
    queries = q.reshape(q.size(0), k.size(1), -1, q.size(3)) * q.size(3) ** -0.5  # those that share keys side by side
    scores = (k @ queries.mT).mT  # so, and not Q Kᵀ, as that would copy the keys to turn them
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return (scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v).view_as(q)
