"""What all texts remember together, in bounded room; and what those that have ended leave behind for others."""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from octavo.config import ModelConfig
from octavo.slots import BLOCK, Shelf, Slot

__all__ = ["BLOCK", "Memory", "Slot", "blocks_for", "bytes_per_block"]

HEAD = 16  # tokens that two texts must have in common to be compared at all
FEW, MANY = 4, 64  # texts that a shelf is put up for, and that it has room for at most
SHELF, FULL = 1 / 8, 3 / 4  # of all the memory: what a shelf takes at most, and from where on none is put up
COMPARED = 16  # texts left behind with the same beginning, the newest of them, that a prompt is compared with


def blocks_for(tokens: int) -> int:
    """How many blocks it takes to remember so many tokens."""
    return max(1, -(-tokens // BLOCK))


def bytes_per_block(config: ModelConfig, dtype: torch.dtype) -> int:
    """How large a block is."""
    return 2 * config.layers * config.kv_heads * config.head_width * BLOCK * dtype.itemsize


@dataclass(frozen=True, eq=False)
class Left:
    """A text that has ended, and what was remembered of it."""

    tokens: tuple[int, ...]
    slot: Slot


class Memory:
    """Room for so many blocks, given out a slot at a time."""

    def __init__(self, config: ModelConfig, blocks: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.config, self.blocks, self.dtype, self.device = config, blocks, dtype, device
        self.taken = 0  # blocks of texts on their way, and of those left behind
        self.left: OrderedDict[int, Left] = OrderedDict()  # the oldest first
        self.heads: dict[tuple[int, ...], list[int]] = {}
        self.shelves: list[Shelf] = []
        self.most = MANY
        self._next = 0

    def take(self, tokens: int) -> Slot | None:
        """Room for so many tokens; `None` where there is none, even without what was left behind."""
        blocks = blocks_for(tokens)
        if not self._make_room(blocks):
            return None
        slot = Slot(self.config, blocks, self.dtype, self.device)  # first: what cannot be had is not taken
        self.taken += blocks
        return slot

    def grow(self, slot: Slot, tokens: int) -> Slot | None:
        """The same text in a slot that has room for so many tokens: twice the room, where there is as much.

        While it is copied there are both; what counts as taken is the new one alone.
        """
        if blocks_for(tokens) <= slot.blocks:
            return slot
        most = blocks_for(self.config.context)
        for blocks in (min(most, max(2 * slot.blocks, blocks_for(tokens))), blocks_for(tokens)):
            if self._make_room(blocks - (slot.blocks if slot.shelf is None else 0)):
                grown = Slot(self.config, blocks, self.dtype, self.device)
                grown.take_from(slot, slot.known)
                self.taken += blocks
                self.give(slot)
                return grown
        return None

    def gather(self, slots: Sequence[Slot]) -> None:
        """Put texts that write onto shelves, of which each is for texts of one size, where there is memory for them."""
        alike = Counter(slot.blocks for slot in slots)
        loose: dict[int, list[Slot]] = {}
        for slot in slots:
            if slot.shelf is None:
                loose.setdefault(slot.blocks, []).append(slot)
        for blocks, waiting in loose.items():
            for shelf in [shelf for shelf in self.shelves if shelf.blocks == blocks]:
                self._put(shelf, waiting)
            while len(waiting) >= FEW and (new := self._put_up(blocks, 2 * alike[blocks])) is not None:
                self._put(new, waiting)

    def give(self, slot: Slot) -> None:
        """Give a slot back."""
        if slot.shelf is None:
            self.taken -= slot.blocks
        else:
            slot.shelf.remove(slot)  # which stays, for those that come next

    def leave(self, slot: Slot, tokens: Sequence[int]) -> None:
        """Give a slot back whose text may be of use to a later one; it is let go when room is needed."""
        known = tuple(tokens[: slot.known])
        kept = self._by_itself(slot) if slot.known >= HEAD else None
        if kept is not slot:
            self.give(slot)
        if kept is None:
            return
        self.left[self._next] = Left(known, kept)
        self.heads.setdefault(known[:HEAD], []).append(self._next)
        self._next += 1

    def find(self, tokens: list[int]) -> Slot | None:
        """A slot that knows the longest beginning of a text that any text left behind has in common with it.

        It is the slot of that text itself where all of it is the beginning of this one, else a copy. The last token is
        never known, for it has to be read.
        """
        names = self.heads.get(tuple(tokens[:HEAD]), [])[-COMPARED:]
        lengths = {name: min(common(self.left[name].tokens, tokens), len(tokens) - 1) for name in names}
        if not lengths:
            return None
        name = max(lengths, key=lambda name: lengths[name])
        if lengths[name] == self.left[name].slot.known:
            return self._remove(name).slot
        self.left.move_to_end(name)
        source = self.left[name].slot
        slot = self.take(lengths[name] + 1)  # which may let the source itself go: it is here still
        if slot is not None:
            slot.take_from(source, lengths[name])
        return slot

    def forget(self) -> None:
        """Let go of all that was left behind, and of what was kept for others."""
        while self.left:
            self._let_go()
        for shelf in [shelf for shelf in self.shelves if not shelf.slots]:
            self._clear(shelf)

    def _put(self, shelf: Shelf, waiting: list[Slot]) -> None:
        """As many as there is room for."""
        while waiting and len(shelf.slots) < shelf.places:
            self.taken -= shelf.blocks
            shelf.put(waiting.pop())

    def _put_up(self, blocks: int, places: int) -> Shelf | None:
        """A new shelf for so many texts of this size, or fewer; `None` where it would take too much."""
        places = min(places, self.most, int(SHELF * self.blocks) // blocks)
        left = sum(one.slot.blocks for one in self.left.values())
        if places < FEW or self.taken - left + places * blocks > FULL * self.blocks:
            return None
        self._let_go_for(places * blocks)
        try:
            shelf = Shelf(self.config, places, blocks, self.dtype, self.device)
        except (
            RuntimeError,
            MemoryError,
        ):  # the system has less than it said: texts do without, and it is not asked again
            self.most = 0
            return None
        self.shelves.append(shelf)
        self.taken += places * blocks
        return shelf

    def _by_itself(self, slot: Slot) -> Slot | None:
        """The same text off its shelf, with no more room than it needs; `None` where there is none."""
        if slot.shelf is None:
            return slot
        blocks = blocks_for(slot.known)
        self._let_go_for(blocks)
        if self.taken + blocks > self.blocks:
            return None
        try:
            kept = Slot(self.config, blocks, self.dtype, self.device)
        except (RuntimeError, MemoryError):
            return None
        kept.take_from(slot, slot.known)
        self.taken += blocks
        return kept

    def _make_room(self, blocks: int) -> bool:
        """See to it that there is memory; what shelves keep free goes last, for texts that write are quick there."""
        for shelf in [shelf for shelf in self.shelves if not shelf.slots]:
            if self.taken + blocks > self.blocks:
                self._clear(shelf)
        self._let_go_for(blocks)
        while self.taken + blocks > self.blocks and self.shelves:
            self._clear(self.shelves[-1])
        return self.taken + blocks <= self.blocks

    def _clear(self, shelf: Shelf) -> None:
        spare = (shelf.places - len(shelf.slots)) * shelf.blocks
        shelf.clear()
        self.shelves.remove(shelf)
        self.taken -= spare

    def _let_go_for(self, blocks: int) -> None:
        while self.taken + blocks > self.blocks and self.left:
            self._let_go()

    def _let_go(self) -> None:
        self.give(self._remove(next(iter(self.left))).slot)

    def _remove(self, name: int) -> Left:
        found = self.left.pop(name)
        names = self.heads[found.tokens[:HEAD]]
        names.remove(name)
        if not names:
            del self.heads[found.tokens[:HEAD]]
        return found


def common(one: tuple[int, ...], other: list[int]) -> int:
    """How many tokens two texts begin with alike.

    >>> common((1, 2, 3, 4), [1, 2, 5])
    2
    """
    shorter = min(len(one), len(other))
    if list(one[:shorter]) == other[:shorter]:
        return shorter
    return next(place for place in range(shorter) if one[place] != other[place])
