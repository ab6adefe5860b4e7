"""A safetensors file written one tensor at a time, so that a model never has to be in memory as a whole.

The form: eight bytes that say how long the head is, the head as JSON (dtype, shape and place of each tensor), the bytes
of the tensors. safetensors' own writer wants all of them at once; what is written here is what it writes, to the byte.
"""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from octavo.errors import ConfigError, SaveError

FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
NAMES = {dtype: name for name, dtype in FLOATS.items()}
ORDER = list(FLOATS.values())  # wide ones first, so that each begins where its numbers may begin
ALIGNMENT = 8
PIECE = 16 << 20  # bytes that are handed to the file at a time


@dataclass(frozen=True)
class Described:
    """What is known of a tensor before it is there."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Its bytes in the file."""
        return prod(self.shape) * self.dtype.itemsize


def check_float(dtype: torch.dtype | None) -> None:
    """Raise `ConfigError` for what no weight is stored in; nothing said is right."""
    if dtype is not None and dtype not in FLOATS.values():
        raise ConfigError(f"dtype is {dtype!r}; give one of {', '.join(map(str, FLOATS.values()))}")


def ignore_progress(done: int, total: int) -> None:
    """Let nobody know."""


def write_tensors(
    path: Path,
    described: Mapping[str, Described],
    tensor_of: Callable[[str], Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
    on_progress: Callable[[int, int], None] = ignore_progress,
) -> None:
    """Write the tensors that are described, each asked for by its name when its place is reached, and let go again.

    They are written in the dtype of their description. Raises `SaveError` where one has another shape.

    >>> import tempfile
    >>> from safetensors.torch import load_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.safetensors")
    ...     write_tensors(path, {"ones": Described(torch.float32, (2,))}, lambda name: torch.ones(2))
    ...     load_file(path)
    {'ones': tensor([1., 1.])}
    """
    names = sorted(described, key=lambda name: (ORDER.index(described[name].dtype), name))
    total, done = sum(one.size for one in described.values()), 0
    with path.open("wb") as file:
        file.write(_head(names, described, metadata))
        for name in names:
            on_progress(done, total)
            _write(file, name, described[name], tensor_of(name))
            done += described[name].size
    on_progress(total, total)


def _head(names: list[str], described: Mapping[str, Described], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        begin, end = end, end + described[name].size
        shape = list(described[name].shape)
        entries[name] = {"dtype": NAMES[described[name].dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _write(file: BinaryIO, name: str, described: Described, tensor: Tensor) -> None:
    if tuple(tensor.shape) != described.shape:
        raise SaveError(
            f"{name} came as {tuple(tensor.shape)} where {described.shape} was to be written; save it again"
        )
    for piece in tensor.detach().reshape(-1).split(PIECE // described.dtype.itemsize):
        file.write(piece.to("cpu", described.dtype).contiguous().view(torch.uint8).numpy().data)
