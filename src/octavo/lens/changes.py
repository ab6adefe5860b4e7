"""What becomes of a model without some of its parts, or with less of them."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import isfinite
from threading import Lock, get_ident
from typing import Any

import torch
from torch import Tensor, nn

from octavo.errors import ConfigError
from octavo.model import GPT, GPTBlock
from octavo.plain import simple
from octavo.tap import Tap

Changes = Mapping[str, float]  # the name of a part, and what it is multiplied by
NUMBER = r"0|[1-9]\d{0,5}"  # in one spelling: what is changed is looked up by its name
NAME = re.compile(rf"({NUMBER})(?:\.({NUMBER}|attention|feed_forward))?", re.ASCII)
USAGE = "name a head (2.0), a block (2.attention, 2.feed_forward) or a layer (2)"


@dataclass(frozen=True)
class Part:
    """A part of a model that adds to the stream: a head of a layer, one of its two blocks, or both."""

    layer: int
    head: int | None = None
    block: str | None = None  # attention or feed_forward


def parse(name: str, model: GPT) -> Part:
    """A part by its name: `2.0` is head 0 of layer 2. Raises `ConfigError` for one that the model does not have.

    >>> from octavo.config import ModelConfig
    >>> parse("1.feed_forward", GPT(ModelConfig(layers=2, heads=1, width=4)))
    Part(layer=1, head=None, block='feed_forward')
    """
    found = NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        how = "" if isinstance(name, str) else ", as a text"
        raise ConfigError(f"{name!r:.80} is no part of a model; {USAGE}{how}")
    layer, rest = int(found[1]), found[2]
    head = int(rest) if rest and rest.isdigit() else None
    layers, heads = model.config.layers, model.config.heads
    if layer >= layers or (head is not None and head >= heads):
        what = f"layer {layer}" if layer >= layers else f"head {head} in layer {layer}"
        raise ConfigError(f"there is no {what}; the model has layers 0 to {layers - 1} and heads 0 to {heads - 1}")
    return Part(layer, head, rest if head is None else None)


@contextmanager
def switched(model: GPT, changes: Changes, *, everywhere: bool = True) -> Iterator[GPT]:
    """The same model within a `with` statement, with parts multiplied by numbers: 0 switches one off.

    It is so for all threads, or where it is not to be so `everywhere` for this one. Raises `ConfigError` for a part
    that it does not have and a number that is not finite. Of a compiled model the program waits meanwhile.
    """
    parts = [(parse(name, model), factor) for name, factor in factors_of(changes).items()]
    hooks = [one for part, factor in parts for one in _hooks(model, part, factor)]
    handles = [tap.register_forward_hook(hook if everywhere else _only_here(hook)) for tap, hook in hooks]
    try:
        with uncompiled(model):
            yield model
    finally:
        for handle in handles:
            handle.remove()


class Waiting:
    """PyTorch's compiler waits, in all threads, from the first to the last that looks into a compiled model."""

    def __init__(self) -> None:
        self.lock, self.count = Lock(), 0
        self.before: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> None:
        with self.lock:
            if not self.count:
                self.before = torch.compiler.set_stance("force_eager")
                self.before.__enter__()
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.count -= 1
            if not self.count:
                self.before.__exit__(None, None, None)


WAITING = Waiting()


def uncompiled(model: nn.Module) -> AbstractContextManager[Any]:
    """Within a `with` statement, nothing that was compiled: a program made before a hook was set does not hear it."""
    compiled = any("_orig_mod" in part._modules or part._compiled_call_impl is not None for part in model.modules())
    return WAITING if compiled else nullcontext()


def factors_of(changes: Changes | None) -> dict[str, float]:
    """Numbers by names; raises `ConfigError` where there are none, or one is not finite."""
    if changes is not None and not isinstance(changes, Mapping):
        raise ConfigError(f"changes are {changes!r:.80}; give a number for each of some parts: {{'2.0': 0}}")
    return {name: checked_factor(name, simple(factor)) for name, factor in (changes or {}).items()}


def checked_factor(name: str, factor: float) -> float:
    """A finite number."""
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not isfinite(factor):
        raise ConfigError(f"{name} is to be multiplied by {factor!r:.40}; give a finite number, 0 switches it off")
    return float(factor)


Hook = Callable[[object, object, Tensor], Tensor | None]


def _only_here(hook: Hook) -> Hook:
    """A hook that leaves what other threads read as it is."""
    here = get_ident()
    return lambda *given: hook(*given) if get_ident() == here else None


def _hooks(model: GPT, part: Part, factor: float) -> Iterator[tuple[Tap, Hook]]:
    block = model.blocks[part.layer]
    assert isinstance(block, GPTBlock)
    if part.head is not None:
        yield block.attention.heads.heads, lambda _module, _inputs, value: scaled(value, part.head or 0, factor)
    if part.head is None and part.block != "feed_forward":
        yield block.attention_out, lambda _module, _inputs, value: value * factor
    if part.head is None and part.block != "attention":
        yield block.feed_forward_out, lambda _module, _inputs, value: value * factor


def scaled(heads: Tensor, head: int, factor: float) -> Tensor:
    """`B H T D` with one head multiplied."""
    factors = torch.ones(heads.size(1), 1, 1, dtype=heads.dtype, device=heads.device)
    factors[head] = factor
    return heads * factors


def factor_of(changes: Changes, layer: int, block: str) -> float:
    """What a block's output is multiplied by, by its own name and by its layer's."""
    return changes.get(f"{layer}.{block}", 1.0) * changes.get(str(layer), 1.0)
