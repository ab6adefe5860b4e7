"""How a text is read while it grows: what is new at each step, once, and the rest from memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from octavo.accelerated import records
from octavo.cache import StaticCache
from octavo.cores import giving_way
from octavo.errors import SamplingError
from octavo.fused import ALONE_UNDER, FEW, foreign, fused, memory_dtype, overheard
from octavo.model import GPT
from octavo.products import Product, TiledProduct, WideProduct, evenly
from octavo.replayed import Replayed
from octavo.side_by_side import Part, SideBySide
from octavo.slots import BLOCK, Shelf, Slot

Texts = Sequence[Sequence[int]]
UNIT = 8  # slots: a GPU looks back behind a mask soonest where their number is a multiple of it


def window_start(length: int, context: int) -> int:
    """Where the visible part of a text of this length begins: at 0, then each time half a context further on.

    >>> [window_start(length, context=8) for length in (8, 9, 12, 13)]
    [0, 4, 4, 8]
    """
    half = context - context // 2
    return max(0, -(-(length - context) // half) * half)


class Reader:
    """Reads what is new in each text and remembers the rest."""

    def __init__(self, model: GPT, capacity: int, rows: int) -> None:
        self.model = fused(model, rows=rows)
        self.replays = records(model.embed.weight.device) and not (overheard(model) or foreign(model))
        self.capacity = -(-capacity // UNIT) * UNIT if self.replays else capacity
        self.steps: Replayed | None = None
        self.starts: list[int] = []
        self.cache: StaticCache | None = None
        self.dropouts = [part for part in self.model.modules() if isinstance(part, nn.Dropout) and part.p]

    def read(self, texts: Texts) -> Float[Tensor, "B V"]:
        """The logits of what follows each text."""
        starts = [window_start(len(text), self.model.config.context) for text in texts]
        with self._without_dropout():
            if self.cache is None:
                self.cache = self._remember([text[start:-1] for text, start in zip(texts, starts, strict=True)])
            elif starts != self.starts:
                self._slide(self.cache, texts, starts)
            self.starts = starts
            return self._read_newest(self.cache, texts)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these texts alone, in this order."""
        if self.cache is not None and rows:
            self.cache.select(rows)
            self.starts = [self.starts[row] for row in rows]

    def _read_newest(self, cache: StaticCache, texts: Texts) -> Float[Tensor, "B V"]:
        cache.keep([len(text) - start - 1 for text, start in zip(texts, self.starts, strict=True)])
        if self.replays:
            self.steps = self.steps if self.steps and self.steps.fits(cache) else Replayed(self.model, cache)
            return self.steps.read([text[-1] for text in texts])
        few = len(texts) <= FEW and cache.memory[0, 0].numel() < ALONE_UNDER
        with giving_way(few and evenly()):  # which changes no bit
            newest = self._stack([text[-1:] for text in texts], 1)
            if isinstance(self.model.unembed, Product):
                return self.model.unembed(self.model.read(newest, cache)[:, -1])
            return self.model(newest, cache)[:, -1]  # somebody may listen to it, or have changed it

    def _slide(self, cache: StaticCache, texts: Texts, starts: Sequence[int]) -> None:
        """Read again, from position 0, what is left of each text whose window moves on."""
        for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
            if start != self.starts[row]:
                cache.adopt(row, self._remember([text[start:-1]]))

    def _remember(self, windows: Sequence[Sequence[int]]) -> StaticCache:
        """A cache that has read one window of text per row; equal windows are read once."""
        unique = list(dict.fromkeys(map(tuple, windows)))
        cache = StaticCache(
            self.model.config,
            batch=len(unique),
            capacity=self.capacity,
            dtype=memory_dtype(self.model),
            device=self.model.embed.weight.device,
        )
        length = max(map(len, unique))
        if length:
            self.model.read(self._stack(unique, length), cache)
        cache.keep([len(window) for window in unique])
        if len(unique) < len(windows):
            cache.select([unique.index(tuple(window)) for window in windows])
        return cache

    def _stack(self, rows: Sequence[Sequence[int]], length: int) -> Int[Tensor, "B T"]:
        filled = [[*row, *[0] * (length - len(row))] for row in rows]
        return torch.tensor(filled, device=self.model.embed.weight.device)

    @contextmanager
    def _without_dropout(self) -> Iterator[None]:
        training = [part for part in self.dropouts if part.training]
        for part in training:
            part.training = False
        try:
            yield
        finally:
            for part in training:
                part.training = True


class BitwiseReader:
    """The same, in such a way that a text's numbers do not depend on its neighbours by a bit (see `slots`)."""

    def __init__(self, model: GPT, capacity: int) -> None:
        self.model, self.blocks = readable_side_by_side(model, bitwise=True), -(-capacity // BLOCK)
        self.starts: list[int] = []
        self.slots: list[Slot] = []

    def read(self, texts: Texts) -> Float[Tensor, "B V"]:
        """The logits of what follows each text."""
        starts = [window_start(len(text), self.model.config.context) for text in texts]
        if not self.slots:
            self._begin([list(text[start:-1]) for text, start in zip(texts, starts, strict=True)])
        elif starts != self.starts:
            for slot, start, before in zip(self.slots, starts, self.starts, strict=True):
                if start != before:
                    slot.forget()
        self.starts = starts
        new = [list(text[start + slot.known :]) for text, start, slot in zip(texts, starts, self.slots, strict=True)]
        x = read_side_by_side(self.model, list(zip(self.slots, new, strict=True)), bitwise=True)
        ends = torch.tensor([len(tokens) for tokens in new]).cumsum(0) - 1
        return logits_at(self.model, x, ends.tolist(), bitwise=True)

    def select(self, rows: Sequence[int]) -> None:
        """Go on with these texts alone, in this order."""
        for row, slot in enumerate(self.slots):
            if row not in rows and slot.shelf is not None:
                slot.shelf.remove(slot)
        self.slots, self.starts = [self.slots[row] for row in rows], [self.starts[row] for row in rows]

    def _begin(self, windows: Sequence[list[int]]) -> None:
        """Read the beginning of each text; equal ones are read once."""
        config, weight = self.model.config, self.model.embed.weight
        dtype = memory_dtype(self.model)
        self.slots = [Slot(config, self.blocks, dtype, weight.device) for _ in windows]
        if len(windows) > 1:
            shelf = Shelf(config, len(windows), self.blocks, dtype, weight.device)
            for slot in self.slots:
                shelf.put(slot)
        pairs = [(tuple(window), slot) for window, slot in zip(windows, self.slots, strict=True) if window]
        first = dict(reversed(pairs))
        if first:
            read_side_by_side(self.model, [(slot, list(window)) for window, slot in first.items()], bitwise=True)
        for window, slot in pairs:
            if slot is not first[window]:
                slot.take_from(first[window], len(window))


def readable_side_by_side(model: GPT, *, bitwise: bool) -> GPT:
    """A copy of a model that reads texts side by side.

    Raises `SamplingError` where somebody listens to the model or changed a part of it, and where it is a copy that
    rounds a text by its neighbours: one for one text, one in eight bits, and on a GPU, for the bitwise mode, any that
    was not made for that.
    """
    copy = fused(model, everywhere=True, bitwise=bitwise)
    kind: type[nn.Module] = type(copy.unembed)
    alike = (TiledProduct,) if bitwise and copy.embed.weight.is_cuda else (Product, TiledProduct, WideProduct)
    if kind not in alike:
        raise SamplingError(
            "somebody listens to the model or changed it, or it is a quick copy already; give the model itself"
        )
    return copy


def read_side_by_side(model: GPT, new: Sequence[tuple[Slot, list[int]]], *, bitwise: bool) -> Float[Tensor, "T C"]:
    """Read the new tokens of several texts; what the model knows at each of them, text behind text."""
    cache = SideBySide([Part(slot, len(tokens)) for slot, tokens in new], bitwise=bitwise)
    row = [token for _, tokens in new for token in tokens]
    alone = len(row) == 1 and new[0][0].memory[0].numel() < ALONE_UNDER
    with giving_way(alone and evenly()):  # which changes no bit
        return model.read(torch.tensor([row + [0] * (cache.new - len(row))], device=cache.device), cache)[0]


def logits_at(model: GPT, x: Float[Tensor, "T C"], rows: list[int], *, bitwise: bool) -> Float[Tensor, "N V"]:
    """The logits at some of the places that were read."""
    filled = rows + [0] * (-len(rows) % 8 if bitwise else 0)
    return model.unembed(x[filled])[: len(rows)]
