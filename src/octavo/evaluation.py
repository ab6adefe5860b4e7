"""How good a model is on text that it has not learned from: nats per token, nats per character, bits per byte."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from math import log

import numpy as np
import torch

from octavo.data import Part, Prepared, windows
from octavo.data.batches import IGNORED, Rows
from octavo.data.parts import VALIDATION_TOKENS
from octavo.generation import generate
from octavo.model import GPT
from octavo.parallel import Spread
from octavo.processes import Processes
from octavo.step import evaluate
from octavo.tokenizers import Tokenizer

VALIDATION = ("val_loss", "val_nats_per_character", "val_bits_per_byte")
SAMPLE_TOKENS = 160
GLANCE = 8192  # and before the first step, when there is not much to find out


@dataclass(frozen=True)
class Evaluation:
    """What the held-out text said of the weights after a step."""

    step: int
    val_loss: float
    val_nats_per_character: float
    val_bits_per_byte: float


def held_out(prepared: Prepared, tokens: int | None = None) -> Part:
    """What is validated on: all of the validation text, or its beginning where it is long, or for so many tokens."""
    return prepared.val.head(min(VALIDATION_TOKENS, tokens or VALIDATION_TOKENS))


def rows_at_once(window: int, vocab_size: int) -> int:
    """How many windows are read at once, so that what they take stays small."""
    return max(1, min(32, 16_000_000 // (window * vocab_size)))


def examine(
    model: GPT,
    part: Part,
    *,
    step: int,
    dtype: torch.dtype = torch.float32,
    window: int | None = None,
    boundary: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
    spread: Spread | None = None,
) -> Evaluation | None:
    """Read a part in windows of the model's own context, or shorter ones; predict every token but the first once.

    Nothing comes of it where it is `stopped` on the way. Where the model is `spread` over processes, each of them reads
    some of the windows, and computes as the spread model does.
    """
    device, spread = model.embed.weight.device, spread or Spread(model, dtype, boundary=boundary)
    window = window or model.config.context
    batches = windows(part.tokens, window, rows_at_once(window, model.config.vocab_size))
    own = shared(batches, spread.processes)
    moved = ((torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)) for x, y in own)
    with spread.reading():
        found = evaluate(model, takewhile(lambda _: not stopped(), moved), objective=spread.objective)
    if stopped():
        return None
    nats, count = map(spread.processes.summed, found)
    told = nats + 8 * log(2) * part.unknown_bytes  # an unknown token costs what it hides, too
    return Evaluation(
        step=step,
        val_loss=nats / count,
        val_nats_per_character=told / part.characters,
        val_bits_per_byte=told / log(2) / part.bytes,
    )


def shared(batches: Iterable[Rows], processes: Processes) -> Iterator[Rows]:
    """The batches of one process: those that have run out read nothing as often as the others read something."""
    waiting = iter(batches)
    while group := list(islice(waiting, processes.size)):
        tokens, targets = group[min(processes.rank, len(group) - 1)]
        yield tokens, (targets if processes.rank < len(group) else np.full_like(targets, IGNORED))


def sample(model: GPT, tokenizer: Tokenizer, seed: int, stopped: Callable[[], bool]) -> str | None:
    """What a model writes by now, from the beginning of a line; nothing where it is `stopped` before it is written."""
    never = (*tokenizer.forbidden, *tokenizer.ends)
    start = [token for token in tokenizer.encode("\n") if token not in never]
    tokens: list[int] = []
    for step in generate(
        model, start or [0], max_new_tokens=SAMPLE_TOKENS, temperature=0.8, seed=seed, forbidden=never
    ):
        tokens += [token for token in step.tokens if token is not None]
        if stopped():
            return None
    return tokenizer.decode(tokens)
