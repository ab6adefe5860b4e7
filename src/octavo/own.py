"""Which parts of a model compute what octavo's own do: for who copies a model, or writes down what it is."""

from collections.abc import Iterator
from inspect import isfunction
from typing import Any

from torch import nn

from octavo.dropout import Dropout
from octavo.model import GPT, FeedForward, GPTBlock, MultiHeadAttention, Rotary, SelfAttention
from octavo.norm import RMSNorm
from octavo.tap import Tap

OWN = {
    *(GPT, GPTBlock, MultiHeadAttention, SelfAttention, FeedForward, Rotary, RMSNorm, Dropout, Tap),
    *(nn.ModuleList, nn.Linear, nn.Embedding, nn.LayerNorm),
}
PLAIN = vars(nn.Module()).keys()  # what every part has of its own


def strange_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of somebody else's making, and those in which another function stands in place of octavo's own.

    >>> linear = nn.Linear(2, 2)
    >>> list(strange_parts(linear))
    []
    >>> linear.forward = abs
    >>> list(strange_parts(linear))
    [('', Linear(in_features=2, out_features=2, bias=True))]
    """
    own = {kind for kind in set(map(type, model.modules())) if is_own(kind)}
    for name, part in model.named_modules():
        if type(part) not in own or is_patched(part):
            yield name, part


def is_own(kind: type[nn.Module]) -> bool:
    """Whether this is one of these classes, or made of one, with the functions that it is defined with."""
    base = next((one for one in kind.__mro__ if one in OWN), None)
    named = [] if base is None else [name for name, one in vars(base).items() if isfunction(one) and name[:2] != "__"]
    return base is not None and all(getattr(kind, name).__module__ == base.__module__ for name in named)


def is_patched(part: nn.Module) -> bool:
    """Whether somebody put something of his own in the place of what its class has under that name."""
    its, kind = vars(part), type(part)
    patches: list[Any] = [its[name] for name in its.keys() - PLAIN if name[:1] != "_" and hasattr(kind, name)]
    return any(callable(patch) and not getattr(patch, "changes_nothing", False) for patch in patches)
