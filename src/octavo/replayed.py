"""One step of generation as a recording: a GPU is told once what to do for the next token, and then to do it again.

A step is some hundred small kernels, and to launch them takes longer than to run them. So after a few steps one is
recorded. Nothing in it may depend on how long the texts are: their lengths are numbers on the GPU as well, and every
row looks back at all the room there is, behind a mask.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from octavo.accelerated import Recording
from octavo.cache import Seen, StaticCache
from octavo.model import GPT

PLAIN = 3  # steps of the same rows before one is recorded: they warm up what is recorded, and few need no recording


class Replayed:
    """The reading of one more token in each row of a cache: the first few times as ever, then by replaying."""

    def __init__(self, model: GPT, cache: StaticCache) -> None:
        self.model, self.cache, self.memory, self.plain = model, cache, cache.memory, 0
        self.again: Recording | None = None
        self.works = True

    def fits(self, cache: StaticCache) -> bool:
        """Whether this is about such a cache: the same rows, in the same memory."""
        return cache.memory is self.memory

    def read(self, tokens: Sequence[int]) -> Float[Tensor, "B V"]:
        """The logits of what follows each row's next token; they are gone with the next call."""
        told = torch.tensor([tokens, self.cache.lengths], pin_memory=self.memory.is_cuda)
        if self.works and self.plain == PLAIN and self.again is None:
            self._record(told.to(self.memory.device))
        if self.again is None:
            self.plain = min(self.plain + 1, PLAIN)
            return self._logits(told[0].to(self.memory.device)[:, None], self.cache)
        self._told.copy_(told, non_blocking=True)
        return self.again()

    def _record(self, told: Int[Tensor, "2 B"]) -> None:
        self._told = told
        try:
            self._step()  # once as it is: nothing may be done for the first time while it is recorded
            self.again = Recording(self._step, self.memory.device)
        except RuntimeError:  # no memory for it, which only saves time
            self.works = False

    def _step(self) -> Float[Tensor, "B V"]:
        tokens, lengths = self._told[:, :, None]
        return self._logits(tokens, Anywhere(self.cache, lengths))

    def _logits(self, tokens: Int[Tensor, "B 1"], cache: "StaticCache | Anywhere") -> Float[Tensor, "B V"]:
        return self.model.unembed(self.model.read(tokens, cache)[:, -1])


class Anywhere:
    """A static cache as one step sees it that is recorded: where its rows end, only the GPU knows."""

    def __init__(self, cache: StaticCache, lengths: Int[Tensor, "B 1"]) -> None:
        self.lengths = lengths
        self.memory = cache.memory.flatten(0, 1).unbind()
        self.ends = lengths[:, None, :, None].expand(-1, cache.memory.size(3), -1, cache.memory.size(5))
        hidden = torch.arange(cache.capacity, device=lengths.device) > lengths
        self.mask = torch.zeros_like(hidden, dtype=cache.memory.dtype).masked_fill_(hidden, -torch.inf)[:, None, None]

    def positions(self, new: int) -> Int[Tensor, "B 1"]:
        return self.lengths

    def layer(self, index: int) -> "AnywhereLayer":
        return AnywhereLayer(self, *self.memory[2 * index : 2 * index + 2])

    def advance(self, new: int) -> None:
        pass


class AnywhereLayer:
    """One layer of it."""

    def __init__(self, cache: Anywhere, keys: Float[Tensor, "B K S D"], values: Float[Tensor, "B K S D"]) -> None:
        self.cache, self.keys, self.values = cache, keys, values

    def append(self, k: Float[Tensor, "B K 1 D"], v: Float[Tensor, "B K 1 D"]) -> Seen:
        self.keys.scatter_(2, self.cache.ends, k)
        self.values.scatter_(2, self.cache.ends, v)
        return self.keys, self.values, self.cache.mask
