"""Texts that stand one behind the other in a single row, each with a memory of its own and blind to the others.

That is how many texts of different lengths are read at once with nothing wasted: matrices are multiplied with all
their tokens together, and only the look back is each text's own. In the bitwise mode the tokens of a step are filled up
to a multiple of eight, so are the queries of a text, and each block of 128 queries sees up to the end of that block,
behind a mask: then its numbers are the same whoever stands beside it, and in however many pieces it was read.

Texts that stand on a shelf look back at once, each still on its own memory: a processor has all its cores for them, and
is asked once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from octavo.cache import Seen, check_context
from octavo.errors import ConfigError
from octavo.slots import BLOCK, Shelf, Slot

STRETCH = 16  # tokens: as far as the longest text of a shelf goes, up to a multiple of it, all of them look
LookBack = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


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


class Company(NamedTuple):
    """The texts of a shelf that read one token each: which, where it is kept, and all that they see, layer by layer."""

    tokens: Int[Tensor, " N"]  # where each stands in the row of all texts
    places: Int[Tensor, " N"]  # where its text stands on the shelf
    known: Int[Tensor, " N"]
    asking: Int[Tensor, " P"]  # for each place of the shelf the token that looks back from there: its text's, or any
    memory: tuple[Float[Tensor, "P K R D"], ...]
    seen: tuple[Float[Tensor, "P K S D"], ...]
    mask: Float[Tensor, "P 1 1 S"]


class SideBySide:
    """A cache for one row that holds the new tokens of several texts, part behind part.

    >>> from octavo.config import ModelConfig
    >>> config = ModelConfig(layers=1, heads=1, width=4)
    >>> slots = [Slot(config, 1, torch.float32, "cpu") for _ in range(2)]
    >>> slots[1].known = 7
    >>> SideBySide([Part(slots[0], 3), Part(slots[1], 1)], bitwise=True).positions(8).tolist()
    [[0, 1, 2, 7, 0, 0, 0, 0]]
    """

    def __init__(self, parts: Sequence[Part], *, bitwise: bool) -> None:
        self.parts, self.unit = parts, 8 if bitwise else 1
        self.device, self.dtype = parts[0].slot.memory.device, parts[0].slot.memory.dtype
        total = sum(part.new for part in parts)
        self.new = -(-total // self.unit) * self.unit
        self.filling = self.new - total
        context = parts[0].slot.context
        self._hiding = torch.zeros(2 * context, dtype=self.dtype, device=self.device)
        self._hiding[context:] = -torch.inf  # a stretch of it hides what comes after a position
        begins = list(accumulate((part.new for part in parts), initial=0))
        found = {} if bitwise and parts[0].slot.memory.is_cuda else self._by_shelf(begins)
        self.shelves = [self._company(shelf, tokens) for (shelf, _), tokens in found.items()]
        together = {token for tokens in found.values() for token in tokens.values()}
        others = [index for index, begin in enumerate(begins[:-1]) if begin not in together]
        rows = [token for index in others for token in range(begins[index], begins[index + 1])]
        self.sizes = [parts[index].new for index in others]
        self.written = [self._written(parts[index]) for index in others]
        self.places = [place for index in others for place in self._places(parts[index])]
        order = [tokens[place] for tokens in found.values() for place in sorted(tokens)] + rows
        self.alone = self._index(rows) if found else None
        self.back = self._index(order).argsort() if found else None

    def positions(self, new: int) -> Int[Tensor, "1 T"]:
        """Where each new token stands in its own text; what only fills up stands at 0."""
        found = [position for part in self.parts for position in range(part.slot.known, part.slot.known + part.new)]
        return torch.tensor([found + [0] * (new - len(found))], device=self.device)

    def layer(self, index: int) -> "SideLayer":
        return SideLayer(self, index)

    def advance(self, new: int) -> None:
        for part in self.parts:
            part.slot.known += part.new

    def _by_shelf(self, begins: list[int]) -> dict[tuple[Shelf, int], dict[int, int]]:
        """Of each shelf whose texts are here to read one token, half of them at least: the place and token of each.

        In the bitwise mode only those that see as many blocks are together.
        """
        found: dict[tuple[Shelf, int], dict[int, int]] = {}
        for part, token in zip(self.parts, begins, strict=False):
            shelf = part.slot.shelf
            if shelf is not None and part.new == 1:
                blocks = part.slot.known // BLOCK + 1 if self.unit > 1 else 0
                found.setdefault((shelf, blocks), {})[shelf.slots.index(part.slot)] = token
        return {key: tokens for key, tokens in found.items() if len(key[0].slots) <= 2 * len(tokens) > 2}

    def _company(self, shelf: Shelf, tokens: Mapping[int, int]) -> Company:
        known = self._index(slot.known for slot in shelf.slots)
        places = sorted(tokens)
        most = max(shelf.slots[place].known for place in places) + 1
        check_context(most, shelf.slots[0].context)
        unit = BLOCK if self.unit > 1 else STRETCH
        visible, memory = -(-most // unit) * unit, shelf.memory[:, : len(shelf.slots)]
        hidden = torch.arange(visible, device=self.device) > known[:, None]
        there = self._index(places)
        return Company(
            tokens=self._index(tokens[place] for place in places),
            places=there,
            known=known[there],
            asking=self._index(tokens.get(place, 0) for place in range(len(shelf.slots))),
            memory=memory.unbind(),
            seen=memory[:, :, :, :visible].unbind(),
            mask=torch.zeros_like(hidden, dtype=self.dtype).masked_fill_(hidden, -torch.inf)[:, None, None],
        )

    def _index(self, numbers: Iterable[int]) -> Int[Tensor, " N"]:
        return torch.tensor(list(numbers), dtype=torch.long, device=self.device)

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
        cache = self.cache
        seen = [self._in_company(one, q, k, v, look_back) for one in cache.shelves]
        if cache.places:
            if cache.alone is not None:
                q, k, v = (part[:, :, cache.alone] for part in (q, k, v))
            seen += self._alone(q, k, v, look_back)
        joined = seen[0] if len(seen) == 1 else torch.cat(seen, 2)  # one alone stands as the next product reads it
        joined = joined if cache.back is None else joined[:, :, cache.back]
        return F.pad(joined, (0, 0, 0, cache.filling)) if cache.filling else joined

    def _in_company(
        self,
        company: Company,
        q: Float[Tensor, "1 H T D"],
        k: Float[Tensor, "1 K T D"],
        v: Float[Tensor, "1 K T D"],
        look_back: LookBack,
    ) -> Float[Tensor, "1 H N D"]:
        """Of a shelf: what is new is written to where it belongs, then all of its places look back."""
        for index, new in ((self.keys, k), (self.values, v)):
            company.memory[index][company.places, :, company.known] = new[0, :, company.tokens].transpose(0, 1)
        asked = q[0, :, company.asking].transpose(0, 1)[:, :, None]
        asked = asked.repeat_interleave(self.cache.unit, 2) if self.cache.unit > 1 else asked
        seen = look_back(asked, company.seen[self.keys], company.seen[self.values], company.mask)[:, :, 0]
        seen = seen if len(company.places) == len(seen) else seen[company.places]
        return seen.transpose(0, 1)[None]

    def _alone(
        self,
        q: Float[Tensor, "1 H T D"],
        k: Float[Tensor, "1 K T D"],
        v: Float[Tensor, "1 K T D"],
        look_back: LookBack,
    ) -> list[Float[Tensor, "1 H _ D"]]:
        """Of texts that stand by themselves, one after the other."""
        self._write(k, v)
        unit, places = self.cache.unit, self.cache.places
        single = next((index for index, place in enumerate(places) if place.new > 1), len(places))
        queries = list(q[:, :, :single].repeat_interleave(unit, 2).split(unit, 2)) if single else []
        begin = single
        for place in places[single:]:
            asked = q[:, :, begin : begin + place.new]
            queries.append(F.pad(asked, (0, 0, 0, -place.new % unit)) if unit > 1 else asked)
            begin += place.new
        return [
            look_back(asked, place.seen[self.keys], place.seen[self.values], place.mask)[:, :, : place.new]
            for asked, place in zip(queries, places, strict=True)
        ]

    def _write(self, k: Float[Tensor, "1 K T D"], v: Float[Tensor, "1 K T D"]) -> None:
        sizes, written = self.cache.sizes, self.cache.written
        places = [layers[self.keys] for layers in written] + [layers[self.values] for layers in written]
        new = sum(sizes)
        torch._foreach_copy_(places, [*k[:, :, :new].split(sizes, 2), *v[:, :, :new].split(sizes, 2)])
