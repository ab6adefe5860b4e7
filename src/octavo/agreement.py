"""Whether a written file says what its model says: the same tokens put to the model, and to whoever reads the file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor

from octavo.completion import opened
from octavo.model import GPT
from octavo.tensors_file import ignore_progress
from octavo.tokenizers import Tokenizer

TOKENS = 32  # that the model itself goes on with


@dataclass(frozen=True)
class Reading:
    """What a program makes of a file: what it goes on with greedily, and logits for all of the probe's text.

    A program that tells no logits tells the log-probabilities of its greedy tokens instead, in nats.
    """

    greedy: list[int]
    logits: Float[Tensor, "T V"] | None = None
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class Probe:
    """A prompt, what a model goes on with greedily, and its logits after each token of both."""

    prompt: list[int]
    greedy: list[int]
    never: tuple[int, ...]  # tokens that may not be chosen
    logits: Float[Tensor, "T V"]

    @property
    def tokens(self) -> list[int]:
        """The whole text."""
        return [*self.prompt, *self.greedy]

    @property
    def spread(self) -> float:
        """The standard deviation of a position's logits, on average."""
        return float(self.logits.std(-1).mean())

    def by(self, logits: Float[Tensor, "T V"]) -> "Probe":
        """The same text with what another reader says of it."""
        return replace(self, logits=logits)

    def off(self, reading: Reading) -> float:
        """The largest difference of a logit, or of a greedy token's log-probability where nothing else is told.

        Those are compared up to the first token that is another, whose text before it is still the same.
        """
        if reading.logits is not None:
            return float((reading.logits - self.logits).abs().max())
        told = reading.greedy[: min(self.same(reading) + 1, len(self.greedy))]
        said = self.logits[len(self.prompt) - 1 :].log_softmax(-1)[: len(told)]
        ours = said.gather(1, torch.tensor(told, dtype=torch.long)[:, None]).flatten()
        return max((ours - torch.tensor(reading.logprobs[: len(told)])).abs().tolist(), default=0.0)

    def same(self, reading: Reading) -> int:
        """How many greedy tokens are the same before one is another."""
        pairs = zip(self.greedy, reading.greedy, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def agreed(self, reading: Reading, off: float) -> int:
        """How many greedy tokens are the same, counting those beyond the first that `off` could turn."""
        best = without(self.logits[len(self.prompt) - 1 : -1], self.never).topk(2)
        sure = (best.values[:, 0] - best.values[:, 1] > 2 * off) & (best.indices[:, 0] == torch.tensor(self.greedy))
        count = 0
        for own, other, certain in zip(self.greedy, [*reading.greedy, *self.greedy], sure.tolist(), strict=False):
            if not certain:
                return len(self.greedy)
            if own != other:
                return count
            count += 1
        return count


@torch.inference_mode()
def probed(model: GPT, tokenizer: Tokenizer, on_progress: Callable[[int, int], None] = ignore_progress) -> Probe:
    """Ask a model, whose numbers are to be float32, to go on from the beginning of a text."""
    never = (*tokenizer.unsayable(model.config.vocab_size), *tokenizer.ends)  # at these some programs stop
    prompt = opened(tokenizer, "") if tokenizer.opening or tokenizer.end_of_text is not None else [0]
    count = max(1, min(TOKENS, model.config.context - len(prompt)))
    text = list(prompt)
    for done in range(count):
        on_progress(done, count)
        last = logits_of(model, text)[-1:]
        text += likeliest(last, never)
    return Probe(prompt, text[len(prompt) :], never, logits_of(model, text))


@torch.inference_mode()
def logits_of(model: GPT, tokens: list[int]) -> Float[Tensor, "T V"]:
    """What a model says after each token of a text; without a cache, or a quick copy of the model."""
    return model(torch.tensor([tokens]))[0].float()


@torch.inference_mode()
def read_by(model: GPT, probe: Probe) -> Reading:
    """What a model makes of a probe, all of whose text it reads at once.

    It goes on as the probe does for as long as its likeliest token is the probe's at every step.
    """
    logits = logits_of(model, probe.tokens)
    own = likeliest(logits[len(probe.prompt) - 1 : -1], probe.never)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(own, probe.greedy, strict=True)))
    return Reading(own[: same + 1], logits)


def likeliest(logits: Float[Tensor, "N V"], never: tuple[int, ...]) -> list[int]:
    """The likeliest token of each row that may be chosen."""
    return without(logits, never).argmax(-1).tolist()


def without(logits: Float[Tensor, "N V"], never: tuple[int, ...]) -> Float[Tensor, "N V"]:
    """The same with no chance for some tokens."""
    logits = logits.clone()
    logits[:, list(never)] = -torch.inf
    return logits
