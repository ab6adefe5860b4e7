"""GPT, on one page, to be read from top to bottom.

Shapes are written in one alphabet: `B` batch, `T` positions read now, `S` positions visible, `C` width, `H` heads,
`K` heads of keys and values, `D` head width, `F` feed-forward width, `V` vocabulary, `L` layers.

Two dialects share this page. GPT-2 [Radford 2019]: LayerNorm, learned positions, GELU, biases. The modern one, as
Llama and Qwen3: RMSNorm, rotary positions, SwiGLU, grouped keys and values, no biases, norms on queries and keys.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from octavo.cache import Cache, LayerCache, NoCache, check_batched, check_rows
from octavo.config import ModelConfig
from octavo.dropout import Dropout
from octavo.norm import RMSNorm
from octavo.tap import Tap

Rotation = tuple[Float[Tensor, "B 1 T D"], Float[Tensor, "B 1 T D"]]


class Rotary(nn.Module):
    """A position as an angle: pair i of a vector at position t is turned by t · base^(−2i/D)  [Su 2021, eq. 15].

    The score of a query and a key then depends on their distance alone.
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("cosine", torch.empty(config.context, config.head_width), persistent=False)
        self.register_buffer("sine", torch.empty(config.context, config.head_width), persistent=False)
        self._apply(lambda table: table)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> nn.Module:
        """Computes the tables anew, in float32, for new memory or another type: no checkpoint holds them."""
        super()._apply(fn, recurse)
        if not self.cosine.is_meta:
            positions = torch.arange(self.config.context, dtype=torch.float32, device="cpu")
            angles = positions[:, None] * rotary_frequencies(self.config)
            self.cosine.copy_(angles.cos().repeat(1, 2))
            self.sine.copy_(torch.cat([-angles.sin(), angles.sin()], -1))
        return self

    def forward(self, positions: Int[Tensor, "B T"]) -> Rotation:
        return self.cosine[positions][:, None], self.sine[positions][:, None]


def rotary_frequencies(config: ModelConfig) -> Float[Tensor, " half"]:
    """base^(−2i/D) for each pair i, in float32; where Llama 3's scaling is asked for, slow pairs turn slower still."""
    exponents = torch.arange(0, config.head_width, 2, dtype=torch.int64, device="cpu").float() / config.head_width
    frequencies = 1.0 / config.rope_base**exponents
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    turns = scaling.original_context * frequencies / (2 * math.pi)  # within the context the model first knew
    keep = (turns - scaling.low_frequency_factor) / (scaling.high_frequency_factor - scaling.low_frequency_factor)
    keep = keep.clamp(0, 1)
    return (1 - keep) * frequencies / scaling.factor + keep * frequencies


def rotate(x: Float[Tensor, "B heads T D"], rotation: Rotation) -> Float[Tensor, "B heads T D"]:
    """Turn each pair (xᵢ, xᵢ₊D/₂): x cos + (−x₂, x₁) sin, whose minus sign stands in the table."""
    cosine, sine = rotation
    return torch.addcmul(x * cosine, x.roll(x.size(-1) // 2, -1), sine)


def make_norm(config: ModelConfig, width: int) -> nn.Module:
    """LayerNorm [Ba 2016] where there are biases, else RMSNorm, x / √(mean(x²) + ε) · g  [Zhang 2019, eq. 4]."""
    return (nn.LayerNorm if config.biased else RMSNorm)(width, eps=config.norm_epsilon)


def fused_is_slower(q: Float[Tensor, "B H T D"], mask: Tensor | None) -> bool:
    """Whether to read a text by the plain formula: in bfloat16 on a CPU it takes less time, to learn far less."""
    return mask is None and q.dtype == torch.bfloat16 and q.device.type == "cpu" and 1 < q.size(2) <= 512


class SelfAttention(nn.Module):
    """In every head, softmax(Q Kᵀ / √d_k) V: each position looks at itself and all before it  [Vaswani 2017, eq. 1].

    >>> attention = SelfAttention(ModelConfig(heads=1, width=8))  # with one head it is the paper's
    >>> attention(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 1, 5, 8])
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_width, self.grouped = config.head_width, config.kv_heads != config.heads
        self.query = nn.Linear(config.width, config.heads * config.head_width, bias=config.biased)
        self.key = nn.Linear(config.width, config.kv_heads * config.head_width, bias=config.biased)
        self.value = nn.Linear(config.width, config.kv_heads * config.head_width, bias=config.biased)
        self.query_norm = make_norm(config, config.head_width) if config.qk_norm else None
        self.key_norm = make_norm(config, config.head_width) if config.qk_norm else None
        self.q, self.k, self.v, self.scores, self.weights, self.heads = (Tap() for _ in range(6))

    def forward(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None = None, cache: LayerCache | None = None
    ) -> Float[Tensor, "B H T D"]:
        check_batched(x, "B T C")
        q, k, v = self.project(x, rotation)
        k, v, mask = (k, v, None) if cache is None else cache.append(k, v)
        heard = self.scores.heard or self.weights.heard  # else the T x S weights are never formed
        if heard or fused_is_slower(q, mask):
            return self.heads(self.explicit(q, k, v, mask))
        causal = mask is None and bool(q.size(2) > 1)  # T is a symbol while torch.export reads
        return self.heads(F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=self.grouped))

    def project(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None
    ) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B K T D"], Float[Tensor, "B K T D"]]:
        """Q = x W_Q, K = x W_K, V = x W_V with the heads apart; Q and K normed and rotated if the dialect says so."""
        q, k, v = (part.unflatten(-1, (-1, self.head_width)) for part in (self.query(x), self.key(x), self.value(x)))
        if self.query_norm is not None and self.key_norm is not None:  # autocast makes q and k bfloat16, not the norms
            q, k = self.query_norm(q.to(x.dtype)), self.key_norm(k.to(x.dtype))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return self.q(q), self.k(k), self.v(v)

    def explicit(
        self,
        q: Float[Tensor, "B H T D"],
        k: Float[Tensor, "B K S D"],
        v: Float[Tensor, "B K S D"],
        mask: Bool[Tensor, "B 1 T S"] | None,
    ) -> Float[Tensor, "B H T D"]:
        """The formula as it stands in the paper, with the scores and the weights to be heard."""
        k, v = (part.repeat_interleave(q.size(1) // part.size(1), dim=1) for part in (k, v))
        if mask is None:
            mask = torch.ones(q.size(2), k.size(2), dtype=torch.bool, device=q.device).tril(k.size(2) - q.size(2))
        hidden = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -math.inf)
        scores = self.scores(q / math.sqrt(self.head_width) @ k.mT)
        return self.weights((scores + hidden).softmax(-1)) @ v


class MultiHeadAttention(nn.Module):
    """Heads side by side, mixed: Concat(head₁ … head_H) W_O  [Vaswani 2017, section 3.2.2]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = SelfAttention(config)
        self.mix = nn.Linear(config.heads * config.head_width, config.width, bias=config.biased)

    def forward(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None = None, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T C"]:
        return self.mix(self.heads(x, rotation, cache).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """What a position makes of what it heard: GELU(x W₁) W₂ [Hendrycks 2016] or (SiLU(x W) ∘ x V) W₂ [Shazeer 2020]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.feed_forward, bias=config.biased) if config.gated else None
        self.up = nn.Linear(config.width, config.feed_forward, bias=config.biased)
        self.down = nn.Linear(config.feed_forward, config.width, bias=config.biased)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        if self.gate is None:
            return self.down(F.gelu(self.up(x), approximate="tanh"))
        return self.down(F.silu(self.gate(x)) * self.up(x))


class GPTBlock(nn.Module):
    """x + attention(norm x), then x + feed-forward(norm x): a layer adds to the stream, it never replaces it."""

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = make_norm(config, config.width)
        self.attention = MultiHeadAttention(config)
        self.feed_forward_norm = make_norm(config, config.width)
        self.feed_forward = FeedForward(config)
        self.dropout = Dropout(dropout)
        self.attention_out, self.feed_forward_out, self.stream = Tap(), Tap(), Tap()

    def forward(
        self, x: Float[Tensor, "B T C"], rotation: Rotation | None = None, cache: LayerCache | None = None
    ) -> Float[Tensor, "B T C"]:
        x = x + self.dropout(self.attention_out(self.attention(self.attention_norm(x), rotation, cache)))
        x = x + self.dropout(self.feed_forward_out(self.feed_forward(self.feed_forward_norm(x))))
        return self.stream(x)


class GPT(nn.Module):
    """Tokens → vectors (token + position) → L blocks → norm → logits over the vocabulary  [Radford 2019].

    >>> model = GPT(ModelConfig(vocab_size=65, context=32, layers=2, heads=4, width=64))
    >>> model(torch.zeros(1, 32, dtype=torch.long)).shape
    torch.Size([1, 32, 65])
    """

    def __init__(self, config: ModelConfig, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.width)
        self.positions = None if config.rotary else nn.Embedding(config.context, config.width)
        self.rotary = Rotary(config) if config.rotary else None
        self.dropout, self.stream = Dropout(dropout), Tap()
        self.blocks = nn.ModuleList(GPTBlock(config, dropout) for _ in range(config.layers))
        self.norm = make_norm(config, config.width)
        self.unembed = nn.Linear(config.width, config.vocab_size, bias=False)
        if config.tied:  # one matrix says what a token is, coming in and going out [Press 2017]
            self.unembed.weight = self.embed.weight
        initialise(self)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> nn.Module:
        tied = getattr(self.unembed, "weight", None) is self.embed.weight
        super()._apply(fn, recurse)
        if tied:  # in new memory there would be two
            self.unembed.weight = self.embed.weight
        return self

    def forward(self, tokens: Int[Tensor, "B T"], cache: Cache | None = None) -> Float[Tensor, "B T V"]:
        """The logits of what follows each token, at most a context of them; with a cache, behind those it remembers."""
        return self.unembed(self.read(tokens, cache))

    def read(self, tokens: Int[Tensor, "B T"], cache: Cache | None = None) -> Float[Tensor, "B T C"]:
        """All but the last layer: what the model knows at each position, for those who want few logits."""
        check_batched(tokens, "B T")
        cache = NoCache(self.config, tokens.size(0), tokens.device) if cache is None else cache
        positions = cache.positions(tokens.size(1))
        check_rows(tokens, positions)
        x, rotation = self.enter(tokens, positions)
        for index, block in enumerate(self.blocks):
            x = block(x, rotation, cache.layer(index))
        cache.advance(tokens.size(1))
        return self.norm(x)

    def enter(
        self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "B T"]
    ) -> tuple[Float[Tensor, "B T C"], Rotation | None]:
        """Tokens as vectors that know where they stand, or, in the modern dialect, the rotation that will tell them."""
        x = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions(positions)
        return self.stream(self.dropout(x)), None if self.rotary is None else self.rotary(positions)


@torch.no_grad()
def initialise(model: GPT) -> None:
    """Small random weights from torch's generator, such that an untrained model finds all tokens equally likely."""
    for name, weight in model.named_parameters():
        draw(name, weight, model.config)


@torch.no_grad()
def draw(name: str, weight: Tensor, config: ModelConfig, generator: torch.Generator | None = None) -> None:
    """What one weight begins with, whatever becomes of the others: a model may be made of them one by one.

    GPT-2's: σ = 0.02, projections into the stream by 1/√(2L) smaller [Radford 2019, section 2.3]. Modern: σ is
    0.5/√fan-in, projections into the stream are zero, so that each block begins as the identity; the output begins at
    zero, and where it is tied, the embedding begins small enough that no token favours itself. Heads look back.
    """
    into_stream = name.endswith(("mix.weight", "down.weight"))
    if name.endswith("bias"):
        weight.zero_()
    elif weight.dim() == 1:
        weight.fill_(1.0)
    elif not config.rotary:
        deviation = 0.02 / math.sqrt(2 * config.layers) if into_stream else 0.02
        weight.normal_(0.0, deviation, generator=generator)
    elif into_stream or name == "unembed.weight":
        weight.zero_()
    elif name == "embed.weight":
        deviation = 1 / config.width if config.tied else 1.0
        weight.normal_(0.0, deviation, generator=generator)
        weight[:, 0] = COMMON * deviation
    else:
        weight.normal_(0.0, 0.5 / math.sqrt(weight.size(1)), generator=generator)
        look_back(name, weight, config)


def look_back(name: str, weight: Tensor, config: ModelConfig) -> None:
    """Let heads begin by looking just behind them, as most trained ones do: they need not find it out [Trockman 2023].

    Head h of block l looks 1 + h l tokens back, h from 0 and l from 1: side by side at first, then further and further
    apart, like a dilated convolution [Oord 2016, section 2.1]. The first number of every token's vector is the same.
    Keys make one vector of it, queries the same one turned back by the distance, and rotary positions do the rest: the
    score is Σᵢ cos((distance − 1 − h l) θᵢ). All else in queries and keys stays random, at half the size.
    """
    if name.endswith(("query.weight", "key.weight")):
        layer = 1 + int(name.split(".")[1])
        distances = [1 + layer * head for head in range(config.heads)] if "query" in name else [0] * config.kv_heads
        angles = torch.tensor(distances, device="cpu")[:, None] * -rotary_frequencies(config)
        weight *= 0.5
        weight[:, 0] = torch.cat([angles.cos(), angles.sin()], -1).flatten() / COMMON


COMMON = 4.0  # what all tokens share, times σ
