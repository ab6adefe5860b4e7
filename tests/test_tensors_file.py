"""safetensors files written one tensor at a time are, to the byte, those that safetensors writes."""

import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo.disk import replace_file
from octavo.errors import SaveError
from octavo.tensors_file import FLOATS, Described, write_tensors


def drawn(dtype: torch.dtype = torch.float32, *, prefix: str = "") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"b.weight": (3, 5), "a.weight": (7,), "a.scale": (), "none": (0, 4), "Ü “name” \\": (1, 1, 3)}
    return {prefix + name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def described(tensors: Mapping[str, Tensor]) -> dict[str, Described]:
    return {name: Described(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
@pytest.mark.parametrize("dtype", [*FLOATS.values(), None])
def test_a_file_is_to_the_byte_what_safetensors_writes(
    dtype: torch.dtype | None, metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    mixed = {name: tensor for one in FLOATS.values() for name, tensor in drawn(one, prefix=str(one)).items()}
    tensors = mixed if dtype is None else drawn(dtype)
    write_tensors(tmp_path / "ours", described(tensors), tensors.__getitem__, metadata=metadata)
    save_file(tensors, tmp_path / "theirs", metadata=metadata)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    back = load_file(tmp_path / "ours")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype for name, tensor in tensors.items())
    with safe_open(tmp_path / "ours", "pt") as file:
        assert file.metadata() == metadata
    assert int.from_bytes((tmp_path / "ours").read_bytes()[:8], "little") % 8 == 0


def test_what_comes_in_another_dtype_or_turned_is_written_as_it_is_described(tmp_path: Path) -> None:
    path, weight = tmp_path / "a", torch.arange(6.0).view(2, 3).t()
    write_tensors(path, {"w": Described(torch.bfloat16, (3, 2))}, lambda name: weight.requires_grad_())
    assert torch.equal(load_file(path)["w"], weight.bfloat16())


def test_a_tensor_in_several_pieces_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.tensors_file.PIECE", 8)
    tensors = drawn(torch.float16)
    write_tensors(tmp_path / "a", described(tensors), tensors.__getitem__)
    assert all(torch.equal(load_file(tmp_path / "a")[name], tensor) for name, tensor in tensors.items())


def test_each_is_asked_for_when_the_one_before_is_gone(tmp_path: Path) -> None:
    tensors, alive, told = drawn(), weakref.WeakSet[Tensor](), []

    def made(name: str) -> Tensor:
        assert not alive
        tensor = tensors[name].clone()
        alive.add(tensor)
        return tensor

    write_tensors(tmp_path / "a", described(tensors), made, on_progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[0] == (0, 4 * 26) and told[-1] == (4 * 26, 4 * 26)


@pytest.mark.parametrize(
    ("tensor_of", "message"),
    [
        (lambda name: torch.ones(3), r"w came as \(3,\) where \(2,\) was to be written; save it again"),
        (lambda name: open("/nowhere"), r"a could not be written: No such file or directory; it takes 8 bytes"),  # noqa: SIM115, PTH123
    ],
)
def test_what_cannot_be_written_leaves_what_was_there(
    tensor_of: Callable[[str], Tensor], message: str, tmp_path: Path
) -> None:
    path, asked = tmp_path / "a", {"w": Described(torch.float32, (2,))}
    path.write_text("before")
    with pytest.raises(SaveError, match=message):
        replace_file(path, lambda temporary: write_tensors(temporary, asked, tensor_of), size=8)
    assert path.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["a"]
