"""What counting tells of a text, put into a model before its first step: which token comes after which.

Blocks begin as the identity, so that at first a model's embedding and its output alone say what comes next: a table of
V × V pairs of tokens, as a product of two thin matrices. To count such a table in the whole of a text takes a moment,
where a training reads some of it and takes a hundred steps to find as much out.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from octavo.config import RunConfig
from octavo.making import make_model
from octavo.ngrams import spread
from octavo.optim import AdamW
from octavo.parts import Parts
from octavo.randomness import seed_for

COUNTED = 4_000_000  # tokens at most
DISCOUNT = 0.75  # of each count, as Kneser and Ney's usually is
ROWS = 512  # drawn for a step
RATE, DECAY = 0.05, 0.1  # AdamW's, the second of the output alone: what is rare must not be too sure


class Pairs:
    """How likely each token of a vocabulary of V is after another, as counted in a text  [Chen 1999, eq. 19].

    Each count is lowered by a discount, and what that frees goes to the tokens that come after many different ones
    [Kneser 1995].

    >>> (100 * Pairs(np.array([0, 1, 0, 1, 0, 2]), 3).after(np.array([0]))).round().int().tolist()
    [[17, 58, 25]]
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int) -> None:
        text = spread(tokens, COUNTED).astype(np.int64)
        found, times = np.unique(text[:-1] * vocab_size + text[1:], return_counts=True)
        first, self.second = np.divmod(found, vocab_size)
        self.ends = np.searchsorted(first, np.arange(vocab_size + 1))
        self.times = np.bincount(first, times, vocab_size)
        seen = np.maximum(1, self.times)
        self.share = torch.from_numpy(((times - DISCOUNT) / seen[first]).astype(np.float32))
        different = np.bincount(self.second, minlength=vocab_size) + 0.5
        self.usual = torch.from_numpy((different / different.sum()).astype(np.float32))
        freed = np.where(self.times > 0, DISCOUNT * np.diff(self.ends) / seen, 1.0)
        self.freed = torch.from_numpy(freed.astype(np.float32))

    def after(self, tokens: np.ndarray) -> Float[Tensor, "N V"]:
        """The probabilities of what comes after each of these tokens."""
        likely = self.freed[tokens, None] * self.usual
        begins, lengths = self.ends[tokens], self.ends[tokens + 1] - self.ends[tokens]
        row = np.repeat(np.arange(len(tokens)), lengths)
        place = np.arange(len(row)) - np.repeat(lengths.cumsum() - lengths - begins, lengths)
        likely[row, self.second[place]] += self.share[place]
        return likely

    def drawn(self, steps: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Tokens for each of so many steps, and how much each counts: drawn by the roots of how often they occur.

        What is rare is drawn more often than it occurs, and counts for less.
        """
        generator, root = np.random.default_rng(seed), np.sqrt(self.times)
        often = root / root.sum()
        for _ in range(steps):
            tokens, drawn = np.unique(generator.choice(len(often), ROWS, p=often), return_counts=True)
            weight = drawn * root[tokens]
            yield tokens, weight / weight.sum()


def begun_with_pairs(config: RunConfig, tokens: np.ndarray) -> Parts | None:
    """The weights that a training on these tokens begins with, its pairs counted, where that is planned.

    Embedding and output are fitted to the pairs by AdamW [Loshchilov 2019] in `pairs` steps, a draw of rows at a time:
    the product of two matrices that comes nearest to their logarithms [Levy 2014, section 3.1]. The embedding keeps its
    length, and what all tokens share, by which heads look back.
    """
    if config.train.pairs is None:
        return None
    model = make_model(config)
    pairs, seed = Pairs(tokens, config.model.vocab_size), seed_for("pairs", config.train.seed)
    embed, unembed = model.embed.weight, model.unembed.weight
    fit(embed, unembed, pairs, config.train.pairs, seed)
    return Parts(config.model, {name: weight.detach() for name, weight in model.named_parameters()}, torch.float32)


def fit(embed: Tensor, unembed: Tensor, pairs: Pairs, steps: int, seed: int) -> None:
    """Bring embedding and output, in place, to say of each token what comes after it; the rate falls in the end."""
    width = embed.size(1)
    length = math.sqrt(width - 1)
    optimizer = AdamW(
        [{"params": [unembed], "weight_decay": DECAY}, {"params": [embed], "weight_decay": 0.0}], betas=(0.9, 0.99)
    )
    for step, (tokens, weights) in enumerate(pairs.drawn(steps, seed)):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 2 * (1 - step / steps))
        normed = F.rms_norm(embed[torch.from_numpy(tokens)], (width,))
        with torch.no_grad():  # what is said, less what is true: the surprise's gradient by the logits
            missed = torch.softmax(F.linear(normed, unembed), dim=-1).sub_(pairs.after(tokens))
            missed *= torch.from_numpy(weights.astype(np.float32))[:, None]
            unembed.grad = missed.T @ normed
        (embed.grad,) = torch.autograd.grad(normed, embed, missed @ unembed)
        embed.grad[:, 0] = 0.0
        optimizer.step()
        with torch.no_grad():
            embed[:, 1:] *= length / torch.linalg.vector_norm(embed[:, 1:], dim=1, keepdim=True)
