"""What each head tends to do, on a text of yours: look at the token before, at the first one, at what came before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
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


def head_kinds(trace: Trace) -> Rows[Rows[Head]]:
    """Every head of every layer.

    *previous*: the token before; *first*: the beginning of the text; *itself*; *same*: where the same token stood
    before; *induction*: what followed it there, which is how a text is gone on with by example  [Olsson 2022].
    """
    places = targets(trace.tokens)
    chances = {kind: _chance(where) for kind, where in places.items()}
    shares = _shares(trace, torch.stack(list(places.values())))
    return Rows(
        Rows(_head(layer, head, dict(zip(places, found, strict=True)), chances) for head, found in enumerate(heads))
        for layer, heads in enumerate(shares)
    )


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


def _shares(trace: Trace, places: Bool[Tensor, "K T T"]) -> Iterator[list[list[float]]]:
    """For each layer, the weight that each head gives to each kind of place, over the queries that have one."""
    queries = places.any(-1).sum(-1).clamp_min(1)
    chosen = places.flatten(1).T.to(trace.weights(0).dtype)
    for layer in range(trace.model.config.layers):
        yield (trace.weights(layer).flatten(1) @ chosen / queries).tolist()


def _chance(where: Bool[Tensor, "T T"]) -> float | None:
    """What an even look would give to those places, over the queries that have one; `None` where none has."""
    rows = where.any(-1)
    seen = torch.arange(1, len(rows) + 1, device=rows.device)
    return (where.sum(-1) / seen)[rows].mean().item() if rows.any() else None


def _head(layer: int, head: int, found: Mapping[str, float], chances: Mapping[str, float | None]) -> Head:
    shares = {name: None if chances[name] is None else share for name, share in found.items()}
    lifts = {name: (found[name] - chance) / (1 - chance) for name, chance in chances.items() if chance and chance < 1}
    kind = max(lifts, key=lambda name: lifts[name], default=MIXED)
    return Head(layer, head, kind if lifts.get(kind, 0.0) >= CLEAR else MIXED, shares)
