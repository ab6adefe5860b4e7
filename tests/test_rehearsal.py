"""A piece of a batch is tried before several processes begin: it takes what a step takes, and leaves nothing."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from octavo import rehearsal
from octavo.config import ModelConfig, RunConfig, TrainConfig
from octavo.making import make_model, prepare_to_learn
from octavo.objective import Objective
from octavo.optim import make_optimizers, yet_to_take
from octavo.parallel import Spread
from octavo.rehearsal import fits, stand_in
from octavo.step import training_step

CPU = torch.device("cpu")


def config_of(dialect: Any = "modern", **train: Any) -> RunConfig:
    model = ModelConfig(dialect=dialect, vocab_size=23, context=16, layers=5, heads=2, width=16)
    return RunConfig(model=model, train=TrainConfig(**{"steps": 3, "batch": 4, "dropout": 0.1, **train}))


def kept(objective: Objective) -> int:
    """The bytes that are kept for the way back, beside the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in objective.parameters()}
    found: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.zeros((3, 16), dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = objective(tokens, tokens)
    assert loss.requires_grad
    return sum(found.values())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dialect", ["modern", "gpt2"])
def test_what_stands_in_for_a_model_in_parts_keeps_what_the_model_keeps(dialect: str, recompute: bool) -> None:
    config = config_of(dialect, recompute=recompute)
    whole = Objective(prepare_to_learn(make_model(config), config))
    standing = stand_in(config, None, CPU)
    assert kept(standing) == kept(whole)
    weights = [sum(weight.numel() for weight in one.parameters()) for one in (whole, standing)]
    block = sum(weight.numel() for weight in whole.model.blocks[0].parameters())
    assert weights[0] - weights[1] == 2 * block  # of five blocks, three


def test_what_stands_in_is_in_half_precision_where_the_parts_are() -> None:
    standing = stand_in(config_of(dtype="bfloat16"), 0, CPU)
    assert {weight.dtype for weight in standing.parameters()} == {torch.bfloat16}
    assert standing.boundary == 0


@pytest.mark.parametrize("way", [None, "fsdp"])
def test_a_rehearsal_leaves_nothing(way: Any) -> None:
    config = config_of()
    spread = Spread(make_model(config))
    spread.way = way
    optimizers = make_optimizers(spread.model, config.train)
    torch.manual_seed(5)
    weights, state = [weight.clone() for weight in spread.model.parameters()], torch.get_rng_state()
    assert fits(spread, config, optimizers, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*pair) for pair in zip(weights, spread.model.parameters(), strict=True))
    assert all(weight.grad is None for weight in spread.model.parameters())
    assert not any(optimizer.state for optimizer in optimizers)


def test_a_rehearsal_reads_as_many_rows_as_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(objective: Objective, tokens: Tensor) -> None:
        if tokens.size(0) > 2:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(rehearsal, "_learn", small)
    config = config_of()
    spread = Spread(make_model(config))
    assert [fits(spread, config, [], rows) for rows in (1, 2, 3)] == [True, True, False]
    for error, said in (("CUDA error: CUBLAS_STATUS_ALLOC_FAILED", False), ("something else", None)):
        monkeypatch.setattr(rehearsal, "_learn", Mock(side_effect=RuntimeError(error)))
        with nullcontext() if said is False else pytest.raises(RuntimeError, match=error):
            assert fits(spread, config, [], 1) is said


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_what_optimizers_will_take_is_known_before(optimizer: Any, random_model: Callable[..., Any]) -> None:
    model = random_model(config_of().model)
    optimizers = make_optimizers(model, config_of(optimizer=optimizer).train)
    expected = yet_to_take(optimizers)
    tokens = torch.zeros((1, 4), dtype=torch.long)
    training_step(model, optimizers, [(tokens, tokens)], rate=1.0, clip=1.0, dtype=torch.float64)
    values = [value for one in optimizers for found in one.state.values() for value in found.values()]
    assert expected == sum(value.nbytes for value in values if value.dim())
    assert yet_to_take(optimizers) == 0
