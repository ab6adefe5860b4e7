"""Whole weights, and whole matrices for Muon, put together of the rows that each of several processes has."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from octavo.model import GPT
from octavo.optim import Matrices, orthogonalise
from octavo.processes import Processes

Rows = tuple[int, int]


class Lent(Mapping[str, Tensor]):
    """Whole weights, each put together in the first process when it asks for it, of what all others send."""

    def __init__(self, parts: Mapping[str, Any], model: GPT, processes: Processes) -> None:
        self.parts, self.names, self.processes = parts, list(model.state_dict()), processes

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self._sent(self.processes.told(name if name in self.parts else "embed.weight"))  # which it is tied to

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def help(self) -> None:
        """Take part in what the first one asks for, until it ends."""
        while name := self.processes.told():
            self._sent(name)

    def end(self) -> None:
        """Let the others go."""
        self.processes.told()

    def _sent(self, name: str) -> Tensor:
        part, size = self.parts[name], self.processes.size
        rows = [rows_of(part.shape[0], rank, size) for rank in range(size)]
        return self.processes.gathered(part.detach().to_local().cpu(), rows)


class Scattered(Matrices):
    """Matrices of which every process has some rows.

    Each is put together in one process, made orthogonal there, and its rows go back to where they belong: what came of
    each process's rows alone would be another update, that of several smaller matrices.
    """

    def __init__(self, shapes: Mapping[int, torch.Size], processes: Processes) -> None:
        self.shapes, self.processes = shapes, processes

    def shape(self, weight: Tensor) -> torch.Size:
        return self.shapes[id(weight)]

    def orthogonalise(self, parts: list[Tensor], shape: torch.Size, dtype: torch.dtype) -> list[Tensor]:
        size, columns = self.processes.size, shape[1]
        owned = [len(range(rank, len(parts), size)) for rank in range(size)]  # matrices, by who puts them together
        rows = [stop - start for start, stop in (rows_of(shape[0], rank, size) for rank in range(size))]
        kept, mine = rows[self.processes.rank], owned[self.processes.rank]
        sent, received = [count * kept * columns for count in owned], [mine * count * columns for count in rows]
        found = exchanged(torch.cat([torch.stack(parts)[rank::size].flatten() for rank in range(size)]), sent, received)
        pieces = [piece.view(mine, count, columns) for piece, count in zip(found.split(received), rows, strict=True)]
        made = orthogonalise(torch.cat(pieces, 1), dtype)
        back = exchanged(torch.cat([piece.flatten() for piece in made.split(rows, 1)]), received, sent)
        updates = torch.empty(len(parts), kept, columns, dtype=back.dtype, device=back.device)
        for rank, piece in enumerate(back.split(sent)):
            updates[rank::size] = piece.view(-1, kept, columns) if kept else updates[rank::size]
        return list(updates.unbind())


def exchanged(values: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Numbers for each process, so many each, for numbers from each."""
    found = values.new_empty(sum(received))
    torch.distributed.all_to_all_single(found, values, received, sent)
    return found


def rows_of(rows: int, rank: int, size: int) -> Rows:
    """Which rows of so many a process has: as PyTorch cuts them, the last ones may have fewer, or none.

    >>> [rows_of(10, rank, 4) for rank in range(4)]
    [(0, 3), (3, 6), (6, 9), (9, 10)]
    """
    most = -(-rows // size)
    return min(rank * most, rows), min((rank + 1) * most, rows)
