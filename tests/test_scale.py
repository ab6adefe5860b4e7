"""The arithmetic of sizes is that of the model: parameters, operations and bytes, counted where they happen."""

import re
import sys
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from octavo.config import GPT2, GPT2_XL, ModelConfig, RunConfig, TrainConfig
from octavo.imagined import imagine
from octavo.loss import cross_entropy
from octavo.model import GPT, GPTBlock
from octavo.optim import orthogonalise
from octavo.presets import LLAMA_8B, PRESETS, QWEN3_06B, QWEN3_8B
from octavo.probing import Room, step_memory
from octavo.scale import (
    FLOAT,
    HALF,
    LEFT_FREE,
    USED,
    Way,
    activations,
    gathered,
    held,
    kept_in_block,
    most_rows,
    muon_work,
    parameters,
    seconds,
    sent,
    state_of,
    work_per_token,
)

ROOT = Path(__file__).resolve().parent.parent
GB = 10**9
MIDDLE = {
    "gpt2": ModelConfig(vocab_size=96, context=64, layers=2, heads=4, width=64),
    "llama": ModelConfig(dialect="modern", vocab_size=96, context=64, heads=4, kv_heads=2, width=64, qk_norm=False),
    "qwen3": ModelConfig(dialect="modern", vocab_size=96, context=64, layers=3, heads=4, head_width=32, width=64),
}


@pytest.mark.parametrize("config", [*PRESETS.values(), *MIDDLE.values()])
def test_parameters_are_those_of_the_model(config: ModelConfig) -> None:
    assert parameters(config) == sum(weight.numel() for weight in imagine(config).parameters())


def test_parameters_of_every_kind_are_those_of_the_model(config: ModelConfig) -> None:
    assert parameters(config) == sum(weight.numel() for weight in imagine(config).parameters())


@pytest.mark.parametrize("name", MIDDLE)
def test_the_work_of_a_token_is_what_pytorch_counts(name: str) -> None:
    config = MIDDLE[name]
    torch.manual_seed(0)
    model, tokens = GPT(config), torch.zeros(2, config.context, dtype=torch.long)
    for block in model.blocks:
        block.attention.heads.weights.register_forward_hook(lambda _module, _inputs, value: value)  # the plain formula
    with FlopCounterMode(display=False) as counted:
        cross_entropy(model(tokens), tokens).backward()
    # what RMSNorm multiplies on its way back is less than half a hundredth, in so small a model
    expected = tokens.numel() * work_per_token(config).total
    assert expected <= counted.get_total_flops() == pytest.approx(expected, rel=5e-3 if config.gated else 0)


@pytest.mark.parametrize("name", MIDDLE)
def test_a_block_keeps_as_many_numbers_as_pytorch_saves(name: str) -> None:
    config = MIDDLE[name]
    torch.manual_seed(0)
    model = GPT(config)
    weights = {weight.data_ptr() for weight in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    block = model.blocks[0]
    assert isinstance(block, GPTBlock)
    x, rotation = model.enter(torch.zeros(2, 64, dtype=torch.long), torch.arange(64).expand(2, 64))
    rotary = {part.untyped_storage().data_ptr() for part in rotation or ()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        block(x, rotation)
    numbers = sum(size for pointer, size in seen.items() if pointer not in rotary)
    assert numbers / 128 == pytest.approx(kept_in_block(config), rel=0.1)


def test_the_state_counts_what_each_optimizer_holds() -> None:
    adamw, muon = state_of(GPT2_XL, "adamw"), state_of(GPT2_XL, "muon")
    assert adamw.total == 18 * parameters(GPT2_XL)
    assert muon.momenta < 0.6 * adamw.momenta and muon.weights == adamw.weights


def test_in_float32_nothing_is_held_twice_and_what_is_kept_or_gathered_is_twice_as_large() -> None:
    half, single = (state_of(GPT2_XL, "adamw", size) for size in (HALF, FLOAT))
    assert single == replace(half, casts=0) and half == state_of(GPT2_XL, "adamw")
    for recompute in (False, True):
        kept = [activations(GPT2_XL, 2048, recompute=recompute, size=size) for size in (0, HALF, FLOAT)]
        assert kept[2] - kept[0] == 2 * (kept[1] - kept[0]) > 0  # the logits are as they were
    for way in (Way(1), Way(8)):
        assert held(GPT2_XL, "adamw", way) - held(GPT2_XL, "adamw", way, FLOAT) == half.casts
    whole = Way(8, sharded=True, gathered=True)
    assert held(GPT2_XL, "adamw", whole, FLOAT) - held(GPT2_XL, "adamw", whole) == HALF * parameters(GPT2_XL)
    part = Way(8, sharded=True)
    assert held(GPT2_XL, "adamw", part, FLOAT) > held(GPT2_XL, "adamw", part)
    rows = [most_rows(GPT2_XL, part, "adamw", 1024, 80 * GB, False, size) for size in (HALF, FLOAT)]
    assert rows[0] > rows[1] > 0


def test_what_is_sharded_takes_less_of_each_and_comes_to_the_same_state() -> None:
    alone, copies = (held(LLAMA_8B, "adamw", Way(gpus)) for gpus in (1, 8))
    parts = [held(LLAMA_8B, "adamw", Way(gpus, sharded=True)) for gpus in (2, 8, 64)]
    assert alone == copies > parts[0] > parts[1] > parts[2]
    assert alone > 80 * GB > parts[1]
    whole = held(LLAMA_8B, "adamw", Way(64, sharded=True, gathered=True))
    assert parts[2] < gathered(LLAMA_8B) == 6 * parameters(LLAMA_8B) < whole < alone


def test_rows_are_as_many_as_fit_and_more_where_blocks_are_computed_again() -> None:
    way, memory = Way(8, sharded=True), 80 * GB
    for recompute in (False, True):
        rows = most_rows(QWEN3_8B, way, "adamw", 4096, memory, recompute)
        room = (1 - LEFT_FREE) * memory - held(QWEN3_8B, "adamw", way)
        assert activations(QWEN3_8B, rows * 4096, recompute=recompute) <= room
        assert activations(QWEN3_8B, (rows + 1) * 4096, recompute=recompute) > room
    assert most_rows(QWEN3_8B, way, "adamw", 4096, memory, True) > most_rows(
        QWEN3_8B, way, "adamw", 4096, memory, False
    )
    assert most_rows(QWEN3_8B, Way(1), "adamw", 4096, memory, True) == 0


def test_time_is_work_by_the_speed_of_all_and_a_third_more_where_blocks_are_computed_again() -> None:
    one, eight = (seconds(GPT2, Way(gpus), 1e9, 1024, 1e15) for gpus in (1, 8))
    assert one == pytest.approx(8 * eight) == pytest.approx(1e9 * work_per_token(GPT2).total / (1e15 * USED))
    assert seconds(GPT2, Way(1), 1e9, 1024, 1e15, recompute=True) == pytest.approx(one * 4 / 3)


def test_what_is_sent_grows_to_twice_the_weights_whatever_the_number_of_gpus() -> None:
    assert sent(QWEN3_06B, Way(1)) == 0
    assert sent(QWEN3_06B, Way(2)) == 4 * parameters(QWEN3_06B)
    assert sent(QWEN3_06B, Way(512)) < 8 * parameters(QWEN3_06B)
    assert sent(QWEN3_06B, Way(2, sharded=True)) == 4 * parameters(QWEN3_06B)  # for each piece
    assert sent(QWEN3_06B, Way(2, sharded=True, gathered=True)) == 3 * parameters(QWEN3_06B)  # for a whole step


@pytest.fixture
def reckoned(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What makes the tables of the page on scaling."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    return import_module("reckon")


def test_the_page_on_scaling_shows_what_the_arithmetic_gives(reckoned: ModuleType) -> None:
    page = reckoned.PAGE.read_text("utf-8")
    assert reckoned.remade(page) == page
    assert all(f"made by docs/reckon.py: {name} -->\n| " in page for name in reckoned.TABLES)


def test_what_the_page_on_scaling_says_follows_from_its_tables(reckoned: ModuleType) -> None:
    ways = {(size, gpus): reckoned.best(size, gpus) for size in reckoned.MODELS for gpus in reckoned.GPUS}
    assert ways["8B", 1] is None and all(ways["8B", gpus].way.sharded for gpus in (8, 64, 512))
    assert not any(ways["1.5B", gpus].way.sharded for gpus in (1, 8, 64)) and ways["1.5B", 1].rows == 16
    assert ways["1.5B", 512].way.gathered
    assert ways["124M", 512].taken > 0.8 * ways["124M", 64].taken  # hardly anything is gained
    assert all(ways[size, 8].sending < ways[size, 8].computing / 4 for size in reckoned.MODELS)  # NVLink hides it
    largest = max(
        parameters(shape) for shape in PRESETS.values() if most_rows(shape, Way(1), "adamw", 1024, 80e9, True)
    )
    assert largest == parameters(PRESETS["qwen3-1.7b"])
    assert most_rows(PRESETS["qwen3-4b"], Way(1), "muon", 1024, 80e9, True)
    assert not most_rows(PRESETS["qwen3-8b"], Way(1), "muon", 1024, 80e9, True)
    model, *_ = reckoned.shape("8B")
    assert reckoned.muon_work(model) > reckoned.BATCHES["8B"] / 512 * work_per_token(model, 4096).total
    assert not most_rows(model, Way(8, sharded=True), "muon", 131072, 80e9, True)
    assert 0.8 < work_per_token(model).looking / work_per_token(model).total < 0.85
    large = replace(model, layers=80, heads=64, width=8192, feed_forward=28672)
    assert 69e9 < parameters(large) < 71e9 and activations(large, 4096, recompute=False) > 80e9


def test_muons_matrices_are_dealt_out_as_they_are(reckoned: ModuleType) -> None:
    for model in MIDDLE.values():
        shapes = Counter(tuple(weight.shape) for weight in imagine(model).blocks.parameters() if weight.dim() == 2)
        assert reckoned.matrices(model) == shapes
        assert reckoned.muon_shared(model, 1) == muon_work(model)
    model, *_ = reckoned.shape("8B")
    assert reckoned.matrices(model).total() == 224 and len(reckoned.matrices(model)) == 4
    assert reckoned.muon_shared(model, 32) > reckoned.muon_shared(model, 64) == reckoned.muon_shared(model, 512)


def test_muons_work_is_what_pytorch_counts(reckoned: ModuleType) -> None:
    config = MIDDLE["qwen3"]
    with FlopCounterMode(display=False) as counted:
        for weight in imagine(config).blocks.parameters():
            if weight.dim() == 2:
                orthogonalise(weight[None].detach(), torch.float32)
    assert counted.get_total_flops() == reckoned.muon_work(config)


@pytest.mark.parametrize(("name", "model", "batch"), [("124M", GPT2, 16), ("1.5B", GPT2_XL, 8)])
def test_a_gpu_took_about_as_much_memory_as_is_told(name: str, model: ModelConfig, batch: int) -> None:
    page = (ROOT / "docs/gpu.md").read_text("utf-8")
    row = re.search(rf"\| {name}, {batch} × 1,024 \| octavo \|.*\| ([\d.]+) GiB \|", page)
    train = TrainConfig(steps=1, batch=batch, optimizer="adamw", dtype="bfloat16", device="cuda")
    told = step_memory(RunConfig(model=model, train=train))
    assert row and 1 < told / (float(row[1]) * 2**30) < 1.2
    tight = step_memory(RunConfig(model=model, train=replace(train, recompute=True)), Room(None, 8, in_parts=True))
    assert tight < 0.4 * told
