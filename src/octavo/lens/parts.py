"""Who said it: a logit as a sum, of what the embedding, each head and each feed-forward block put into it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from octavo.errors import ConfigError
from octavo.lens.changes import factor_of
from octavo.lens.shown import Rows
from octavo.lens.trace import Trace, at_rest, checked, counts
from octavo.model import GPT, GPTBlock

ROUNDING = 256  # times what one number is rounded by: sums of as many parts are off by no more


@dataclass(frozen=True)
class Share:
    """What a part puts into a logit: `embedding`, a head (`2.0`), `2.feed_forward`, a bias (`2.bias`, `norm.bias`).

    Where a hook of somebody's replaced what a block said, what that made of the stream is `2.changed`.
    """

    name: str
    value: float


def contributions(trace: Trace, position: int, token: int) -> Rows[Share]:
    """The logit of a token after the one at `position`, taken apart; the shares sum to it.

    The stream is a sum, and the last norm multiplies it by numbers that are taken as they came out:
    logit = Σ partᵢ · (g ∘ u) / σ + b · u, with u the token's row of the output layer  [Elhage 2021]. Raises
    `ConfigError` for a place that the text, or a token that the model, does not have.
    """
    if not counts(position, len(trace)):
        raise ConfigError(f"there is no position {position!r:.40}; the text has 0 to {len(trace) - 1}")
    checked(trace.model, [token])
    with at_rest(trace.model):
        names, parts = zip(*_parts(trace, position), strict=True)
        values = torch.stack(parts) @ direction(trace.model, trace.stream[-1][position], token)
        shares = Rows(Share(name, value) for name, value in zip(names, values.tolist(), strict=True))
        bias = trace.model.norm.bias if isinstance(trace.model.norm, nn.LayerNorm) else None
        if bias is not None:
            shares.append(Share("norm.bias", (bias @ trace.model.unembed.weight[token]).item()))
    return shares


def direction(model: GPT, x: Float[Tensor, " C"], token: int) -> Float[Tensor, " C"]:
    """What the stream is multiplied by, at a place where it is x, to give the logit of a token (but for a bias).

    LayerNorm takes the mean away first, which is to take it away from what it is multiplied by.
    """
    epsilon, row = model.config.norm_epsilon, model.unembed.weight[token]
    if isinstance(model.norm, nn.LayerNorm):
        towards = model.norm.weight * row
        return (towards - towards.mean()) / torch.sqrt(x.var(unbiased=False) + epsilon)
    assert isinstance(model.norm, nn.RMSNorm)
    return model.norm.weight * row / torch.sqrt(x.square().mean() + epsilon)


def _parts(trace: Trace, position: int) -> list[tuple[str, Float[Tensor, " C"]]]:
    """Everything that was added to the stream at a place."""
    found = [("embedding", trace.stream[0][position])]
    for layer, block in enumerate(trace.model.blocks):
        assert isinstance(block, GPTBlock)
        mix, factor = block.attention.mix, factor_of(trace.changes, layer, "attention")
        by_head = mix.weight.unflatten(1, (trace.model.config.heads, -1))
        spoken = torch.einsum("hd,chd->hc", trace.heads[layer][:, position], by_head) * factor
        found += [(f"{layer}.{head}", value) for head, value in enumerate(spoken)]
        if mix.bias is not None:
            found.append((f"{layer}.bias", mix.bias * factor))
        # what was heard is what was added, whatever it was multiplied by
        found.append((f"{layer}.feed_forward", trace.feed_forward[layer][position]))
        after = trace.stream[layer + 1][position]
        rest = after - torch.stack([value for _, value in found]).sum(0)
        if rest.abs().max() > ROUNDING * torch.finfo(rest.dtype).eps * after.abs().max():
            found.append((f"{layer}.changed", rest))
    return found
