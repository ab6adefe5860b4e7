"""What a text remembers while it is written: a slot of its own, or a place on a shelf that it shares with others."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from octavo.config import ModelConfig
from octavo.errors import ConfigError

BLOCK = 128  # tokens: the unit in which memory is taken
ALIGNED = 64  # bytes: where PyTorch lets memory begin, for numbers may be summed otherwise from elsewhere


class Slot:
    """The memory of one text: keys and values of every layer, room for some blocks, and how many tokens it knows."""

    shelf: "Shelf | None"  # where that memory is, if not by itself

    def __init__(self, config: ModelConfig, blocks: int, dtype: torch.dtype, device: torch.device | str) -> None:
        self.context, self.known, self.shelf = config.context, 0, None
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

    def forget(self) -> None:
        """Know nothing any more. Beyond what is known there are zeros: a mask would not hide a number that is none."""
        self.memory[:, :, :, : self.known] = 0
        self.known = 0


class Shelf:
    """Room for texts of one size in one piece of memory: they stand side by side from its beginning on."""

    def __init__(
        self, config: ModelConfig, places: int, blocks: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        shape = (2 * config.layers, places, config.kv_heads, blocks * BLOCK, config.head_width)
        self.memory = lazy_zeros(shape, dtype, device)
        self.slots: list[Slot] = []

    @property
    def places(self) -> int:
        """How many texts there is room for."""
        return self.memory.size(1)

    @property
    def blocks(self) -> int:
        """How much room each has."""
        return self.memory.size(3) // BLOCK

    def put(self, slot: Slot) -> None:
        """Take a text in, with what it knows; it has to be of this size."""
        self.slots.append(slot)
        self._move(slot, len(self.slots) - 1)
        slot.shelf = self

    def remove(self, slot: Slot) -> None:
        """Let a text go, and what it knows with it; the last one takes its place."""
        known, last = slot.known, self.slots.pop()
        if last is not slot:
            place = self.slots.index(slot)
            self.slots[place] = last
            self._move(last, place)
            self.memory[:, place, :, last.known : known] = 0
            known = last.known
        self.memory[:, len(self.slots), :, :known] = 0
        slot.shelf, slot.known = None, 0

    def clear(self) -> None:
        """Let each text have its memory by itself again."""
        memories = [slot.memory.clone() for slot in self.slots]  # first: there may be no room for them
        for slot, memory in zip(self.slots, memories, strict=True):
            slot.memory, slot.shelf = memory, None
        self.slots = []

    def _move(self, slot: Slot, place: int) -> None:
        to = self.memory[:, place : place + 1]
        to[:, :, :, : slot.known] = slot.memory[:, :, :, : slot.known]
        slot.memory = to


def lazy_zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Float[Tensor, "..."]:
    """Zeros; on a CPU they take no memory before they are written to."""
    with torch.inference_mode(False):
        if torch.device(device).type != "cpu":
            return torch.zeros(shape, dtype=dtype, device=device)
        size = math.prod(shape) * dtype.itemsize
        raw = torch.from_numpy(np.zeros(size + ALIGNED, np.uint8))
        begin = -raw.data_ptr() % ALIGNED
        return raw[begin : begin + size].view(dtype).view(shape)
