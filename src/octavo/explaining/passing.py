"""A pass through a model by its equations, one layer and one head of it: nothing but arithmetic on its weights."""

import math
from collections.abc import Iterable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo import sampling
from octavo.lens.trace import heard
from octavo.looking import Look
from octavo.model import GPTBlock, rotate
from octavo.sampling import Sampling


class Pass:
    """One pass through a model, as it is told."""

    def __init__(self, seen: Look, text: str, layer: int, head: int, chosen: Sampling) -> None:
        self.seen, self.text, self.layer, self.head, self.chosen = seen, text, layer, head, chosen
        self.trace, self.model, self.config = seen.trace, seen.trace.model, seen.trace.model.config
        block = self.model.blocks[layer]
        assert isinstance(block, GPTBlock)
        self.block = block
        self.tokens = tuple(seen.texts)
        self.length = len(self.trace)

    @cached_property
    def normed(self) -> Tensor:
        return self.block.attention_norm(self.trace.stream[self.layer])

    @cached_property
    def raw(self) -> list[Tensor]:
        """Q, K and V of the head, `T D` each, before they are normed and turned."""
        heads, width = self.block.attention.heads, self.config.head_width
        places = (self.head, self.shared, self.shared)
        return [
            part(self.normed)[:, place * width : (place + 1) * width]
            for part, place in zip((heads.query, heads.key, heads.value), places, strict=True)
        ]

    @cached_property
    def known(self) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K and V of the head as the model compares them."""
        trace, layer = self.trace, self.layer
        return trace.queries[layer][self.head], trace.keys[layer][self.shared], trace.values[layer][self.shared]

    @property
    def turns(self) -> bool:
        """Whether queries and keys are normed or turned before they are compared."""
        return self.config.qk_norm or self.config.rotary

    @property
    def shared(self) -> int:
        """The keys and values that the head looks at: several heads may share them."""
        return self.head * self.config.kv_heads // self.config.heads

    @cached_property
    def turned(self) -> tuple[Tensor, Tensor]:
        """Q and K as they are compared."""
        heads, (q, k, _) = self.block.attention.heads, self.raw
        if heads.query_norm is not None and heads.key_norm is not None:
            q, k = heads.query_norm(q), heads.key_norm(k)
        if self.model.rotary is not None:
            rotation = self.model.rotary(torch.arange(self.length, device=q.device)[None])
            q, k = (rotate(part[None, None], rotation)[0, 0] for part in (q, k))
        return q, k

    @cached_property
    def scores(self) -> Tensor:
        q, k = self.turned
        return q @ k.T / math.sqrt(self.config.head_width)

    @cached_property
    def own(self) -> tuple[Tensor, Tensor]:
        """The scores and weights of the head as the model's code forms them where it is asked to."""
        heads, trace = self.block.attention.heads, self.trace
        q, k, v = (part[self.layer][None] for part in (trace.queries, trace.keys, trace.values))
        with heard([heads.scores, heads.weights]) as found:
            heads.explicit(q, k, v, None)
        scores, weights = (value[0, self.head] for value in found)
        return scores, weights

    @cached_property
    def hidden(self) -> Tensor:
        future = torch.ones_like(self.scores, dtype=torch.bool).triu(1)
        return self.scores.masked_fill(future, -math.inf)

    @cached_property
    def weights(self) -> Tensor:
        return self.hidden.softmax(-1)

    @cached_property
    def heard(self) -> Tensor:
        return self.weights @ self.raw[2]

    @cached_property
    def mixed(self) -> Tensor:
        together = self.trace.heads[self.layer].transpose(0, 1).flatten(1)
        return self.block.attention.mix(together)

    @cached_property
    def between(self) -> Tensor:
        return self.trace.stream[self.layer] + self.trace.attention[self.layer]

    @cached_property
    def normed_again(self) -> Tensor:
        return self.block.feed_forward_norm(self.between)

    @cached_property
    def after(self) -> Tensor:
        return self.between + self.trace.feed_forward[self.layer]

    @cached_property
    def probabilities(self) -> Tensor:
        """What is chosen from: greedily all is one token's."""
        logits = sampling.forbid(self.trace.logits[-1:].clone(), [self.chosen])[0].double()
        if self.chosen.greedy:
            return F.one_hot(logits.argmax(), len(logits)).double()
        return (logits / self.chosen.temperature).softmax(-1)


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference."""
    return (one - other).abs().max().item()


def by_hand(norm: nn.Module, x: Tensor, epsilon: float) -> Tensor:
    """A norm by its equation."""
    if isinstance(norm, nn.LayerNorm):
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + epsilon) * norm.weight + norm.bias
    weight = norm.weight
    assert isinstance(weight, Tensor)
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def furthest(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The largest difference in any of the pairs."""
    return max(apart(one, other) for one, other in pairs)
