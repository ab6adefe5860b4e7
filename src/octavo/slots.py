"""Texts that stand one behind the other in a single row, each with a memory of its own and blind to the others.

That is how many texts of different lengths are read at once with nothing wasted: matrices are multiplied with all
their tokens together, and only the look back is each text's own. In the bitwise mode the tokens of a step are filled up
to a multiple of eight, so are the queries of a text, and each block of 128 queries sees up to the end of that block,
behind a mask: then its numbers are the same whoever stands beside it, and in however many pieces it was read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from octavo.cache import Seen, check_context
from octavo.config import ModelConfig
from octavo.errors import ConfigError

BLOCK = 128  # tokens: the unit in which memory is taken
LookBack = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


class Slot:
    """The memory of one text: keys and values of every layer, room for some blocks, and how many tokens it knows."""

    def __init__(self, config: ModelConfig, blocks: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.context, self.known = config.context, 0
        shape = (2 * config.layers, 1, config.kv_heads, blocks * BLOCK, config.head_width)
        with torch.inference_mode(False):  # what inference mode makes can be written to in it alone
            self.memory = torch.zeros(shape, dtype=dtype, device=device)  # what is hidden has to be finite

    @property
    def blocks(self) -> int:
        """How much room there is."""
        return self.memory.size(3) // BLOCK

    def take_from(self, other: "Slot", length: int) -> None:
        """Know the first tokens of another text; raises `ConfigError` where that knows fewer or this has less room."""
        if length > other.known or length > self.blocks * BLOCK:
            raise ConfigError(f"{length} tokens are not all known there, or do not fit here; take fewer")
        self.memory[:, :, :, :length] = other.memory[:, :, :, :length]
        self.known = length


@dataclass(frozen=True)
class Part:
    """So many new tokens of a text, which follow those that its slot knows."""

    slot: Slot
    new: int


class Place(NamedTuple):
    """Some new tokens of a text, and all that they see: keys and values of each layer in turn. What is hidden of it is
    hidden by a number that is added to the scores.
    """

    new: int
    seen: tuple[Float[Tensor, "1 K S D"], ...]
    mask: Float[Tensor, "1 1 _ S"] | None


class SideBySide:
    """A cache for one row that holds the new tokens of several texts, part behind part.

    >>> config = ModelConfig(layers=1, heads=1, width=4)
    >>> slots = [Slot(config, 1, torch.float32, "cpu") for _ in range(2)]
    >>> slots[1].known = 7
    >>> SideBySide([Part(slots[0], 3), Part(slots[1], 1)], bitwise=True).positions(8).tolist()
    [[0, 1, 2, 7, 0, 0, 0, 0]]
    """

    def __init__(self, parts: Sequence[Part], *, bitwise: bool) -> None:
        self.parts, self.unit = parts, 8 if bitwise else 1
        self.device, self.dtype = parts[0].slot.memory.device, parts[0].slot.memory.dtype
        self.new = -(-sum(part.new for part in parts) // self.unit) * self.unit
        self.filling = self.new - sum(part.new for part in parts)
        context = parts[0].slot.context
        self._hiding = torch.zeros(2 * context, dtype=self.dtype, device=self.device)
        self._hiding[context:] = -torch.inf  # a stretch of it hides what comes after a position
        self.written = [self._written(part) for part in parts]
        self.places = [place for part in parts for place in self._places(part)]

    def positions(self, new: int) -> Int[Tensor, "1 T"]:
        """Where each new token stands in its own text; what only fills up stands at 0."""
        found = [position for part in self.parts for position in range(part.slot.known, part.slot.known + part.new)]
        return torch.tensor([found + [0] * (new - len(found))], device=self.device)

    def layer(self, index: int) -> "SideLayer":
        return SideLayer(self, index)

    def advance(self, new: int) -> None:
        for part in self.parts:
            part.slot.known += part.new

    def _written(self, part: Part) -> tuple[Float[Tensor, "1 K T D"], ...]:
        """Where the keys and values of a text's new tokens go, in each layer in turn."""
        end = part.slot.known + part.new
        check_context(end, part.slot.context)
        return part.slot.memory[:, :, :, part.slot.known : end].unbind()

    def _places(self, part: Part) -> Iterator[Place]:
        """A text's new tokens as they look back: together, or in the bitwise mode block by block."""
        begin, end = part.slot.known, part.slot.known + part.new
        while begin < end:
            stop = min(end, (begin // BLOCK + 1) * BLOCK) if self.unit > 1 else end
            visible = -(-stop // BLOCK) * BLOCK if self.unit > 1 else stop
            mask = self._mask(part.slot.context, begin, stop - begin, visible)
            yield Place(stop - begin, part.slot.memory[:, :, :, :visible].unbind(), mask)
            begin = stop

    def _mask(self, context: int, begin: int, new: int, visible: int) -> Float[Tensor, "1 1 _ S"] | None:
        """What each query does not see: nothing that comes after it."""
        if self.unit == 1 and (new == 1 or begin == 0):
            return None
        if new == 1:
            return self._stretch(context - 1 - begin, visible)[None, None, None]
        queries = begin + torch.arange(-(-new // self.unit) * self.unit, device=self.device)
        hidden = torch.arange(visible, device=self.device) > queries[:, None]
        return torch.zeros_like(hidden, dtype=self.dtype).masked_fill_(hidden, -torch.inf)[None, None]

    def _stretch(self, first: int, length: int) -> Float[Tensor, " S"]:
        short = first + length - len(self._hiding)  # a context that ends within a block
        found = self._hiding[first : first + length]
        if short > 0:
            return F.pad(found, (0, short), value=-torch.inf)
        return found.clone() if found.is_cuda else found  # a GPU reads four numbers at once, from where four begin


class SideLayer:
    """One layer of it."""

    def __init__(self, cache: SideBySide, index: int) -> None:
        self.cache, self.keys, self.values = cache, 2 * index, 2 * index + 1

    def append(self, k: Float[Tensor, "B K T D"], v: Float[Tensor, "B K T D"]) -> Seen:
        """Not here: there is no one answer for texts side by side."""
        raise ConfigError("texts side by side look back each on its own; ask for look_back")

    def look_back(
        self,
        q: Float[Tensor, "1 H T D"],
        k: Float[Tensor, "1 K T D"],
        v: Float[Tensor, "1 K T D"],
        look_back: LookBack,
    ) -> Float[Tensor, "1 H T D"]:
        """Take all new keys and values, let each text look back on its own, and join what they saw."""
        self._write(k, v)
        unit, places = self.cache.unit, self.cache.places
        alone = next((index for index, place in enumerate(places) if place.new > 1), len(places))
        queries = list(q[:, :, :alone].repeat_interleave(unit, 2).split(unit, 2)) if alone else []
        begin = alone
        for place in places[alone:]:
            asked = q[:, :, begin : begin + place.new]
            queries.append(F.pad(asked, (0, 0, 0, -place.new % unit)) if unit > 1 else asked)
            begin += place.new
        seen = [
            look_back(asked, place.seen[self.keys], place.seen[self.values], place.mask)[:, :, : place.new]
            for asked, place in zip(queries, places, strict=True)
        ]
        filling = [torch.zeros_like(q[:, :, : self.cache.filling])] if self.cache.filling else []
        return torch.cat(seen + filling, 2)

    def _write(self, k: Float[Tensor, "1 K T D"], v: Float[Tensor, "1 K T D"]) -> None:
        parts, written = self.cache.parts, self.cache.written
        sizes = [part.new for part in parts] + ([self.cache.filling] if self.cache.filling else [])
        places = [layers[self.keys] for layers in written] + [layers[self.values] for layers in written]
        torch._foreach_copy_(places, [*k.split(sizes, 2)[: len(parts)], *v.split(sizes, 2)[: len(parts)]])
