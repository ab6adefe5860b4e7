"""Text from a model, one token at a time: the prompt is read once, then every step reads the newest token alone.

When a text outgrows the context, its oldest part is let go and the newest half of the context is read again from
position 0. Where the visible part of a text begins depends on its length alone (`window_start`), so a long prompt is
read as if the model had written it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from octavo.config import ModelConfig
from octavo.errors import SamplingError, TextError
from octavo.model import GPT
from octavo.plain import simple
from octavo.reading import BitwiseReader, Reader
from octavo.sampling import Number, Sampling, choose, ids_of

Prompt = Sequence[int] | Sequence[Sequence[int]] | Int[Tensor, "..."]


@dataclass(frozen=True)
class Step:
    """The token each row gained, and its log-probability in nats; `None` where the row had ended before."""

    tokens: list[int | None]
    logprobs: list[float | None]


def generate(
    model: GPT,
    prompt: Prompt,
    *,
    max_new_tokens: int,
    temperature: Number = 1.0,
    top_k: int | None = None,
    top_p: Number | None = None,
    min_p: Number | None = None,
    repetition_penalty: Number = 1.0,
    seed: int = 0,
    stop: Iterable[int] = (),
    forbidden: Iterable[int] = (),
    slide: bool = True,
    samplings: Sequence[Sampling] | None = None,
    bitwise: bool = False,
) -> "Generation":
    """Yield one `Step` (a token and its log-probability per row) until every row has ended or has so many new tokens.

    A row ends with a token of `stop`, which is yielded, or, where the window may not `slide`, when it fills the
    context. What is drawn does not depend on the row: the same prompt twice comes to the same text twice, unless
    `samplings` gives each row its own way of choosing, and seed, instead of the words from `temperature` to `forbidden`
    (each of which `Sampling` explains). In the `bitwise` mode a row's numbers are the same to the last bit whatever its
    neighbours, in every dtype, at some cost in speed. What writes is the model as it is at the call: a hook or a switch
    set later may not be heard.
    Raises `SamplingError` and `TextError` here, at the call.

    >>> from octavo.config import ModelConfig
    >>> model = GPT(ModelConfig(vocab_size=9, context=8, layers=1, heads=1, width=4))
    >>> [len(step.tokens) for step in generate(model, [[1], [2, 3]], max_new_tokens=3)]
    [2, 2, 2]
    """
    prompts, ends = _rows(prompt), frozenset(ids_of("stop", stop))
    if samplings is None:
        sampling = Sampling(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            forbidden=ids_of("forbidden", forbidden),
        )
        samplings = [sampling] * len(prompts)
    _check_prompts(prompts, model.config, slide)
    limit = simple(max_new_tokens)
    _check_choices(samplings, len(prompts), model.config.vocab_size, ends, limit)
    return Generation(model, prompts, samplings, ends, limit, slide, bitwise)


def _rows(prompt: Any) -> list[list[Any]]:
    """The prompts, each a list of plain numbers if they are any, whatever they came in."""
    rows = simple(prompt)
    if isinstance(rows, str) or not isinstance(rows, Iterable):
        raise TextError(f"the prompt is {rows!r:.80}; give token ids, which a tokenizer's encode makes of a text")
    rows = list(map(simple, rows))
    if not rows:
        raise TextError("the prompt is empty; give at least one token")
    several = all(isinstance(row, Sequence) and not isinstance(row, str) for row in rows)
    return [list(map(simple, row)) for row in (rows if several else [rows])]


def _check_prompts(prompts: Sequence[Sequence[int]], config: ModelConfig, slide: bool) -> None:
    size, context = config.vocab_size, config.context
    for index, row in enumerate(prompts):
        name = "the prompt" if len(prompts) == 1 else f"prompt {index}"
        if not row:
            raise TextError(f"{name} is empty; give at least one token")
        for token in row:
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < size:
                raise TextError(f"{name} holds token {token!r}; the vocabulary has 0 to {size - 1}")
        if not slide and len(row) >= context:
            raise TextError(f"{name} of {len(row)} tokens fills the context of {context}; shorten it or let it slide")


def _check_choices(samplings: Sequence[Sampling], rows: int, size: int, ends: frozenset[int], limit: int) -> None:
    if not isinstance(limit, int) or limit < 1:
        raise SamplingError(f"max_new_tokens is {limit!r}; give a whole number from 1")
    if not isinstance(samplings, Sequence):
        raise SamplingError(f"samplings is {samplings!r:.80}; give one for each prompt, in a list")
    if len(samplings) != rows:
        raise SamplingError(f"{len(samplings)} samplings do not fit {rows} prompts; give one for each")
    for sampling in samplings:
        if not isinstance(sampling, Sampling):
            raise SamplingError(f"a sampling is {sampling!r:.80}; give an octavo.Sampling for each prompt")
        sampling.check_vocabulary(size)
    for token in ends:
        if not isinstance(token, int) or not 0 <= token < size:
            raise SamplingError(f"stop names token {token!r}; the vocabulary has 0 to {size - 1}")


class Generation(Iterator[Step]):
    """Rows of text that grow by one token at each `next`."""

    def __init__(
        self,
        model: GPT,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[Sampling],
        stop: frozenset[int],
        limit: int,
        slide: bool,
        bitwise: bool,
    ) -> None:
        self.texts = [list(prompt) for prompt in prompts]
        self._given = [len(prompt) for prompt in prompts]
        self.growing = list(range(len(prompts)))
        self._samplings, self._stop, self._left = samplings, stop, limit
        self._longest = math.inf if slide else model.config.context
        capacity = min(model.config.context, max(map(len, prompts)) + limit)
        self.reader = BitwiseReader(model, capacity) if bitwise else Reader(model, capacity, len(prompts))

    def end(self, row: int) -> None:
        """Let a row end here."""
        self._keep([other for other in self.growing if other != row])

    @torch.inference_mode()
    def __next__(self) -> Step:
        if not self.growing:
            raise StopIteration
        self._left -= 1
        texts = [self.texts[row] for row in self.growing]
        logits = self.reader.read(texts)
        given = [self._given[row] for row in self.growing]
        choice = choose(logits, [self._samplings[row] for row in self.growing], texts, given)
        step = Step([None] * len(self.texts), [None] * len(self.texts))
        for row, token, logprob in zip(self.growing, choice.tokens, choice.logprobs, strict=True):
            step.tokens[row], step.logprobs[row] = token, logprob
            self.texts[row].append(token)
        self._keep([row for row in self.growing if self._left and not self._ended(self.texts[row])])
        return step

    def _ended(self, text: Sequence[int]) -> bool:
        return text[-1] in self._stop or len(text) >= self._longest

    def _keep(self, rows: list[int]) -> None:
        if len(rows) < len(self.growing):
            self.reader.select([self.growing.index(row) for row in rows])
            self.growing = rows
