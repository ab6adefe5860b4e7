"""One step: the new tokens of all texts through the model together, then a choice for each that has read its prompt."""

import torch
from jaxtyping import Float
from torch import Tensor

from octavo.model import GPT
from octavo.reading import logits_at, read_side_by_side, readable_side_by_side
from octavo.sampling import choose
from octavo.server.engine.sequence import Alternatives, Said, Sequence

Planned = list[tuple[Sequence, int]]


class Runner:
    """A model, as it reads many texts side by side."""

    def __init__(self, model: GPT, *, bitwise: bool) -> None:
        self.model, self.bitwise = readable_side_by_side(model.eval(), bitwise=bitwise), bitwise

    @torch.inference_mode()
    def step(self, planned: Planned) -> list[tuple[Sequence, Said | None]]:
        """Read so many tokens of each text; give what each gained that has read all it had."""
        new = [(slot, sequence.next(count)) for sequence, count in planned if (slot := sequence.slot)]
        x = read_side_by_side(self.model, new, bitwise=self.bitwise)
        said = self._about_prompts(planned, x)
        return said + self._chosen(planned, x)

    def _chosen(self, planned: Planned, x: Float[Tensor, "T C"]) -> list[tuple[Sequence, Said | None]]:
        """The next token of each text that has read all of its window."""
        ready: list[Sequence] = []
        rows: list[int] = []
        end = 0
        for sequence, count in planned:
            end += count
            if not sequence.unread:
                ready.append(sequence)
                rows.append(end - 1)
        if not ready:
            return []
        logits = logits_at(self.model, x, rows, bitwise=self.bitwise)
        samplings, given = [one.request.sampling for one in ready], [len(one.prompt) for one in ready]
        choice = choose(logits, samplings, [one.text for one in ready], given)
        alternatives = likeliest(logits, [one.request.alternatives for one in ready])
        found = zip(ready, choice.tokens, choice.logprobs, alternatives, strict=True)
        return [(one, one.push(token, logprob, others)) for one, token, logprob, others in found]

    def _about_prompts(self, planned: Planned, x: Float[Tensor, "T C"]) -> list[tuple[Sequence, Said | None]]:
        """What the model makes of the tokens of prompts that are to be told of."""
        found: list[tuple[Sequence, Said | None]] = []
        end = 0
        for sequence, count in planned:
            first, end = end, end + count
            position = sequence.start + sequence.known - count + 1  # of the token that the first new one foretells
            begin, stop = sequence.told, min(position + count, len(sequence.prompt))
            if position <= begin < stop:
                rows = list(range(first + begin - position, first + stop - position))
                found.append((sequence, self._told(sequence, x, rows, begin)))
                sequence.told = stop
        return found

    def _told(self, sequence: Sequence, x: Float[Tensor, "T C"], rows: list[int], position: int) -> Said:
        logits = logits_at(self.model, x, rows, bitwise=self.bitwise)
        tokens = sequence.prompt[position : position + len(rows)]
        own = logits.float().log_softmax(-1).gather(-1, torch.tensor(tokens, device=x.device)[:, None])
        return Said(
            tokens=tuple(tokens),
            logprobs=tuple(own[:, 0].tolist()),
            alternatives=tuple(likeliest(logits, [sequence.request.alternatives] * len(rows))),
            about_prompt=True,
        )


def likeliest(logits: Float[Tensor, "N V"], counts: list[int]) -> list[Alternatives]:
    """So many of the likeliest tokens of each row, with their log-probabilities in nats."""
    most = min(max(counts), logits.size(-1))
    if not most:
        return [()] * len(counts)
    best = logits.float().log_softmax(-1).topk(most)
    pairs = zip(best.indices.tolist(), best.values.tolist(), counts, strict=True)
    return [tuple(zip(ids[:count], logprobs[:count], strict=True)) for ids, logprobs, count in pairs]
