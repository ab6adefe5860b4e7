"""The tensors of a checkpoint in its files: one, or one of each process with the rows that it had."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from octavo.errors import DamagedError

STATE = "state.safetensors"
SHARD = re.compile(r"state-(\d{5})-of-(\d{5})\.safetensors")


def shard_name(rank: int, size: int) -> str:
    """The file of one process among several.

    >>> shard_name(0, 2)
    'state-00001-of-00002.safetensors'
    """
    return f"state-{rank + 1:05d}-of-{size:05d}.safetensors"


class Shards:
    """Opens all files of a checkpoint's state; what is wanted of a tensor is read when it is asked for.

    The rows of a tensor stand in the order of the files. Raises `DamagedError` where the files are not all there, or do
    not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._open = folder, ExitStack()
        self.files = [self._opened(path) for path in state_files(folder)]
        names = [set(file.keys()) for file in self.files]
        odd = set().union(*names) - names[0].intersection(*names)
        if odd:
            raise DamagedError(f"{folder} holds {min(odd)} in some of its files alone; they do not belong together")
        self.shapes = {name: self._shape(name) for name in sorted(names[0])}

    def __enter__(self) -> "Shards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """These rows of a tensor, put together from the files that have some of them; a number is whole everywhere."""
        if not self.shapes[name]:
            return self.files[0].get_tensor(name).clone()
        found, first = [], 0
        for file in self.files:
            part = file.get_slice(name)
            rows = part.get_shape()[0]
            here = slice(max(0, start - first), min(rows, stop - first))
            if here.start < here.stop:
                found.append(part[here])
            first += rows
        return torch.cat(found) if found else self.files[0].get_slice(name)[0:0].clone()

    def _opened(self, path: Path) -> Any:
        try:
            return self._open.enter_context(safe_open(path, "pt"))
        except (SafetensorError, OSError) as error:
            raise DamagedError(f"{path} cannot be read: {error}") from error

    def _shape(self, name: str) -> torch.Size:
        shapes = [file.get_slice(name).get_shape() for file in self.files]
        if not shapes[0]:
            return torch.Size()
        if len({tuple(shape[1:]) for shape in shapes}) > 1:
            raise DamagedError(f"{self.folder} holds {name} in rows of different lengths; they do not belong together")
        return torch.Size([sum(shape[0] for shape in shapes), *shapes[0][1:]])


def state_files(folder: Path) -> list[Path]:
    """The files that hold a state, in the order of their rows. Raises `DamagedError` where one of them is missing."""
    shards = dict(_numbered(folder))
    if not shards:
        return [folder / STATE]
    sizes = {size for _, size in shards}
    wanted = [(number, max(sizes)) for number in range(1, max(sizes) + 1)]
    missing = [pair for pair in wanted if pair not in shards]
    if len(sizes) > 1 or missing or (folder / STATE).exists():
        raise DamagedError(f"{folder} does not hold one state alone and whole; copy the whole folder again")
    return [shards[pair] for pair in wanted]


def _numbered(folder: Path) -> Iterator[tuple[tuple[int, int], Path]]:
    for path in folder.glob("state-*.safetensors"):
        match = SHARD.fullmatch(path.name)
        if match:
            yield (int(match[1]), int(match[2])), path
