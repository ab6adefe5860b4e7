"""What is not a run, or not a whole one, or not what it says, is refused in one line before memory is taken for it."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.config import ModelConfig
from octavo.disk import read_json
from octavo.errors import DamagedError, RunError
from octavo.model import GPT
from octavo.run import load, load_model, save_model

Models = Callable[..., GPT]


@pytest.fixture
def one(tiny: dict[str, ModelConfig], random_model: Models, run: Path) -> Path:
    """A run in one layout, to be spoiled."""
    save_model(random_model(tiny["llama"], dtype=torch.float32), run, end_of_text=0)
    return run


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_not_a_run_is_said_in_one_line(one: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"nowhere does not exist; name a run, a folder that Hugging Face wrote, or a \.gguf file$"
    ):
        load(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"config.json is a file; name a run, or a folder that Hugging Face wrote$"):
        load_model(one / "config.json")
    with pytest.raises(RunError, match=r" cannot be opened: .*File name too long"):
        load_model("x" * 300)
    with pytest.raises(RunError, match=r" is not a run: it has no config.json$"):
        load_model(tmp_path)
    with pytest.raises(RunError, match=r"run is incomplete: it has no tokenizer.json; copy the whole folder again$"):
        load(one)
    (one / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"run is incomplete: it has no model.safetensors; copy the whole folder again$"):
        load_model(one)
    (one / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(RunError, match=r"as a pickle, pytorch_model.bin, which can run any program .* convert it with"):
        load_model(one)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"config.json cannot be read: Expecting value"),
        ("{", r"config.json cannot be read: Expecting property name"),
        ("[1]", r"config.json cannot be read: it is no JSON object; copy it again$"),
        ('{"model_type": "gpt2", "a": {"b": 1, "b": 2}}', r"cannot be read: it has the key 'b' twice; copy it again$"),
        ('{"layer_norm_epsilon": NaN}', r"cannot be read: it holds NaN, which JSON does not have; copy it again$"),
        ("[" * 100_000 + "]" * 100_000, r"cannot be read: it is nested too deeply; copy it again$"),
        (b"\xff\xfe{}", r"config.json cannot be read: 'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_config_that_is_doubtful_is_not_read(one: Path, content: str | bytes, message: str) -> None:
    (one / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DamagedError, match=message):
        load_model(one)


def test_a_json_file_of_absurd_size_is_not_read(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.disk.JSON_BYTES", 100)
    with pytest.raises(DamagedError, match=r"config.json is larger than 100 bytes; it is not what its name says$"):
        load_model(one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mamba"}, r"config.json: model_type is 'mamba', which octavo does not read; it reads gpt2"),
        ({"dtype": "float8_e4m3fn"}, r"dtype is 'float8_e4m3fn'; octavo reads float64, float32, bfloat16, float16$"),
        ({"vocab_size": 24}, r"weight has the shape 23 x 16 where the config asks for 24 x 16$"),
        ({"vocab_size": 10**30}, r"no weight is as large as the vocab_size of 10{30} in the config$"),
        ({"vocab_size": None}, r"vocab_size is None; give a whole number$"),
        ({"num_hidden_layers": 10**9}, r"the weights have 2 layers where the config asks for 1000000000$"),
        (
            {"max_position_embeddings": 4_000_000},
            r"a context of 4000000 takes \d+ numbers of rotary tables, for a model of \d+ weights; "
            r"no model so small sees so far$",
        ),
        ({"head_dim": 10**9}, r"no weight is as large as the head_width of 1000000000 in the config$"),
        (
            {"max_position_embeddings": 10**9},
            r"context 1000000000 is longer than 4194304 tokens; choose a shorter one$",
        ),
        ({"vocab_size": -1}, r"vocab_size is -1; give a number above zero$"),
    ],
)
def test_a_config_that_does_not_fit_its_weights_is_refused(one: Path, changes: dict[str, Any], message: str) -> None:
    edit(one / "config.json", **changes)
    with pytest.raises(RunError, match=message):
        load_model(one)


def test_weights_that_are_cut_off_are_refused(one: Path) -> None:
    whole = (one / "model.safetensors").read_bytes()
    for broken in (whole[:-4], whole[:100], b"", struct.pack("<Q", 10**15) + whole[8:]):
        (one / "model.safetensors").write_bytes(broken)
        with pytest.raises(DamagedError, match=r"model.safetensors cannot be read: .*; copy it again$"):
            load_model(one)


def test_tables_of_older_versions_may_be_of_any_type(
    tiny: dict[str, ModelConfig], random_model: Models, run: Path
) -> None:
    model = random_model(tiny["gpt2"], dtype=torch.float32)
    save_model(model, run, end_of_text=0)
    path = run / "model.safetensors"
    tables = {"attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8), "attn.masked_bias": torch.tensor(-1e4)}
    for prefix in ("transformer.h.0.", "h.0."):  # saved with the output, and without
        weights = {
            name.removeprefix("transformer." * (prefix[0] == "h")): weight.clone()
            for name, weight in load_file(path).items()
        }
        save_file({**weights, **{prefix + name: table for name, table in tables.items()}}, path, {"format": "pt"})
        back = load_model(run).state_dict()
        assert all(torch.equal(weight, back[name]) for name, weight in model.state_dict().items())


def test_weights_that_do_not_fit_are_refused_by_name(one: Path) -> None:
    path = one / "model.safetensors"
    weights = {name: weight.clone() for name, weight in load_file(path).items()}
    name, weight = next(iter(weights.items()))
    for changed, message in (
        ({**weights, "extra.weight": weight.clone()}, r"run: extra.weight is not expected among the weights of "),
        ({other: weights[other] for other in weights if other != name}, rf"run: {name} is missing from the weights$"),
        ({**weights, name: weight[1:].clone()}, rf"run: {name} has the shape "),
        ({**weights, name: weight.to(torch.int8)}, rf"run: {name} is stored as I8; octavo reads F64, F32, BF16, F16$"),
    ):
        save_file(changed, path)
        with pytest.raises(RunError, match=message):
            load_model(one)


@pytest.fixture
def sharded(one: Path) -> Path:
    weights = load_file(one / "model.safetensors")
    (one / "model.safetensors").unlink()
    names = list(weights)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: weights[name] for name in part}, one / file)
    where = {name: file for file, part in halves.items() for name in part}
    (one / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return one


def test_an_index_that_does_not_fit_its_files_is_refused(sharded: Path) -> None:
    index = sharded / "model.safetensors.index.json"
    load_model(sharded)
    where = json.loads(index.read_text())["weight_map"]
    name = next(iter(where))
    edit(index, weight_map={**where, name: "two.safetensors"})
    with pytest.raises(DamagedError, match=rf"do not agree about {name}; copy the whole folder again$"):
        load_model(sharded)
    for elsewhere in ("../two.safetensors", "three.safetensors", "/etc/passwd"):
        edit(index, weight_map={**where, name: elsewhere})
        with pytest.raises(RunError, match=rf"index.json names {elsewhere}, which is no file of this folder$"):
            load_model(sharded)
    for wrong in ([], {name: 3}, None):
        edit(index, weight_map=wrong)
        with pytest.raises(DamagedError, match=r"index.json has no weight_map from names to files; copy the whole"):
            load_model(sharded)


def test_a_name_that_stands_in_two_files_is_refused(sharded: Path) -> None:
    shutil.copy(sharded / "one.safetensors", sharded / "three.safetensors")
    index = sharded / "model.safetensors.index.json"
    where = json.loads(index.read_text())["weight_map"]
    edit(index, weight_map={**where, "extra": "three.safetensors"})
    with pytest.raises(DamagedError, match=r"three.safetensors and model.safetensors.index.json do not agree about"):
        load_model(sharded)


def test_json_is_read_as_one_object(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, {"b": null}]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, {"b": None}]}
    with pytest.raises(DamagedError, match=r"b.json cannot be read: "):
        read_json(tmp_path / "b.json")
