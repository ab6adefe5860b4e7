"""The same model in fewer, larger steps, for reading one token at a time on a CPU.

A step of generation does little arithmetic: its time goes into fetching weights, and into calling small operations one
after the other. So what reads the same input becomes one matrix, a norm's weight goes into the matrix behind it, and
large matrices are laid out in the order in which the processor fetches them. It is a copy, as large as the model.
"""

import math
from copy import copy, deepcopy
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


def memory_dtype(model: GPT) -> torch.dtype:
    """What a cache holds for this model: its own type, but at least float32 for a copy made here.

    The kernel that looks back from one position takes five to ten times as long in bfloat16.
    """
    dtype = model.embed.weight.dtype
    return torch.promote_types(dtype, torch.float32) if isinstance(model.unembed, Product) else dtype


class Product(nn.Module):
    """x Wᵀ + b, or GELU of it, added to something or not, with W packed where that is known to be quicker."""

    def __init__(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None, *, gelu: bool = False
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.gelu = weight.detach(), None if bias is None else bias.detach(), gelu
        self.packed = packs(weight.dtype) and (weight.dtype == torch.bfloat16 or weight.numel() >= PACKED_FROM)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, 16)

    def forward(
        self, x: Float[Tensor, "*rows in"], stream: Float[Tensor, "*rows out"] | None = None
    ) -> Float[Tensor, "*rows out"]:
        if self.packed:
            return packed_product(x, self.weight, self.bias, self.gelu, stream)
        y = F.linear(x, self.weight, self.bias)
        y = F.gelu(y, approximate="tanh") if self.gelu else y
        return y if stream is None else stream + y


def packed_product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False, stream: Tensor | None = None
) -> Tensor:
    """What `Product` says, in one step: operations that PyTorch's compiler uses, and promises to nobody."""
    operation = torch.ops.mkldnn._linear_pointwise
    if stream is not None:
        return operation.binary(x, stream, weight, bias, "add")
    return operation.default(x, weight, bias, "gelu" if gelu else "none", [], "tanh" if gelu else "")


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether this PyTorch, on this processor, packs matrices of this type, and gives the right products with them."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x, weight = torch.eye(4, 32, dtype=dtype), torch.linspace(-3, 3, 1024).view(32, 32).to(dtype)
    y = F.linear(x, weight)
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
        found = [packed_product(x, packed), packed_product(x, packed, stream=x), packed_product(x, packed, gelu=True)]
    except (AttributeError, RuntimeError, TypeError):  # gone, or changed
        return False
    expected = [y, y + x, F.gelu(y, approximate="tanh")]
    return all(torch.allclose(ours, theirs, 0.02, 0.02) for ours, theirs in zip(found, expected, strict=True))


class Norm(nn.Module):
    """LayerNorm, or RMSNorm without its weight, which belongs into the matrix behind it.

    x / √(mean(x²) + ε) · g = x / √(‖x‖² + εC) · √C g: three steps for the processor, where PyTorch takes six. In half
    precision those six are the more exact way, and the matrix stays as it was.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = cast(nn.LayerNorm | nn.RMSNorm, norm)
        size, weight = self.norm.normalized_shape[0], self.norm.weight.detach()
        self.folds = isinstance(norm, nn.RMSNorm) and weight.dtype.itemsize >= 4
        self.scale = weight * math.sqrt(size)
        self.least = weight.new_tensor(math.sqrt((self.norm.eps or 0.0) * size))

    def into(self, *linears: nn.Linear, gelu: bool = False) -> Product:
        """The matrices that read what is normed, below each other, with the weight in them."""
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        return Product(weight * self.scale if self.folds else weight, torch.cat(biases) if biases else None, gelu=gelu)

    def forward(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        if not self.folds:
            return self.norm(x)
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least)


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
        ups = [part for part in (feed_forward.gate, feed_forward.up) if part is not None]
        self.gated = feed_forward.gate is not None
        self.up = self.feed_forward_norm.into(*ups, gelu=not self.gated)
        self.down = Product(feed_forward.down.weight, feed_forward.down.bias)
        self.head_type = torch.promote_types(heads.query.weight.dtype, torch.float32)
        norms = [Norm(deepcopy(norm).to(self.head_type)) for norm in (heads.query_norm, heads.key_norm) if norm]
        self.head_norm = norms[0] if norms else None
        if norms:
            scales = [norms[0].scale] * self.heads + [norms[1].scale] * self.kv_heads
            self.head_scale = torch.stack(scales)[:, None]

    def forward(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None, cache: LayerCache
    ) -> Float[Tensor, "B T C"]:
        heads = self.project(self.attention_norm(x)).to(self.head_type)
        heads = heads.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        turned, values = heads[:, : -self.kv_heads], heads[:, -self.kv_heads :]
        if self.head_norm is not None:
            turned = self.head_norm(turned) * self.head_scale
        if rotation is not None:
            turned = rotate(turned, rotation)
        seen = self.look_back(turned[:, : self.heads], *cache.append(turned[:, self.heads :], values))
        x = self.mix(seen.to(x.dtype).transpose(1, 2).flatten(2), x)
        inner = self.up(self.feed_forward_norm(x))
        if self.gated:
            gate, inner = inner.chunk(2, -1)
            inner = F.silu(gate).mul_(inner)
        return self.down(inner, x)

    def look_back(
        self,
        q: Float[Tensor, "B H T D"],
        k: Float[Tensor, "B K S D"],
        v: Float[Tensor, "B K S D"],
        mask: Bool[Tensor, "B 1 T S"] | None,
    ) -> Float[Tensor, "B H T D"]:
        """softmax(Q Kᵀ / √d_k) V."""
        causal, grouped = mask is None and q.size(2) > 1, self.heads != self.kv_heads
        return F.scaled_dot_product_attention(q.to(k.dtype), k, v, mask, is_causal=causal, enable_gqa=grouped)
