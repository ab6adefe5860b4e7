"""What a model made of a text: everything that its taps let through, layer by layer."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import get_ident
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from octavo.cache import StaticCache
from octavo.errors import ConfigError
from octavo.lens.changes import Changes, factors_of, switched
from octavo.model import GPT, GPTBlock
from octavo.names import several
from octavo.plain import simple
from octavo.tap import Tap

Ids = Sequence[int] | Int[Tensor, " T"]
PER_LAYER = ("queries", "keys", "values", "heads", "attention", "feed_forward", "stream")
KEPT = 32 << 20  # bytes of attention's weights that a trace keeps: all those of a small model, some of a large one's


@dataclass(frozen=True, eq=False)
class Trace:
    """A text as a model read it, without dropout.

    The pass is the model's own: nothing is listened to that would make it leave its fused kernels, so the logits are
    those that it gives to anybody, to the bit; of a compiled model, those of what was compiled. The weights of
    attention are computed from its queries and keys.
    """

    model: GPT
    tokens: Int[Tensor, " T"]
    logits: Float[Tensor, "T V"]
    stream: tuple[Float[Tensor, "T C"], ...]  # after the embedding, and after each layer
    queries: tuple[Float[Tensor, "H T D"], ...]
    keys: tuple[Float[Tensor, "K T D"], ...]
    values: tuple[Float[Tensor, "K T D"], ...]
    heads: tuple[Float[Tensor, "H T D"], ...]
    attention: tuple[Float[Tensor, "T C"], ...]  # what each layer's heads add to the stream, mixed
    feed_forward: tuple[Float[Tensor, "T C"], ...]
    changes: Changes = field(default_factory=dict)
    _weights: dict[int, Float[Tensor, "H T T"]] = field(default_factory=dict)

    def weights(self, layer: int) -> Float[Tensor, "H T T"]:
        """Where each head of a layer looks: softmax(Q Kᵀ / √d_k), causally  [Vaswani 2017, eq. 1].

        They are not to be changed: as long as there is room, they are kept for who asks next. They are those of
        octavo's own attention: what a hook on `scores` or `weights`, or a class of yours, makes of them is heard at the
        tap `weights` alone.
        """
        check_layer(self.model, layer)
        if layer in self._weights:
            return self._weights[layer]
        found = self._attended(layer)
        if found.nbytes + sum(one.nbytes for one in self._weights.values()) <= KEPT:
            self._weights[layer] = found
        return found

    def _attended(self, layer: int) -> Float[Tensor, "H T T"]:
        q, k = (
            part[layer].to(torch.promote_types(part[layer].dtype, torch.float32)) for part in (self.queries, self.keys)
        )
        k = k.repeat_interleave(q.size(0) // k.size(0), dim=0)
        future = q.new_full((len(self), len(self)), -math.inf).triu_(1)
        return torch.baddbmm(future, q, k.mT, alpha=1 / math.sqrt(q.size(-1))).softmax(-1)

    def __len__(self) -> int:
        return self.tokens.numel()

    @cached_property
    def log_probabilities(self) -> Float[Tensor, "T V"]:
        """ln p of every token after each token, in float32 at least."""
        wide = torch.promote_types(self.logits.dtype, torch.float32)
        return self.logits.to(wide).log_softmax(-1)

    def _repr_html_(self) -> str:
        loss = "" if self.loss is None else f", {self.loss:.4f} nats a token"
        layers, heads = several(len(self.heads), "layer"), several(len(self.heads[0]), "head")
        return f"<p>{several(len(self), 'token')} through {layers} of {heads}{loss}</p>"

    @property
    def loss(self) -> float | None:
        """Nats per token, of all but the first; `None` for a single token."""
        if len(self) < 2:
            return None
        return -self.log_probabilities[:-1].gather(1, self.tokens[1:, None]).mean().item()


def check_layer(model: GPT, layer: int) -> None:
    """Raise `ConfigError` for a layer that the model does not have."""
    if not counts(layer, model.config.layers):
        raise ConfigError(f"there is no layer {layer!r:.40}; the model has layers 0 to {model.config.layers - 1}")


def counts(value: Any, size: float) -> bool:
    """Whether this is one of so many, counted from zero: a whole number."""
    return isinstance(value := simple(value), int) and not isinstance(value, bool) and 0 <= value < size


@contextmanager
def heard(taps: Sequence[Tap]) -> Iterator[list[Tensor]]:
    """What passes these taps within a `with` statement in this thread, one value each, in their order."""
    values: list[Tensor] = [torch.empty(0)] * len(taps)
    here = get_ident()

    def hear(place: int, value: Tensor) -> None:
        if get_ident() == here:  # another thread may read another text through the same model
            values[place] = value.detach()

    handles = [
        tap.register_forward_hook(lambda _module, _inputs, value, place=place: hear(place, value))
        for place, tap in enumerate(taps)
    ]
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """A model as it is when nothing is learned: without dropout, and without a graph."""
    learning = [part for part in model.modules() if part.training]
    for part in learning:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in learning:
            part.training = True


def trace(model: GPT, tokens: Ids, changes: Changes | None = None, known: Trace | None = None) -> Trace:
    """Read a text and remember everything, with parts of the model switched as `changes` says (see `switched`).

    Where `known` begins alike, as read by the same model with the same changes, only the rest is read: no token changes
    what stands before it. The rest then differs from what a whole pass gives by as much as its sums are rounded. Leave
    `known` out where weights have changed since, or parts were switched by other means: nothing tells that.

    Raises `ConfigError` for a text that is empty or longer than the context, or holds an id that the model does not
    know.
    """
    row, factors = checked(model, tokens), factors_of(changes)
    if known is not None and (known.model is not model or known.changes != factors):
        known = None
    begun = 0 if known is None else alike(known.tokens, row)
    with ExitStack() as stack:
        stack.enter_context(at_rest(model))
        stack.enter_context(switched(model, factors, everywhere=False))
        values = stack.enter_context(heard(_taps(model)))
        cache = None if known is None or not begun else _remembered(known, begun, len(row))
        logits = model(row[None, begun:], cache)[0]
    first, *others = (value[0] for value in values)
    parts: dict[str, Any] = {name: tuple(others[place :: len(PER_LAYER)]) for place, name in enumerate(PER_LAYER)}
    parts["stream"] = (first, *parts["stream"])
    found = Trace(model, row, logits, **parts, changes=factors)
    return found if known is None or not begun else _joined(known, found, begun)


def alike(known: Int[Tensor, " S"], row: Int[Tensor, " T"]) -> int:
    """How many tokens two texts begin with alike, but for the last of the second, which is to be read in any case.

    >>> alike(torch.tensor([3, 1, 4, 1]), torch.tensor([3, 1, 5])), alike(torch.tensor([3, 1]), torch.tensor([3, 1]))
    (2, 1)
    """
    length = min(len(known), len(row) - 1)
    return int((known[:length] == row[:length]).cumprod(0).sum())


def _remembered(known: Trace, begun: int, length: int) -> StaticCache:
    """A cache that holds the beginning of what was read."""
    dtype, device = known.keys[0].dtype, known.tokens.device
    cache = StaticCache(known.model.config, batch=1, capacity=length, dtype=dtype, device=device)
    for memory, keys, values in zip(cache.memory, known.keys, known.values, strict=True):
        memory[:, 0, :, :begun] = torch.stack([keys, values])[:, :, :begun]
    cache.keep([begun])
    return cache


def _joined(known: Trace, rest: Trace, begun: int) -> Trace:
    """The beginning of one trace and the other behind it."""

    def both(name: str) -> tuple[Tensor, ...]:
        pairs = zip(getattr(known, name), getattr(rest, name), strict=True)
        return tuple(torch.cat([before[..., :begun, :], after], -2) for before, after in pairs)

    logits = torch.cat([known.logits[:begun], rest.logits])
    parts: dict[str, Any] = {name: both(name) for name in PER_LAYER}
    return replace(rest, logits=logits, **parts)


def checked(model: GPT, tokens: Ids) -> Int[Tensor, " T"]:
    """Ids as a row that the model can read; raises `ConfigError` where it cannot."""
    known, context, ids = model.config.vocab_size, model.config.context, simple(tokens)
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise ConfigError(
            f"the text is {ids!r:.80}; give the ids of its tokens, which a tokenizer's encode makes of it"
        )
    row = list(map(simple, ids))
    if not 0 < len(row) <= context:
        raise ConfigError(f"the text has {len(row)} tokens and the model sees {context}; give 1 to {context}")
    for token in row:
        if not counts(token, known):
            raise ConfigError(f"id {token!r:.80} is no token; the model knows 0 to {known - 1}")
    return torch.tensor(row, device=model.embed.weight.device)


def _taps(model: GPT) -> list[Tap]:
    """The stream as it begins, and the places of each layer, in the order of `PER_LAYER`."""
    taps = [model.stream]
    for block in model.blocks:
        assert isinstance(block, GPTBlock)
        heads = block.attention.heads
        taps += [heads.q, heads.k, heads.v, heads.heads, block.attention_out, block.feed_forward_out, block.stream]
    return taps
