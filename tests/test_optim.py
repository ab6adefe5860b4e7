"""Muon is its mathematics, and every weight of a model is learned by exactly one optimizer."""

import pytest
import torch
from torch import Tensor, nn

from octavo.config import ModelConfig, TrainConfig
from octavo.errors import ConfigError
from octavo.model import GPT
from octavo.optim import Muon, make_optimizers, newton_schulz_dtype, orthogonalise

SHAPES = [(8, 8), (4, 12), (12, 4)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quintic(values: Tensor) -> Tensor:
    """What five Newton-Schulz steps make of singular values."""
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize("shape", SHAPES)
def test_newton_schulz_changes_the_singular_values_alone(shape: tuple[int, int]) -> None:
    matrices = drawn(3, *shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    scaled = values / matrices.norm(dim=(1, 2))[:, None]
    expected = left @ torch.diag_embed(quintic(scaled)) @ right
    torch.testing.assert_close(orthogonalise(matrices, torch.float64), expected, rtol=0, atol=1e-6)  # of the 1e-7 added


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_newton_schulz_brings_all_singular_values_near_one(dtype: torch.dtype) -> None:
    matrices = drawn(4, 16, 24).float() * 1e-4
    result = orthogonalise(matrices, dtype)
    assert result.dtype == torch.float32
    assert (torch.linalg.svdvals(result) - 1).abs().max() < 0.4


def test_a_zero_gradient_is_left_zero() -> None:
    assert not orthogonalise(torch.zeros(1, 4, 8), torch.float32).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_takes_the_step_that_its_formula_says(shape: tuple[int, int]) -> None:
    weight = nn.Parameter(drawn(*shape))
    expected, momentum = weight.detach().clone(), torch.zeros(shape, dtype=torch.float64)
    optimizer = Muon([weight], lr=0.1, weight_decay=0.01)
    for step in range(3):
        gradient = drawn(*shape, seed=step + 1)
        weight.grad = gradient.clone()
        optimizer.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        ahead = 0.05 * gradient + 0.95 * momentum
        update = orthogonalise(ahead[None], torch.float64)[0]
        expected = expected * (1 - 0.1 * 0.01) - 0.1 * max(1, shape[0] / shape[1]) ** 0.5 * update
        torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(16, 16), (16, 48), (48, 16)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 1e-5), (torch.float32, 0.02)])
def test_muon_is_that_of_torch_but_for_the_rounding_of_bfloat16(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], dtype: torch.dtype, bound: float
) -> None:
    monkeypatch.setattr("octavo.optim.newton_schulz_dtype", lambda weight: dtype)
    ours, theirs = (nn.Parameter(drawn(*shape).float()) for _ in range(2))
    start = ours.detach().clone()
    optimizers = [
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95),
    ]
    for step in range(5):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = drawn(*shape, seed=step + 1).float()
            optimizer.step()
    away = (ours - theirs).norm() / (theirs - start).norm()
    assert away < bound  # theirs multiplies in bfloat16, whose numbers are 0.4 % apart


def test_matrices_of_one_shape_go_together_as_each_alone() -> None:
    together = [nn.Parameter(drawn(4, 8, seed=seed)) for seed in range(3)]
    alone = [nn.Parameter(weight.detach().clone()) for weight in together]
    optimizers = [Muon(together, lr=0.1, weight_decay=0.0), *(Muon([w], lr=0.1, weight_decay=0.0) for w in alone)]
    for index, weight in enumerate((*together, *alone)):
        weight.grad = drawn(4, 8, seed=10 + index % 3)
    for optimizer in optimizers:
        optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_weights_without_a_gradient_stay_as_they_are() -> None:
    weight = nn.Parameter(drawn(4, 4))
    before = weight.detach().clone()
    Muon([weight], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(weight, before)


def test_muon_asks_a_closure_and_is_for_matrices_alone() -> None:
    weight = nn.Parameter(drawn(4, 4))
    before, optimizer = weight.detach().clone(), Muon([weight], lr=0.1, weight_decay=0.0)

    def loss() -> float:
        optimizer.zero_grad()
        value = weight.square().sum()
        value.backward()
        return value.item()

    assert optimizer.step(loss) == before.square().sum().item() and not torch.equal(weight, before)
    with pytest.raises(ConfigError, match="Muon learns matrices, and a weight has 1 dimensions; give it to AdamW"):
        Muon([nn.Parameter(torch.ones(4))], lr=0.1, weight_decay=0.0)


def test_newton_schulz_runs_in_float64_for_those_who_train_in_it() -> None:
    assert newton_schulz_dtype(drawn(2, 2)) == torch.float64
    assert newton_schulz_dtype(drawn(2, 2).float()) in (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_weight_is_learned_by_exactly_one_optimizer(config: ModelConfig, optimizer: str) -> None:
    model = GPT(config)
    optimizers = make_optimizers(model, TrainConfig(steps=1, batch=1, optimizer=optimizer))
    groups = [group for one in optimizers for group in one.param_groups]
    learned = [weight for group in groups for weight in group["params"]]
    assert len(learned) == len(set(learned)) and set(learned) == set(model.parameters())
    assert all(group["initial_lr"] == group["lr"] > 0 for group in groups)
    names = {weight: name for name, weight in model.named_parameters()}
    for group in groups:
        for weight in group["params"]:
            assert weight.dim() > 1 or group["weight_decay"] == 0.0, names[weight]


def test_muon_learns_the_matrices_inside_the_blocks_alone(config: ModelConfig) -> None:
    model = GPT(config)
    muon, adamw = make_optimizers(model, TrainConfig(steps=1, batch=1, lr=0.03, weight_decay=0.2))
    matrices = {weight for weight in model.blocks.parameters() if weight.dim() == 2}
    assert isinstance(muon, Muon) and isinstance(adamw, torch.optim.AdamW)
    assert set(muon.param_groups[0]["params"]) == matrices
    assert (muon.param_groups[0]["lr"], muon.param_groups[0]["weight_decay"]) == (0.03, 0.2)
    assert adamw.param_groups[0]["weight_decay"] == 0.2
    counted = make_optimizers(model, TrainConfig(steps=1, batch=1, lr=0.03, pairs=200))  # most of which is to be kept
    assert counted[0].param_groups[0]["lr"] == 0.03
    assert 0 < counted[1].param_groups[0]["lr"] < adamw.param_groups[0]["lr"]
