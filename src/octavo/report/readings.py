"""What a model says of a held-out text, token by token."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from octavo.cache import Documents
from octavo.data import Part, windows
from octavo.data.survey import Progress
from octavo.evaluation import rows_at_once
from octavo.events import Event
from octavo.loss import IGNORED
from octavo.model import GPT
from octavo.report.findings import Score
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer


@dataclass(frozen=True, eq=False)
class Readings:
    """For every token but the first: its surprise in nats, how sure of its likeliest token the model was, and rightly.

    >>> Readings(np.zeros(2), np.array([0.5, 0.9]), np.array([True, False])).right.mean()
    np.float64(0.5)
    """

    nats: np.ndarray
    sure: np.ndarray
    right: np.ndarray


@torch.inference_mode()
def read(
    model: GPT, part: Part, window: int, on_event: Callable[[Event], None], boundary: int | None = None
) -> Readings:
    """Read a part in windows side by side, as every evaluation does; with the token between documents, each alone."""
    device, progress = model.embed.weight.device, Progress("reading the held-out text", part.bytes, on_event)
    found: list[tuple[Tensor, ...]] = []
    for inputs, targets in windows(part.tokens, window, rows_at_once(window, model.config.vocab_size)):
        tokens = torch.from_numpy(inputs).to(device)
        cache = None if boundary is None else Documents(model.config, tokens, boundary)
        scores = model(tokens, cache).float().log_softmax(-1)
        wanted = torch.from_numpy(targets).to(device)
        best, choice = scores.max(-1)
        told = -scores.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
        kept = wanted != IGNORED
        found.append(tuple(value[kept].cpu() for value in (told, best.exp(), choice == wanted)))
        progress.advance(part.bytes * int(kept.sum()) // len(part.tokens))
    progress.finish()
    nats, sure, right = (torch.cat(values).numpy() for values in zip(*found, strict=True))
    return Readings(nats.astype(np.float64), sure.astype(np.float64), right)


def scored(name: str, nats: float, part: Part) -> Score:
    """A sum of nats over all tokens but the first, as the figures that are published of it.

    What an unknown token hides costs 8 bits a byte beside its own surprise, of whoever foretells tokens.
    """
    told = nats + 8 * log(2) * part.unknown_bytes
    return Score(name, told / log(2) / part.bytes, nats / (len(part.tokens) - 1), told / part.characters)


@dataclass(frozen=True, eq=False)
class Weighed:
    """Bits and bytes of every token but the first; what unknown tokens hide is spread evenly over them."""

    bits: np.ndarray
    bytes: np.ndarray


def weighed(readings: Readings, part: Part, tokenizer: Tokenizer) -> Weighed:
    """What each token cost and how much text it stands for; together they are the bits and bytes of the part.

    The bytes of the first token, which nobody foretells, are counted with the second.
    """
    sizes = sizes_of(tokenizer)[part.tokens].astype(np.float64)
    unknown = part.tokens == (-1 if tokenizer.unknown is None else tokenizer.unknown)
    hidden = unknown * (part.unknown_bytes / max(1, int(unknown.sum())))
    sizes += hidden
    sizes *= part.bytes / max(1.0, sizes.sum())  # a vocabulary from elsewhere may change what it reads
    sizes[1] += sizes[0]
    hidden[1] += hidden[0]
    return Weighed(readings.nats / log(2) + 8 * hidden[1:], sizes[1:])


def sizes_of(tokenizer: Tokenizer) -> np.ndarray:
    """How many bytes of text each token stands for."""
    if isinstance(tokenizer, SimpleTokenizer):
        return tokenizer.token_bytes
    assert isinstance(tokenizer, BPETokenizer)  # there are no others
    return np.array([len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size)])
