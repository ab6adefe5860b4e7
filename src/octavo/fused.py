"""The same model in fewer, larger steps, for reading one token at a time.

A step of generation does little arithmetic: its time goes into fetching weights, and into calling small operations one
after the other. So what reads the same input becomes one matrix, a norm's weight goes into the matrix behind it, and
large matrices are laid out in the order in which a processor fetches them. It is a copy, as large as the model; twice
as large where the model is in half precision and the processor is not made for that. On a GPU it shares what it can.
"""

import math
from copy import copy, deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from octavo.cache import LayerCache
from octavo.errors import ConfigError, OctavoError
from octavo.model import GPT, GPTBlock, Rotation, rotate
from octavo.optim import has_bfloat16_units
from octavo.own import strange_parts
from octavo.products import (
    EightBitProduct,
    HalfProduct,
    Product,
    TiledProduct,
    WideProduct,
    counts_in_eight_bits,
    halves,
)
from octavo.side_by_side import SideLayer

FEW = 4  # rows of which a thread sums up each number by itself, however many threads there are
SMALL = 0.25  # of the memory that is free on a GPU
ALONE_UNDER = 2**18  # numbers to look back at; a second thread is woken later than one has looked at fewer


def fused(
    model: GPT,
    *,
    rows: int | None = None,
    quantize: str | None = None,
    everywhere: bool = False,
    bitwise: bool = False,
) -> GPT:
    """A copy of a model that says the same up to rounding, and sooner; the model itself where there is none.

    A copy is of the model as it is now: what the model learns later, it knows in part at most. It has no dropout, and
    none of its taps can be listened to: a model on which somebody listens comes back as it is, and so does one of which
    a part is not octavo's own or it, or its class, was given another function, one that is a copy already, or on a
    device without room for another. For one of `rows`, bfloat16
    weights are laid out for one text. With `everywhere` there is a copy on any device, and if it is to be `bitwise`, no
    row of it asks how many others there are. `quantize="int8"` rounds weights to eight bits, which is said to be near,
    not the same; it raises `ConfigError` where that cannot be had, `OctavoError` where a weight is not finite.
    """
    heard = overheard(model) or foreign(model)
    if quantize is not None:
        check_quantize(model, quantize, heard)
    if heard or not (everywhere or has_room(model)) or isinstance(model.unembed, Product):
        return model
    tiled = bitwise and model.embed.weight.device.type == "cuda"  # on a CPU it suffices to fill up to eight rows
    kind = TiledProduct if tiled else kind_for(model, rows, quantize)
    swift = copy(model)
    norm = Norm(model.norm, kind)
    parts = {
        "blocks": nn.ModuleList(FusedBlock(block, kind) for block in model.blocks if isinstance(block, GPTBlock)),
        "norm": norm,
        "unembed": norm.into(model.unembed),
        "dropout": nn.Dropout(0.0),
    }
    swift._modules = {**model._modules, **parts}  # what is not replaced is shared
    return swift


def has_room(model: GPT) -> bool:
    """Whether a copy may be made: on a CPU, and on a GPU where models of this size are a small part of what is free."""
    device = model.embed.weight.device
    if device.type == "cuda":
        return sum(weight.nbytes for weight in model.parameters()) < SMALL * torch.cuda.mem_get_info(device)[0]
    return device.type == "cpu"


def overheard(model: GPT) -> bool:
    """Whether somebody listens to a part of a model."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def foreign(model: GPT) -> bool:
    """Whether a part is of somebody else's making, or was given other functions, and may do whatever it likes."""
    return not isinstance(model.unembed, Product) and any(strange_parts(model))


def check_quantize(model: GPT, quantize: str, heard: bool) -> None:
    """Raise `ConfigError` where weights cannot be rounded so."""
    device = model.embed.weight.device.type
    if quantize != "int8":
        raise ConfigError(f"quantize is {quantize!r}; give 'int8' or None")
    if device != "cpu":
        raise ConfigError(f"int8 is for a CPU and the model is on {device}; move it there, or leave quantize out")
    if heard:
        raise ConfigError(
            "somebody listens to the model, or changed a part of it, and no copy of it has that; undo it, or leave "
            "quantize out"
        )
    if isinstance(model.unembed, Product) and not isinstance(model.unembed, EightBitProduct):
        raise ConfigError("the model is a quick copy already, with whole weights; quantize the model that it is of")
    if not counts_in_eight_bits():
        raise ConfigError("this PyTorch does not multiply in int8 on this processor; leave quantize out")
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise OctavoError("the model has weights that are not finite; its training diverged or they are damaged")


def kind_for(model: GPT, rows: int | None, quantize: str | None) -> type[Product]:
    """How the weights of a copy are held."""
    if quantize is not None:
        return EightBitProduct
    weight = model.embed.weight
    if weight.device.type == "cpu" and weight.dtype.itemsize == 2 and not has_bfloat16_units():
        return WideProduct
    half = rows == 1 and weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and halves()
    return HalfProduct if half else Product


def memory_dtype(model: GPT) -> torch.dtype:
    """What a cache holds for this model: its own type, but at least float32 for a copy made here.

    The kernel of a CPU that looks back from one position takes several times as long in bfloat16.
    """
    weight = model.embed.weight
    wide = isinstance(model.unembed, Product) and weight.device.type == "cpu"
    return torch.promote_types(weight.dtype, torch.float32) if wide else weight.dtype


class Norm(nn.Module):
    """LayerNorm, or RMSNorm without its weight, which belongs into the matrix behind it.

    x / √(mean(x²) + ε) · g = x / √(‖x‖² + εC) · √C g: three steps for a processor, where PyTorch takes six; a GPU has
    one kernel for all but g. In half precision PyTorch's is the more exact way, and the matrix stays as it was; so it
    does where it is held as float16.
    """

    def __init__(self, norm: nn.Module, kind: type[Product] = Product) -> None:
        super().__init__()
        self.kind = kind
        self.norm = cast(nn.LayerNorm | nn.RMSNorm, deepcopy(norm).float() if kind.wide else norm)
        size, weight = self.norm.normalized_shape[0], self.norm.weight.detach()
        self.folds = isinstance(norm, nn.RMSNorm) and weight.dtype.itemsize >= 4 and kind is not HalfProduct
        self.scale = weight * math.sqrt(size) if weight.device.type == "cpu" else weight
        self.least = weight.new_tensor(math.sqrt((self.norm.eps or 0.0) * size))

    def into(self, *linears: nn.Linear, gelu: bool = False) -> Product:
        """The matrices that read what is normed, below each other, with the weight in them."""
        weights = [linear.weight.detach() for linear in linears]
        weight = torch.cat(weights) if len(weights) > 1 else weights[0]
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        weight = weight * self.scale if self.folds else weight
        return self.kind(weight, torch.cat(biases) if biases else None, gelu=gelu)

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)  # as of a `Product`

    def forward(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        return self.without_weight(x) if self.folds else self.norm(x)

    def without_weight(self, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
        """What is to be multiplied by `scale`."""
        if x.device.type != "cpu":
            return F.rms_norm(x, x.shape[-1:], eps=self.norm.eps)
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.least)


class FusedBlock(nn.Module):
    """`GPTBlock`, with queries, keys and values from one matrix, and gate and values from another."""

    def __init__(self, block: GPTBlock, kind: type[Product] = Product) -> None:
        super().__init__()
        heads, feed_forward = block.attention.heads, block.feed_forward
        self.head_width = heads.head_width
        self.heads, self.kv_heads = (part.out_features // heads.head_width for part in (heads.query, heads.key))
        self.attention_norm, self.feed_forward_norm = (
            Norm(norm, kind) for norm in (block.attention_norm, block.feed_forward_norm)
        )
        self.project = self.attention_norm.into(heads.query, heads.key, heads.value)
        self.mix = kind(block.attention.mix.weight, block.attention.mix.bias)
        ups = [part for part in (feed_forward.gate, feed_forward.up) if part is not None]
        self.gated = feed_forward.gate is not None
        self.up = self.feed_forward_norm.into(*ups, gelu=not self.gated)
        self.down = kind(feed_forward.down.weight, feed_forward.down.bias)
        dtype = heads.query.weight.dtype
        on_a_cpu = heads.query.weight.device.type == "cpu"
        self.head_type = torch.promote_types(dtype, torch.float32) if on_a_cpu else dtype
        self.stream_type = torch.float32 if kind.wide else dtype
        norms = [Norm(deepcopy(norm).to(self.head_type)) for norm in (heads.query_norm, heads.key_norm) if norm]
        self.head_norm = norms[0] if norms else None
        if norms:
            scales = [norms[0].scale] * self.heads + [norms[1].scale] * self.kv_heads
            self.head_scale = torch.stack(scales)[:, None]

    def forward(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None, cache: LayerCache
    ) -> Float[Tensor, "B T C"]:
        x = x.to(self.stream_type)
        heads = self.project(self.attention_norm(x)).to(self.head_type)
        heads = heads.unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        turned, values = heads[:, : -self.kv_heads], heads[:, -self.kv_heads :]
        if self.head_norm is not None:
            turned = self.head_norm.without_weight(turned) * self.head_scale
        if rotation is not None:
            turned = rotate(turned, rotation)
        q, k = turned[:, : self.heads], turned[:, self.heads :]
        if isinstance(cache, SideLayer):
            seen = cache.look_back(q, k, values, self.look_back)
        else:
            seen = self.look_back(q, *cache.append(k, values))
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
        mask: Shaped[Tensor, "B 1 _ S"] | None,
    ) -> Float[Tensor, "B H T D"]:
        """softmax(Q Kᵀ / √d_k) V; what is hidden is false in the mask, or −∞."""
        causal, grouped = mask is None and q.size(2) > 1, self.heads != self.kv_heads
        with alone(q.size(2) <= 8 and k.numel() < ALONE_UNDER):
            return F.scaled_dot_product_attention(q.to(k.dtype), k, v, mask, is_causal=causal, enable_gqa=grouped)


class alone:  # a word for a with statement
    """One thread within a `with` statement, where that is asked for; setting it takes next to no time."""

    def __init__(self, asked: bool) -> None:
        self.threads = torch.get_num_threads() if asked else 1

    def __enter__(self) -> None:
        if self.threads > 1:
            torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        if self.threads > 1:
            torch.set_num_threads(self.threads)
