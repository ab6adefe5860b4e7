"""The head of a GGUF file: read as the gguf package reads it, and refused where it lies."""

import struct
import tracemalloc
from array import array
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from octavo.errors import DamagedError, OctavoError, RunError
from octavo.gguf_header import Header, read_header
from test_mutations import at_most, mutated_bytes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_uint32("llama.context_length", 64)
    writer.add_float32("llama.rope.freq_base", 10_000.0)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "→"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    writer.add_array("tokenizer.ggml.some", [True, False])
    draw = np.random.default_rng(0)
    writer.add_tensor("token_embd.weight", draw.normal(size=(3, 64)).astype(np.float32))
    writer.add_tensor("output_norm.weight", draw.normal(size=64).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_it_is_read_as_the_gguf_package_reads_it(file: Path) -> None:
    header, theirs = read_header(file), GGUFReader(file)
    ours = {name: field.contents() for name, field in theirs.fields.items() if not name.startswith("GGUF.")}
    assert {name: list(value) if isinstance(value, array) else value for name, value in header.settings.items()} == ours
    for tensor in theirs.tensors:
        stored = header.tensors[tensor.name]
        assert stored.kind == tensor.tensor_type and stored.shape == tuple(tensor.shape.tolist()[::-1])
        assert (stored.offset, stored.size) == (tensor.data_offset, tensor.n_bytes)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def setting(name: str | bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, offset)


def made(settings: tuple[bytes, ...] = (), tensors: tuple[bytes, ...] = (), data: int = 256) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(settings))
    return head + b"".join(settings) + b"".join(tensors) + bytes(data)


U32, ARRAY = 4, 9
WRONG: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cannot be read as GGUF: .*empty"),
    "an old version": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "it is of version 1; octavo reads 2 and 3"),
    "cut off": (b"GGUF\3\0", "4 bytes are announced and 2 are left"),
    "too many tensors": (
        b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0),
        "tensors do not fit into what is left of the file",
    ),
    "too many settings": (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**40), "settings do not fit into what is left"),
    "a long name": (made((struct.pack("<Q", 2**62),)), "bytes do not fit into what is left of the file"),
    "no UTF-8": (made((setting(b"\xff\xfe", U32, bytes(4)),)), "a text is not UTF-8"),
    "no name": (made((setting("", U32, bytes(4)),)), "a name is empty, too long or not printable"),
    "a name that commands": (
        made((setting("a\x1b[31m", U32, bytes(4)),)),
        "a name is empty, too long or not printable",
    ),
    "a twin": (made((setting("a", U32, bytes(4)),) * 2), "a is there twice"),
    "an odd kind": (made((setting("a", 77, bytes(4)),)), "a value of kind 77 is none that GGUF has"),
    "nested arrays": (
        made((setting("a", ARRAY, struct.pack("<IQ", ARRAY, 1)),)),
        "an array of kind 9 is none that octavo reads",
    ),
    "a long array": (
        made((setting("a", ARRAY, struct.pack("<IQ", U32, 2**60)),)),
        "numbers do not fit into what is left of the file",
    ),
    "long texts": (
        made((setting("a", ARRAY, struct.pack("<IQ", 8, 2**60)),)),
        "texts do not fit into what is left of the file",
    ),
    "many tensors": (
        b"GGUF" + struct.pack("<IQQ", 3, 2**16 + 1, 0) + bytes(24 * (2**16 + 1)),
        "65537 tensors are more than any model has",
    ),
    "many settings": (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**16 + 1) + bytes(13 * (2**16 + 1)),
        "65537 settings are more than any model has",
    ),
    "many texts": (
        made((setting("a", ARRAY, struct.pack("<IQ", 8, 2**21 + 1)),), data=8 * (2**21 + 1)),
        "2097153 texts are more than any model has",
    ),
    "many texts in several arrays": (
        made(
            tuple(
                setting(name, ARRAY, struct.pack("<IQ", 8, count) + bytes(8 * count))
                for name, count in (("a", 10), ("b", 2**21 - 9))
            )
        ),
        "2097143 texts are more than any model has",
    ),
    "no dimensions": (made(tensors=(tensor("t", ()),)), "a tensor has 0 dimensions"),
    "many dimensions": (made(tensors=(tensor("t", (1,) * 9),)), "a tensor has 9 dimensions"),
    "an unknown kind": (made(tensors=(tensor("t", (4,), kind=999),)), "a tensor is of kind 999, which is not known"),
    "a giant": (made(tensors=(tensor("t", (2**62, 2**62)),)), "a tensor of F32 has the shape"),
    "half a block": (
        made(tensors=(tensor("t", (33,), kind=8),)),
        "a tensor of Q8_0 has the shape .*which no file has",
    ),
    "over another": (
        made(tensors=(tensor("t", (8,)), tensor("u", (8,)))),
        "stands at byte .*, over another or not aligned",
    ),
    "beyond the end": (made(tensors=(tensor("t", (64,), offset=192),)), "t ends at byte .*, and the file at"),
    "an odd alignment": (
        made((setting("general.alignment", U32, struct.pack("<I", 3)),)),
        "general.alignment is 3; it is a power of two up to 65536",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_lies_is_refused_with_the_place(name: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    (tmp_path / "a.gguf").write_bytes(content)
    where = "" if name in ("nothing", "another file") else r"is damaged at byte \d+: .*"
    with at_most(1), pytest.raises(DamagedError, match=rf"a\.gguf {where}{message}"):
        read_header(tmp_path / "a.gguf")


@pytest.mark.parametrize("content", [b"PK\3\4" + bytes(99), b"x\n"])
def test_a_file_of_another_kind_is_the_users_mistake(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(RunError, match="is no GGUF file, for it does not begin with GGUF; give another"):
        read_header(tmp_path / "a.gguf")


@pytest.mark.parametrize(("kind", "size"), [(2, 2), (7, 1), (10, 8)])
def test_an_array_takes_little_more_memory_than_the_file_that_holds_it(kind: int, size: int, tmp_path: Path) -> None:
    count = 8_000_000 // size
    path = tmp_path / "a.gguf"
    path.write_bytes(made((setting("a", ARRAY, struct.pack("<IQ", kind, count) + b"\1" * 8_000_000),)))
    tracemalloc.start()
    try:
        with at_most(1):
            header = read_header(path)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(header.settings["a"]) == count and header.settings["a"][count - 1] == int.from_bytes(b"\1" * size)
    assert kept < 9_000_000 and peak < 18_000_000


def test_a_changed_file_is_read_or_refused_soon(file: Path, tmp_path: Path) -> None:
    content, draw, times = file.read_bytes(), Random(0), 600
    outcomes: list[Header | None] = []
    read: Callable[[Path], Any] = read_header
    for _ in range(times):
        (tmp_path / "b.gguf").write_bytes(mutated_bytes(content, draw))
        try:
            with at_most(1):
                outcomes.append(read(tmp_path / "b.gguf"))
        except OctavoError:
            outcomes.append(None)
    assert 0.1 * times < sum(outcome is None for outcome in outcomes) < times
