"""What a model remembers of the text it has read: the keys and values of every layer, and how far each row has come.

A cache is an argument of the model. The model asks it where new tokens stand (`positions`) and hands each layer's keys
and values to one verb (`append`), which answers with all that may be looked at. No mask is ever computed from shapes:
slot s of a row holds the token at position s, so a query at position p sees exactly the slots up to p.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from octavo.config import ModelConfig
from octavo.errors import ConfigError

# keys, values, and a mask in which what is hidden is false, or −∞
Seen = tuple[Float[Tensor, "B K S D"], Float[Tensor, "B K S D"], Shaped[Tensor, "B 1 T S"] | None]


@runtime_checkable
class LayerCache(Protocol):
    """One layer's memory."""

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        """Take the keys and values of new tokens; give all keys and values visible now, and who may see which.

        The mask is `None` only where `T` queries see `T` keys, for there alone the fused kernel's own causal mask,
        which counts from the top left corner, is right; and where a single query sees everything.
        """
        ...


@runtime_checkable
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


def check_context(length: int, context: int) -> None:
    """Raise `ConfigError` where a text would be longer than the model can read at once."""
    if length > context:
        raise ConfigError(f"{length} tokens do not fit into a context of {context}; give fewer, or the newest ones")


def check_batched(x: Tensor, shape: str) -> None:
    """Raise `ConfigError` where a model or a part of it is not given a batch.

    >>> check_batched(torch.zeros(5, 16), "B T C")
    Traceback (most recent call last):
    octavo.errors.ConfigError: (5, 16) is not B T C; give a batch, x[None] is one of a single text
    """
    if x.dim() != len(shape.split()):
        raise ConfigError(f"{tuple(x.shape)} is not {shape}; give a batch, x[None] is one of a single text")


def check_rows(tokens: Tensor, positions: Tensor) -> None:
    """Raise `ConfigError` where a cache remembers other rows than are to be read: one would be read for all of them."""
    if tokens.size(0) != positions.size(0):
        raise ConfigError(f"{tokens.size(0)} rows do not fit a cache of {positions.size(0)}; give one for each")


class NoCache:
    """Remembers nothing: the text is read from its beginning, in one go, as in training.

    >>> NoCache(ModelConfig(), 2, torch.device("cpu")).positions(3).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """

    def __init__(self, config: ModelConfig, batch: int, device: torch.device) -> None:
        self.context, self.batch, self.device = config.context, batch, device

    def positions(self, new: int) -> Int[Tensor, "B T"]:
        check_context(new, self.context)
        return torch.arange(new, device=self.device).expand(self.batch, new)

    def layer(self, index: int) -> "NoCache":
        return self

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        return k, v, None

    def advance(self, new: int) -> None:
        pass


class Documents(NoCache):
    """Documents side by side in each row, read in one go: a token sees its own document alone, from position 0 on.

    A document begins with `boundary`, the token that ended the one before it; a row may begin within one.

    >>> row = Documents(ModelConfig(), torch.tensor([[7, 8, 0, 7, 9]]), boundary=0)
    >>> row.positions(5).tolist()
    [[0, 1, 0, 1, 2]]
    """

    def __init__(self, config: ModelConfig, tokens: Int[Tensor, "B T"], boundary: int) -> None:
        super().__init__(config, tokens.size(0), tokens.device)
        places = torch.arange(tokens.size(1), device=tokens.device)
        begins = torch.where(tokens == boundary, places, 0).cummax(1).values
        self.places = places - begins
        together = begins[:, :, None] == begins[:, None, :]
        self.mask = (together & (places <= places[:, None]))[:, None]

    def positions(self, new: int) -> Int[Tensor, "B T"]:
        check_context(new, self.context)
        return self.places

    def layer(self, index: int) -> "Documents":
        return self

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        return k, v, self.mask


class StaticCache:
    """Room for `capacity` tokens in each row, taken once. Rows may differ in length.

    It is for writing: no gradient finds its way back through what is remembered, the newest token's included.

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
    ) -> None:
        shape = (config.layers, 2, batch, config.kv_heads, capacity, config.head_width)
        self.context = config.context
        self.lengths = [0] * batch
        self._place: Place | None = None
        with torch.inference_mode(False):  # else what inference mode has made could be written to in it alone
            self.memory = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def capacity(self) -> int:
        """How many tokens each row can hold."""
        return self.memory.size(4)

    def positions(self, new: int) -> Int[Tensor, "B T"]:
        check_context(max(self.lengths) + new, self.context)
        start = torch.tensor(self.lengths, device=self.memory.device)
        return start[:, None] + torch.arange(new, device=self.memory.device)

    def layer(self, index: int) -> "StaticLayer":
        return StaticLayer(self, index)

    def advance(self, new: int) -> None:
        self.keep([length + new for length in self.lengths])

    def keep(self, lengths: Sequence[int]) -> None:
        """Let each row be so long from now on: what a row holds beyond that is forgotten."""
        rows = self.memory.size(2)
        if len(lengths) != rows or min(lengths, default=0) < 0:
            raise ConfigError(f"{list(lengths)} are no lengths of {rows} rows; give one for each, zero or more")
        self.lengths = list(lengths)
        self._place = None

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these rows alone, in this order; a row may be named more than once."""
        with torch.inference_mode(False):
            self.memory = self.memory[:, :, list(rows)]
        self.keep([self.lengths[row] for row in rows])

    def adopt(self, row: int, other: "StaticCache") -> None:
        """Let a row be what another cache's only row is."""
        length = other.lengths[0]
        self.hold(length)
        self.memory[:, :, row, :, :length] = other.memory[:, :, 0, :, :length]
        self.keep([length if index == row else old for index, old in enumerate(self.lengths)])

    def hold(self, length: int) -> None:
        """Make sure that every row has room for so many tokens."""
        if length > self.capacity:
            raise ConfigError(f"{length} tokens do not fit into a cache of {self.capacity}; take a larger one")

    def place(self, new: int) -> "Place":
        """Where the next `new` tokens go and what they may see: worked out once for all layers."""
        if self._place is None or self._place.new != new:
            visible, start = max(self.lengths) + new, self.lengths[0]
            self.hold(visible)
            together = all(length == start for length in self.lengths)
            fresh, plain = together and start == 0, together and new == 1
            mask = None if fresh or plain else self.mask(new, visible)
            slots = None if together else self.positions(new)
            written = self.memory.narrow(4, start, new).flatten(0, 1).unbind() if together else ()
            seen = self.memory.narrow(4, 0, visible).flatten(0, 1).unbind()
            self._place = Place(new, start, slots, mask, written, seen)
        return self._place

    def mask(self, new: int, visible: int) -> Bool[Tensor, "B 1 T S"]:
        """Query at position p sees slots 0 … p."""
        slots = torch.arange(visible, device=self.memory.device)
        return (slots <= self.positions(new)[:, :, None])[:, None]


class Place(NamedTuple):
    """A stretch of `new` slots in every row, beginning at `start`, or at `slots` where rows differ in length.

    Keys and values of each layer in turn: of the stretch (of none where rows differ), and of all that is visible.
    """

    new: int
    start: int
    slots: Int[Tensor, "B T"] | None
    mask: Bool[Tensor, "B 1 T S"] | None
    written: tuple[Float[Tensor, "B K T D"], ...]
    seen: tuple[Float[Tensor, "B K S D"], ...]


class GrowingCache(StaticCache):
    """A cache that doubles its room whenever it is full: for those who do not know how long it will get.

    >>> cache = GrowingCache(ModelConfig(layers=1, heads=1, width=4), batch=1, capacity=8)
    >>> cache.hold(9)
    >>> cache.capacity
    16
    """

    def hold(self, length: int) -> None:
        if length > self.capacity:
            before = self.memory
            shape = (*before.shape[:4], max(length, 2 * self.capacity), before.size(5))
            with torch.inference_mode(False):
                self.memory = before.new_zeros(shape)
            self.memory[:, :, :, :, : before.size(4)] = before


class StaticLayer:
    """One layer of a static or growing cache."""

    def __init__(self, cache: StaticCache, index: int) -> None:
        self.cache, self.index = cache, index

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        place = self.cache.place(k.size(2))
        keys, values = place.seen[2 * self.index : 2 * self.index + 2]
        if place.slots is None:
            place.written[2 * self.index].copy_(k.detach())
            place.written[2 * self.index + 1].copy_(v.detach())
        else:
            rows = torch.arange(k.size(0), device=k.device)[:, None]
            keys[rows, :, place.slots] = k.detach().transpose(1, 2)
            values[rows, :, place.slots] = v.detach().transpose(1, 2)
        if place.mask is None and place.start == 0:
            return k, v, None  # nothing stands before them
        return keys, values, place.mask
