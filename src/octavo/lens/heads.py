"""What each head tends to do, on a text of yours: look at the token before, at the first one, at what came before."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from octavo.lens.shown import Rows
from octavo.lens.trace import Trace

CLEAR = 0.3  # of what is above chance: from here on a head is named by it
MIXED = "mixed"


@dataclass(frozen=True)
class Head:
    """How much of its weight a head gives to each kind of place, where there is one; `None` where the text has none.

    Its kind is that which it favours most above chance, or mixed.
    """

    layer: int
    head: int
    kind: str
    shares: Mapping[str, float | None]


def head_kinds(trace: Trace) -> Rows[list[Head]]:
    """Every head of every layer.

    *previous*: the token before; *first*: the beginning of the text; *itself*; *same*: where the same token stood
    before; *induction*: what followed it there, which is how a text is gone on with by example  [Olsson 2022].
    """
    places = targets(trace.tokens)
    return Rows(_layer(trace, layer, places) for layer in range(trace.model.config.layers))


def targets(tokens: Int[Tensor, " T"]) -> dict[str, Bool[Tensor, "T T"]]:
    """For each kind, the places that a query (row) may look at to be of it.

    >>> targets(torch.tensor([5, 6, 5, 7]))["induction"].nonzero().tolist()  # after the second 5, look at the 6
    [[2, 1]]
    """
    length = len(tokens)
    query = torch.arange(length, device=tokens.device)[:, None]
    key = query.T
    before = torch.cat([tokens.new_full((1,), -1), tokens[:-1]])
    beyond = query > 1  # the first two tokens have hardly a choice
    return {
        "previous": (key == query - 1) & beyond,
        "first": (key == 0) & beyond,
        "itself": (key == query) & beyond,
        "same": (tokens == tokens[:, None]) & (key < query) & beyond,
        "induction": (before == tokens[:, None]) & (key < query) & (key > 0) & beyond,
    }


def _layer(trace: Trace, layer: int, places: Mapping[str, Bool[Tensor, "T T"]]) -> list[Head]:
    weights = trace.weights(layer)
    shares = {kind: _shares(weights, where) for kind, where in places.items()}
    return [
        _head(layer, head, {kind: None if both is None else (both[0][head], both[1]) for kind, both in shares.items()})
        for head in range(weights.size(0))
    ]


def _shares(weights: Float[Tensor, "H T T"], where: Bool[Tensor, "T T"]) -> tuple[list[float], float] | None:
    """The weight on those places of each head, over the queries that have one, and what chance would give."""
    rows = where.any(-1)
    if not rows.any():
        return None
    seen = torch.arange(1, len(rows) + 1, device=rows.device)
    chance = (where.sum(-1) / seen)[rows].mean().item()
    return (weights * where)[:, rows].sum(-1).mean(-1).tolist(), chance


def _head(layer: int, head: int, found: Mapping[str, tuple[float, float] | None]) -> Head:
    lifts = {kind: (both[0] - both[1]) / (1 - both[1]) for kind, both in found.items() if both and both[1] < 1}
    kind = max(lifts, key=lambda name: lifts[name], default=MIXED)
    shares = {name: None if both is None else both[0] for name, both in found.items()}
    return Head(layer, head, kind if lifts.get(kind, 0.0) >= CLEAR else MIXED, shares)
