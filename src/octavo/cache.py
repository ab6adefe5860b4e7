"""What a model remembers of the text it has read: the keys and values of every layer, and how far each row has come.

A cache is an argument of the model. The model asks it where new tokens stand (`positions`) and hands each layer's keys
and values to one verb (`append`), which answers with all that may be looked at. No mask is ever computed from shapes:
slot s of a row holds the token at position s, so a query at position p sees exactly the slots up to p.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from octavo.config import ModelConfig
from octavo.errors import ConfigError

Seen = tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"], Bool[Tensor, "B 1 T S"] | None]


class LayerCache(Protocol):
    """One layer's memory."""

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        """Take the keys and values of new tokens; give all keys and values visible now, and who may see which.

        The mask is `None` only where every query sees what stands before it in the very same `T`: there, and only
        there, the fused kernel's own causal mask, which counts from the top left corner, is right.
        """
        ...


class Cache(Protocol):
    """The memory of a whole model, with one length per row."""

    def positions(self, new: int) -> Int[Tensor, "B T"]:
        """Where the next `new` tokens of each row stand."""
        ...

    def layer(self, index: int) -> LayerCache:
        """The memory of one layer."""
        ...

    def advance(self, new: int) -> None:
        """Say that `new` tokens were read through every layer."""
        ...


class NoCache:
    """Remembers nothing: the text is read from its beginning, in one go, as in training.

    >>> NoCache(2, torch.device("cpu")).positions(3).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.batch, self.device = batch, device

    def positions(self, new: int) -> Int[Tensor, "B T"]:
        return torch.arange(new, device=self.device).expand(self.batch, new)

    def layer(self, index: int) -> "NoCache":
        return self

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        return k, v, None

    def advance(self, new: int) -> None:
        pass


class StaticCache:
    """Room for `capacity` tokens in each row, taken once. Rows may differ in length.

    >>> cache = StaticCache(ModelConfig(layers=1, heads=1, width=4), batch=2, capacity=8)
    >>> cache.keep([3, 1])
    >>> cache.positions(2).tolist()
    [[3, 4], [1, 2]]
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        block: int = 1,
    ) -> None:
        """`block`: the visible length is rounded up to a multiple of it (128 in the bitwise mode)."""
        shape = (config.layers, 2, batch, config.kv_heads, -(-capacity // block) * block, config.head_width)
        self.memory = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths = [0] * batch
        self.block = block
        self._mask: Bool[Tensor, "B 1 T S"] | None = None

    @property
    def capacity(self) -> int:
        """How many tokens each row can hold."""
        return self.memory.size(4)

    def positions(self, new: int) -> Int[Tensor, "B T"]:
        device = self.memory.device
        start = torch.tensor(self.lengths, device=device)
        return start[:, None] + torch.arange(new, device=device)

    def layer(self, index: int) -> "StaticLayer":
        return StaticLayer(self, index)

    def advance(self, new: int) -> None:
        self.keep([length + new for length in self.lengths])

    def keep(self, lengths: Sequence[int]) -> None:
        """Let each row be so long from now on: what a row holds beyond that is forgotten."""
        self.lengths = list(lengths)
        self._mask = None

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order."""
        self.memory = self.memory[:, :, list(rows)]
        self.keep([self.lengths[row] for row in rows])

    def adopt(self, row: int, other: "StaticCache") -> None:
        """Let a row be what another cache's only row is."""
        length = other.lengths[0]
        self.memory[:, :, row, :, :length] = other.memory[:, :, 0, :, :length]
        self.keep([length if index == row else old for index, old in enumerate(self.lengths)])

    def reserve(self, new: int) -> int:
        """Make sure that `new` tokens more fit into every row; give the length that is visible then."""
        needed = -(-(max(self.lengths) + new) // self.block) * self.block
        if needed > self.capacity:
            raise ConfigError(f"{max(self.lengths)} + {new} tokens do not fit into a cache of {self.capacity}")
        return needed

    def mask(self, new: int, visible: int) -> Bool[Tensor, "B 1 T S"]:
        """Query at position p sees slots 0 … p: worked out once for all layers."""
        if self._mask is None or self._mask.shape[2:] != (new, visible):
            slots = torch.arange(visible, device=self.memory.device)
            self._mask = (slots <= self.positions(new)[:, :, None])[:, None]
        return self._mask


class GrowingCache(StaticCache):
    """A cache that doubles its room whenever it is full: for those who do not know how long it will get."""

    def reserve(self, new: int) -> int:
        needed = -(-(max(self.lengths) + new) // self.block) * self.block
        if needed > self.capacity:
            larger = self.memory.new_zeros(
                (*self.memory.shape[:4], max(needed, 2 * self.capacity), self.memory.size(5))
            )
            larger[:, :, :, :, : self.capacity] = self.memory
            self.memory = larger
        return needed


class StaticLayer:
    """One layer of a static or growing cache."""

    def __init__(self, cache: StaticCache, index: int) -> None:
        self.cache, self.index = cache, index

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        cache, new = self.cache, k.size(2)
        visible = cache.reserve(new)
        keys, values = cache.memory[self.index, 0], cache.memory[self.index, 1]
        start = cache.lengths[0]
        if all(length == start for length in cache.lengths):
            keys[:, :, start : start + new], values[:, :, start : start + new] = k.detach(), v.detach()
        else:
            rows = torch.arange(k.size(0), device=k.device)[:, None]
            slots = cache.positions(new)
            keys[rows, :, slots] = k.detach().transpose(1, 2)
            values[rows, :, slots] = v.detach().transpose(1, 2)
        if visible == new and cache.block == 1:  # nothing stands before: the fused causal mask says the same
            return k, v, None
        return keys[:, :, :visible], values[:, :, :visible], cache.mask(new, visible)
