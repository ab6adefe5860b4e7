"""From logits to the next token: how it may be chosen, and the choice itself, no row asking about another.

The order of the steps is part of what a seed means: bias and forbidden tokens, penalties for what was said before,
temperature, top-k, top-p, min-p, one draw. Everything but the plain greedy choice happens in float64, row by row the
same whatever the neighbours ask for.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from sys import float_info
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from octavo.errors import OctavoError, SamplingError
from octavo.plain import simple

History = Sequence[Sequence[int]]
Number = int | float
SEEDS = 2**63


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def ids_of(name: str, tokens: Any) -> tuple[Any, ...]:
    """Token ids in a row, as plain numbers; raises `SamplingError` where there is no row."""
    row = simple(tokens)
    if not isinstance(row, Iterable):
        raise SamplingError(f"{name} is {tokens!r}; give a row of token ids")
    return tuple(map(simple, row))


RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (lambda t: _number(t) and t >= 0, "0 for the likeliest token or a number above it"),
    "top_k": (lambda k: k is None or (_whole(k) and k >= 1), "a whole number from 1"),
    "top_p": (lambda p: p is None or (_number(p) and 0 < p <= 1), "a probability above 0 and at most 1"),
    "min_p": (lambda p: p is None or (_number(p) and 0 <= p < 1), "a probability from 0 to below 1"),
    "repetition_penalty": (lambda r: _number(r) and r > 0, "a number above 0; 1 changes nothing"),
    "frequency_penalty": (_number, "a finite number; 0 changes nothing"),
    "presence_penalty": (_number, "a finite number; 0 changes nothing"),
    "seed": (lambda s: _whole(s) and 0 <= s < SEEDS, "a whole number from 0 to 2^63 - 1"),
}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one row's next tokens are chosen. Raises `SamplingError` for a value out of its range.

    `top_k`, `top_p` and `min_p` leave out what is unlikely; where none is given, nothing. `repetition_penalty` makes
    tokens of the text so far less likely; `frequency_penalty`, for each time, and `presence_penalty`, once, are taken
    away from the logits of those that were written after the prompt. `logit_bias` is added to logits by token id; those
    that are `forbidden` are never chosen. What is drawn depends on `seed` and on the length of the text.

    >>> Sampling(temperature=0).greedy
    True
    >>> Sampling(temperature=-1)
    Traceback (most recent call last):
    octavo.errors.SamplingError: temperature is -1; give 0 for the likeliest token or a number above it
    """

    temperature: Number = 1.0
    top_k: int | None = None
    top_p: Number | None = None
    min_p: Number | None = None
    repetition_penalty: Number = 1.0
    frequency_penalty: Number = 0.0
    presence_penalty: Number = 0.0
    logit_bias: Mapping[int, Number] = field(default_factory=dict, hash=False)
    seed: int = 0
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, (fits, advice) in RANGES.items():
            value = simple(getattr(self, name))
            object.__setattr__(self, name, value)
            if not fits(value):
                raise SamplingError(f"{name} is {value!r}; give {advice}")
        if not isinstance(self.logit_bias, Mapping):
            raise SamplingError(f"logit_bias is {self.logit_bias!r:.80}; give a number for each of some token ids")
        object.__setattr__(self, "forbidden", ids_of("forbidden", self.forbidden))
        biases = {simple(token): simple(bias) for token, bias in self.logit_bias.items()}
        object.__setattr__(self, "logit_bias", biases)
        for token, bias in biases.items():
            if not _number(bias):
                raise SamplingError(f"logit_bias of token {token} is {bias!r}; give a finite number")

    @cached_property
    def never(self) -> frozenset[int]:
        """The forbidden tokens, to be looked up."""
        return frozenset(self.forbidden)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken and nothing is drawn."""
        return self.temperature == 0

    @property
    def penalises(self) -> bool:
        """Whether it matters what was said before."""
        return self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0

    def check_vocabulary(self, size: int) -> None:
        """Raise `SamplingError` if a token named here is not in a vocabulary of this size, or if none may be chosen."""
        for name, tokens in (("forbidden", self.forbidden), ("logit_bias", self.logit_bias)):
            for token in tokens:
                if not _whole(token) or not 0 <= token < size:
                    raise SamplingError(f"{name} names token {token!r}; the vocabulary has 0 to {size - 1}")
        if len(self.never) == size:
            raise SamplingError(f"all {size} tokens are forbidden; leave one to choose")


class Choice(NamedTuple):
    """The chosen token of each row, and its log-probability before anything of a `Sampling` changed it, in nats."""

    tokens: list[int]
    logprobs: list[float]


def choose(
    logits: Float[Tensor, "B V"], samplings: Sequence[Sampling], history: History, given: Sequence[int] | None = None
) -> Choice:
    """Choose one token for each row, whose text so far (prompt and all) is its history; `given` tokens are its prompt.

    >>> choose(torch.tensor([[0.0, 2.0, 2.0]]), [Sampling(temperature=0)], [[]]).tokens
    [1]
    """
    logits = logits.detach()
    precise = logits.dtype if logits.dtype == torch.float64 else torch.float32
    chosen = _choose(logits, samplings, history, given or [0] * len(samplings)).to(logits.device)
    found = logits.log_softmax(-1, dtype=precise).gather(-1, chosen[:, None])[:, 0]
    if found.is_cuda:  # is asked once
        tokens, logprobs = torch.stack([chosen.double(), found.double()]).tolist()
    else:
        tokens, logprobs = chosen.tolist(), found.tolist()
    banned = any(token in sampling.never for token, sampling in zip(tokens, samplings, strict=True))
    if banned or not all(map(math.isfinite, logprobs)):  # the only number among them may be that of a forbidden token
        raise OctavoError("the model's logits are not finite; its training diverged or its weights are damaged")
    return Choice(list(map(int, tokens)), logprobs)


def _choose(
    logits: Float[Tensor, "B V"], samplings: Sequence[Sampling], history: History, given: Sequence[int]
) -> Int[Tensor, " B"]:
    drawn = [row for row, sampling in enumerate(samplings) if not sampling.greedy]
    if drawn or any(sampling.penalises or sampling.logit_bias for sampling in samplings):
        device = "cpu" if logits.device.type == "mps" else logits.device  # where there is no float64
        logits = penalise(bias(logits.to(device, torch.float64, copy=True), samplings), samplings, history, given)
    logits = forbid(logits, samplings)
    if not drawn:
        return likeliest(logits)
    if len(drawn) == len(samplings):
        return draw(logits, samplings, history)
    chosen = likeliest(logits)
    chosen[drawn] = draw(logits[drawn], [samplings[row] for row in drawn], [history[row] for row in drawn])
    return chosen


def likeliest(logits: Float[Tensor, "B V"]) -> Int[Tensor, " B"]:
    """The token with the highest logit, and of equals the first."""
    if logits.device.type != "cpu":
        return logits.argmax(-1)
    # NumPy finds it several times sooner, but knows no bfloat16
    return torch.from_numpy(logits.to(torch.promote_types(logits.dtype, torch.float32)).numpy().argmax(-1))


def forbid(logits: Float[Tensor, "B V"], samplings: Sequence[Sampling]) -> Float[Tensor, "B V"]:
    """Give forbidden tokens the probability zero."""
    shared = samplings[0].forbidden
    if all(sampling.forbidden == shared for sampling in samplings):
        return logits.index_fill(-1, torch.tensor(shared, device=logits.device), -math.inf) if shared else logits
    logits = logits.clone()
    for row, sampling in enumerate(samplings):
        logits[row, list(sampling.forbidden)] = -math.inf
    return logits


def bias(x: Float64[Tensor, "B V"], samplings: Sequence[Sampling]) -> Float64[Tensor, "B V"]:
    """Add what the user wants added to the logits of single tokens."""
    for row, sampling in enumerate(samplings):
        if sampling.logit_bias:
            x[row, list(sampling.logit_bias)] += x.new_tensor(list(sampling.logit_bias.values()))
    return x


def penalise(
    x: Float64[Tensor, "B V"], samplings: Sequence[Sampling], history: History, given: Sequence[int]
) -> Float64[Tensor, "B V"]:
    """Make tokens of the text so far less likely.

    A positive logit is divided by the repetition penalty, a negative one multiplied [Keskar 2019, section 4.1]; then,
    of what was written after the tokens that were given, go count · frequency_penalty and, once, presence_penalty.
    """
    for row, sampling in enumerate(samplings):
        if sampling.repetition_penalty != 1 and history[row]:
            tokens = list(set(history[row]))
            said = x[row, tokens]
            penalty = float(sampling.repetition_penalty)
            said = torch.where(said > 0, said / penalty, said * penalty)
            x[row, tokens] = said.clamp(-1e300, 1e300)  # an infinite one would leave nothing to compare
        if (sampling.frequency_penalty or sampling.presence_penalty) and len(history[row]) > given[row]:
            counts = Counter(history[row][given[row] :])
            tokens, times = list(counts), x.new_tensor(list(counts.values()))
            said = x[row, tokens] - times * float(sampling.frequency_penalty) - float(sampling.presence_penalty)
            x[row, tokens] = said.clamp(-1e300, 1e300)
    return x


def draw(x: Float64[Tensor, "B V"], samplings: Sequence[Sampling], history: History) -> Int[Tensor, " B"]:
    """Cut each row's distribution to what its `Sampling` lets through, and draw one token from what is left.

    The one number drawn falls into one token's share of the cumulative distribution, taken in the order of the ids.
    """
    x = (x - x.amax(-1, keepdim=True)) / x.new_tensor([sampling.temperature for sampling in samplings])[:, None]
    x = keep_min_p(keep_top_p(keep_top_k(x, samplings), samplings), samplings)
    cumulative = x.softmax(-1).cumsum(-1)
    numbers = [uniform(sampling.seed, len(said)) for sampling, said in zip(samplings, history, strict=True)]
    place = x.new_tensor(numbers)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, place, right=True)[:, 0].clamp(max=x.size(-1) - 1)


def keep_top_k(x: Float64[Tensor, "B V"], samplings: Sequence[Sampling]) -> Float64[Tensor, "B V"]:
    """Keep exactly the k likeliest tokens."""
    rows = [row for row, sampling in enumerate(samplings) if sampling.top_k is not None]
    if rows:
        limits = [min(sampling.top_k, x.size(-1)) for sampling in samplings if sampling.top_k is not None]
        x[rows] = keep_highest(x[rows], torch.tensor(limits, device=x.device))
    return x


def keep_top_p(x: Float64[Tensor, "B V"], samplings: Sequence[Sampling]) -> Float64[Tensor, "B V"]:
    """Keep the fewest tokens whose probabilities together reach p, likeliest first  [Holtzman 2020, section 3.1]."""
    rows = [row for row, sampling in enumerate(samplings) if sampling.top_p not in (None, 1)]
    if rows:
        limits = x.new_tensor([samplings[row].top_p for row in rows])
        x[rows] = keep_highest(x[rows], nucleus(x[rows].softmax(-1), limits))
    return x


def keep_min_p(x: Float64[Tensor, "B V"], samplings: Sequence[Sampling]) -> Float64[Tensor, "B V"]:
    """Keep the tokens at least min_p times as likely as the likeliest  [Nguyen 2024, section 3]."""
    rows = [row for row, sampling in enumerate(samplings) if sampling.min_p]
    if rows:
        limits = x.new_tensor([samplings[row].min_p for row in rows])[:, None].log()
        x[rows] = x[rows].masked_fill(x[rows] < x[rows].amax(-1, keepdim=True) + limits, -math.inf)
    return x


def keep_highest(x: Float64[Tensor, "B V"], counts: Int[Tensor, " B"]) -> Float64[Tensor, "B V"]:
    """Keep exactly so many of each row's highest; of equals, those with the lowest ids."""
    last = x.topk(int(counts.max())).values.gather(-1, counts[:, None] - 1)
    above, tied = x > last, x == last
    room = counts[:, None] - above.sum(-1, keepdim=True)
    return x.masked_fill(~(above | (tied & (tied.cumsum(-1) <= room))), -math.inf)


def nucleus(
    probabilities: Float64[Tensor, "B V"], limits: Float64[Tensor, " B"], width: int = 512
) -> Int[Tensor, " B"]:
    """How many of the likeliest tokens it takes to reach each limit; looked for among the first `width`, then all."""
    size = probabilities.size(-1)
    reached = probabilities.topk(min(width, size)).values.cumsum(-1)
    if width < size and not bool((reached[:, -1] >= limits).all()):
        return nucleus(probabilities, limits, size)
    return ((reached < limits[:, None]).sum(-1) + 1).clamp(max=size)


def uniform(seed: int, position: int) -> float:
    """A number from [0, 1) that depends on seed and position alone: 53 bits of SplitMix64  [Steele 2014].

    >>> uniform(7, 0) == uniform(7, 0) != uniform(7, 1)
    True
    """
    return (_scramble(_scramble(seed) + position) >> 11) * 2.0**-53


def _scramble(number: int) -> int:
    number = (number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    number = (number ^ number >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return number ^ number >> 31
