"""Dropout hides the part that it was asked to, makes up for it, and draws from torch's generator alone."""

import pytest
import torch

from octavo.dropout import Dropout

MANY = 200_001  # not a multiple of four: the last word is used in part


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_it_hides_its_part_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    y = Dropout(p)(torch.ones(MANY, dtype=torch.float64))
    spread = (p * (1 - p) / MANY) ** 0.5
    assert abs((y == 0).double().mean().item() - p) < 5 * spread
    assert y.unique().numel() == 2
    assert y.max().item() == pytest.approx(1 / (1 - p), rel=1e-3)


def test_neighbours_are_hidden_independently() -> None:
    torch.manual_seed(1)
    hidden = (Dropout(0.5)(torch.ones(MANY)) == 0).double() - 0.5
    for distance in range(1, 9):
        assert abs((hidden[:-distance] * hidden[distance:]).mean().item()) < 0.005


def test_equal_seeds_hide_the_same_and_the_gradient_with_it() -> None:
    x = torch.ones(3, 5, 7, requires_grad=True)
    torch.manual_seed(2)
    first = Dropout(0.3)(x)
    torch.manual_seed(2)
    assert torch.equal(first, Dropout(0.3)(x))
    first.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, first.detach())


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_everything(p: float) -> None:
    assert Dropout(p)(torch.ones(5)).tolist() == [1 - p] * 5


def test_it_hides_nothing_when_it_does_not_learn() -> None:
    assert Dropout(0.5).eval()(torch.ones(5)).tolist() == [1.0] * 5


def test_within_torch_func_each_row_hides_its_own() -> None:
    torch.manual_seed(4)
    y = torch.func.vmap(Dropout(0.5), randomness="different")(torch.ones(2, 1000))
    assert set(y.unique().tolist()) == {0.0, 2.0} and not torch.equal(y[0], y[1])
