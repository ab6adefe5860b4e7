"""Blocks that are computed again, made once, or compiled, come to what they always came to."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo import making
from octavo.accelerated import compiles, quick_products
from octavo.cache import GrowingCache
from octavo.config import ModelConfig, RunConfig, TrainConfig
from octavo.imagined import Undrawn
from octavo.making import LARGE, make_model, prepare_to_learn
from octavo.model import GPT
from octavo.objective import Objective
from octavo.optim import make_optimizers
from octavo.plain import as_dict
from octavo.recomputing import recompute_blocks
from octavo.standing import mismatch
from octavo.step import evaluate, training_step

Models = Callable[..., GPT]
TRAIN = TrainConfig(steps=3, batch=4, optimizer="adamw", lr=0.01)


def batch_of(config: ModelConfig) -> tuple[Tensor, Tensor]:
    text = torch.randint(config.vocab_size, (4, config.context + 1), generator=torch.Generator().manual_seed(0))
    return text[:, :-1], text[:, 1:]


def gradients(model: GPT, dtype: torch.dtype) -> dict[str, Tensor]:
    torch.manual_seed(7)
    Objective(model, dtype)(*batch_of(model.config)).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradients_are_the_same_to_the_bit_where_blocks_are_computed_again(
    config: ModelConfig, dtype: torch.dtype, dropout: float
) -> None:
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        model = GPT(config, dropout=dropout).to(torch.float64 if dtype == torch.float64 else torch.float32)
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(0.0, 0.2)
        if again:
            recompute_blocks(model)
        found.append(gradients(model, dtype))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert all(gradient.abs().max() > 0 for name, gradient in found[0].items() if "key.bias" not in name)


def test_a_block_keeps_nothing_but_what_came_into_it(random_model: Models) -> None:
    config = ModelConfig(dialect="modern", vocab_size=23, context=64, layers=6, heads=2, width=32)

    def kept(model: GPT) -> int:
        size = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal size
            size += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            Objective(model, torch.float64)(*batch_of(config))
        return size

    plain, again = random_model(config).train(), random_model(config).train()
    recompute_blocks(again)
    assert kept(again) < 0.2 * kept(plain)


def test_what_is_only_read_is_not_computed_again_and_no_name_changes(config: ModelConfig, random_model: Models) -> None:
    plain, again = random_model(config), random_model(config)
    recompute_blocks(again)
    assert list(again.state_dict()) == list(plain.state_dict())
    tokens = batch_of(config)[0]
    with torch.inference_mode():
        assert torch.equal(plain(tokens), again(tokens))
        caches = [GrowingCache(config, batch=4, capacity=1, dtype=torch.float64) for _ in range(2)]
        assert torch.equal(plain(tokens[:, :3], caches[0]), again(tokens[:, :3], caches[1]))
        assert torch.equal(plain(tokens[:, 3:5], caches[0]), again(tokens[:, 3:5], caches[1]))


def test_a_training_that_recomputes_comes_to_the_same_weights(config: ModelConfig) -> None:
    models = []
    for recompute in (False, True):
        run = RunConfig(model=config, train=replace(TRAIN, dropout=0.1, recompute=recompute))
        model = prepare_to_learn(make_model(run), run)
        learners = make_optimizers(model, run.train)
        for step in range(3):
            training_step(model, learners, [batch_of(config)], rate=1.0, clip=1.0, seeds=[step])
        models.append(model)
    assert all(torch.equal(*pair) for pair in zip(*(model.parameters() for model in models), strict=True))


# made once


def test_a_large_model_is_drawn_once_and_a_small_one_as_ever(
    config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunConfig(model=config, train=TRAIN)
    small = make_model(run)
    monkeypatch.setattr(making, "LARGE", 1)
    drawn: list[int] = []

    class Counted(Undrawn):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__name__", "") in ("normal_", "uniform_") and args[0].device.type != "meta":
                drawn.append(args[0].numel())
            return func(*args, **(kwargs or {}))

    with Counted():
        large = make_model(run)
    assert sum(drawn) <= sum(weight.numel() for weight in large.parameters())
    assert list(large.state_dict()) == list(small.state_dict())
    assert (large.unembed.weight is large.embed.weight) == config.tied
    for (name, one), other in zip(small.named_parameters(), large.parameters(), strict=True):
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.5, abs=1e-6), name
    tokens = batch_of(config)[0]
    assert torch.isfinite(large(tokens)).all()
    assert all(torch.equal(*pair) for pair in zip(large.parameters(), make_model(run).parameters(), strict=True))


def test_a_large_model_has_the_dropout_that_was_asked_for(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    for large in (1, LARGE):
        monkeypatch.setattr(making, "LARGE", large)
        assert make_model(RunConfig(model=config, train=replace(TRAIN, dropout=0.25))).dropout.p == 0.25


# compiled


COMPILED = """
import torch
from octavo.accelerated import compile_blocks
from octavo.config import ModelConfig, RunConfig, TrainConfig
from octavo.making import recompute_from_now_on
from octavo.model import GPT
from octavo.objective import Objective
from octavo.recomputing import recompute_blocks

for recompute in (False, True):
    config = ModelConfig(dialect="modern", vocab_size=23, context=16, layers=2, heads=2, width=16)
    text = torch.randint(23, (2, 17), generator=torch.Generator().manual_seed(0))
    found = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = GPT(config).double()
        for weight in model.parameters():
            torch.nn.init.normal_(weight, 0.0, 0.2)
        if compiled and recompute:
            recompute_blocks(model)
        if compiled:
            compile_blocks(model)
        loss = Objective(model, torch.float64)(text[:, :-1], text[:, 1:])
        loss.backward()
        found.append([loss.detach(), *(weight.grad.clone() for weight in model.parameters())])
        assert list(model.state_dict()) == list(GPT(config).state_dict())
        Objective(model.float(), torch.bfloat16)(text[:, :-1], text[:, 1:]).backward()
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)

model = GPT(config).double()
compile_blocks(model)
found = []
for turned_on in (False, True):
    if turned_on:  # when it has learned already
        recompute_from_now_on(model, RunConfig(model=config, train=TrainConfig(steps=1, batch=2, compile=True)))
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: sizes.append(kept.nbytes) or kept, lambda kept: kept):
        loss = Objective(model, torch.float64)(text[:, :-1], text[:, 1:])
    found.append((sum(sizes), torch.autograd.grad(loss, list(model.parameters()))))
assert found[1][0] < 0.7 * found[0][0], [size for size, _ in found]
for one, two in zip(*(gradients for _, gradients in found), strict=True):
    torch.testing.assert_close(one, two, rtol=0, atol=1e-10)
print("same")
"""


def test_blocks_are_compiled_for_learning_alone(
    config: ModelConfig, random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def pretend(function: Callable[..., Tensor], **how: Any) -> Callable[..., Tensor]:
        def call(*given: Any) -> Tensor:
            calls.append("compiled")
            return function(*given)

        return call

    monkeypatch.setattr(torch, "compile", pretend)
    run = RunConfig(model=config, train=replace(TRAIN, compile=True))
    model = prepare_to_learn(make_model(run), run)
    training_step(model, [], [batch_of(config)], rate=1.0, clip=1.0)
    assert len(calls) == config.layers
    evaluate(model, [batch_of(config)])
    assert len(calls) == config.layers
    assert all(name.startswith(("embed", "positions", "blocks.", "norm", "unembed")) for name in model.state_dict())


def test_a_gpu_is_used_as_it_is_made_for_and_a_cpu_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.accelerated.has_triton", lambda: True)
    assert compiles("cuda") and not compiles("cpu") and not compiles("mps")
    before = torch.get_float32_matmul_precision()
    try:
        quick_products(torch.device("cpu"))
        assert torch.get_float32_matmul_precision() == before
        quick_products(torch.device("cuda"))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("c++") is None, reason="PyTorch compiles for a CPU by way of C++")
def test_compiled_blocks_come_to_the_same_in_float64() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0 and done.stdout.strip() == "same", done.stderr


def test_a_checkpoint_from_before_a_setting_was_there_goes_on_where_that_is_off() -> None:
    run = RunConfig(model=ModelConfig(), train=TRAIN)
    facts = {"text_sha256": "x", "config": as_dict(run)}
    del facts["config"]["train"]["recompute"]
    assert mismatch(facts, run, "x") is None
    again = replace(run, train=replace(TRAIN, recompute=True))
    assert mismatch(facts, again, "x") == "train.recompute is True and was None"


def test_where_a_training_computes_is_not_what_it_learns() -> None:
    run = RunConfig(model=ModelConfig(), train=TRAIN)
    there = replace(run, train=replace(TRAIN, device="cuda", compile=True))
    assert mismatch({"text_sha256": "x", "config": as_dict(there)}, run, "x") is None
    eager = replace(run, train=replace(TRAIN, device="cuda"))
    assert mismatch({"text_sha256": "x", "config": as_dict(there)}, eager, "x") == "train.compile is False and was True"


def test_weights_cast_all_at_once_come_to_the_same_bits(config: ModelConfig, random_model: Models) -> None:
    found = []
    for together in (False, True):
        model = random_model(config, dtype=torch.float32)
        objective = Objective(model, torch.bfloat16)
        objective.together = together
        loss = objective(*batch_of(config))
        found.append([loss, *torch.autograd.grad(loss, list(model.parameters()))])
    for one, other in zip(*found, strict=True):
        assert one.dtype == torch.float32 and torch.equal(one, other)
