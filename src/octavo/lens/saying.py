"""What a model would say: after each token, at each layer, and how much each token surprised it."""

from dataclasses import dataclass
from math import inf, log

import torch
from jaxtyping import Float, Int
from torch import Tensor

from octavo.errors import ConfigError
from octavo.lens.shown import Rows
from octavo.lens.trace import Trace, at_rest, counts


@dataclass(frozen=True)
class Choice:
    """A token that could come, and how likely it is."""

    id: int
    probability: float


@dataclass(frozen=True)
class Read:
    """A token of the text: how likely it was, the bits that it cost, and what else could have stood there.

    The first token was not foreseen by anybody.
    """

    id: int
    probability: float | None
    surprise: float | None
    alternatives: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Said:
    """What a layer says after each token: its choices, and the probability of what came; `None` after the last."""

    layer: int  # 0 is the embedding
    choices: tuple[tuple[Choice, ...], ...]
    actual: tuple[float | None, ...]


def surprises(trace: Trace, top: int = 5) -> Rows[Read]:
    """Each token of the text: −log₂ p of it after those before it  [Shannon 1948]."""
    logs = trace.log_probabilities[:-1]
    own = logs.gather(1, trace.tokens[1:, None])[:, 0]
    bits, shares = (-own / log(2)).tolist(), own.exp().tolist()
    first, *rest = trace.tokens.tolist()
    likely = choices(logs, top)
    foreseen = [Read(*values) for values in zip(rest, shares, bits, likely, strict=True)]
    return Rows([Read(first, None, None), *foreseen])


def next_tokens(trace: Trace, top: int = 5) -> Rows[Choice]:
    """The likeliest tokens after the text."""
    return Rows(choices(trace.log_probabilities[-1:], top)[0])


def logit_lens(trace: Trace, top: int = 3) -> Rows[Said]:
    """The next token as each layer would have it: its stream through the last norm and the output layer
    [Nostalgebraist 2020]. The last layer says what the model says.
    """
    model, last = trace.model, len(trace.stream) - 1
    found: Rows[Said] = Rows()
    with at_rest(model):
        for layer, stream in enumerate(trace.stream):
            logits = trace.logits if layer == last else model.unembed(model.norm(stream))
            found.append(_said(layer, logits, trace.tokens, top))
    return found


def _said(layer: int, logits: Float[Tensor, "T V"], tokens: Int[Tensor, " T"], top: int) -> Said:
    logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    actual = logs[:-1].gather(1, tokens[1:, None])[:, 0].exp().tolist()
    return Said(layer, tuple(choices(logs, top)), (*actual, None))


def choices(logs: Float[Tensor, "T V"], top: int) -> list[tuple[Choice, ...]]:
    """The likeliest tokens of each row of log-probabilities. Raises `ConfigError` for no number of them."""
    if not counts(top, inf):
        raise ConfigError(f"top is {top!r:.40}; give how many of the likeliest tokens are to be named")
    best = logs.topk(min(top, logs.size(-1)), -1)
    return [
        tuple(Choice(token, share) for token, share in zip(tokens, shares, strict=True))
        for tokens, shares in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
    ]
