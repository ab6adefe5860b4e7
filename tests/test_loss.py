"""A loss summed up piece by piece is the loss, and so are its gradients; more logits than a piece has never exist."""

from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from octavo import loss as losses
from octavo import objective
from octavo.config import ModelConfig
from octavo.errors import OctavoError
from octavo.loss import IGNORED, cross_entropy, cross_entropy_in_pieces
from octavo.model import GPT
from octavo.objective import Halves, Objective
from octavo.step import evaluate, training_step

Models = Callable[..., GPT]
ROWS, LENGTH, WIDTH, VOCABULARY = 3, 7, 5, 11


@pytest.fixture(params=[1, VOCABULARY, 50, 10**6], ids=["a row at a time", "a row", "some rows", "all at once"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many logits may exist at once."""
    monkeypatch.setattr(losses, "LOGITS", request.param)
    return int(request.param)


def drawn(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    known = torch.randn(ROWS, LENGTH, WIDTH, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    unembed = torch.randn(VOCABULARY, WIDTH, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=draw)
    targets[1, 2:] = IGNORED
    return known, unembed, targets


def test_the_loss_in_pieces_is_the_loss_and_so_are_its_gradients(at_once: int) -> None:
    known, unembed, targets = drawn()
    whole = cross_entropy(known @ unembed.mT, targets) / 7
    pieces = cross_entropy_in_pieces(known, unembed, targets) / 7
    assert pieces.item() == pytest.approx(whole.item(), rel=1e-12)
    for one, other in zip(*(torch.autograd.grad(x, (known, unembed)) for x in (whole, pieces)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_nothing_to_read_is_no_loss() -> None:
    nothing = torch.zeros(1, 0, dtype=torch.long)
    assert cross_entropy_in_pieces(torch.ones(1, 0, 3), torch.zeros(8, 3), nothing).item() == 0


def test_a_second_derivative_that_is_left_out_is_said_and_not_forgotten() -> None:
    known, unembed = torch.ones(1, 2, 3, requires_grad=True), torch.zeros(8, 3, requires_grad=True)
    loss = cross_entropy_in_pieces(known * known, unembed, torch.tensor([[3, 1]]))
    with pytest.raises(OctavoError, match="this has a first derivative alone; for a second one take the loss of"):
        torch.autograd.grad(loss, known, create_graph=True)
    weight = torch.ones(2, requires_grad=True)
    (half,) = Halves.apply(torch.bfloat16, weight * weight)
    with pytest.raises(OctavoError, match="this has a first derivative alone"):
        torch.autograd.grad(half.sum(), weight, create_graph=True)


def test_a_gradient_is_taken_of_what_learns_and_of_nothing_else(at_once: int) -> None:
    known, unembed, targets = drawn()
    alone = cross_entropy_in_pieces(known.detach(), unembed, targets)
    alone.backward()
    assert unembed.grad is not None and known.grad is None
    with torch.inference_mode():
        assert not cross_entropy_in_pieces(known, unembed, targets).requires_grad


def test_in_bfloat16_the_sum_is_taken_in_float32(at_once: int) -> None:
    known, unembed, targets = drawn(torch.bfloat16)
    whole, pieces = cross_entropy(known @ unembed.mT, targets), cross_entropy_in_pieces(known, unembed, targets)
    assert pieces.dtype == torch.float32 and pieces.item() == pytest.approx(whole.item(), rel=1e-6)
    for one, other in zip(*(torch.autograd.grad(x, (known, unembed)) for x in (whole, pieces)), strict=True):
        assert other.dtype == torch.bfloat16
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


class Logits(TorchFunctionMode):
    """Counts the numbers of all tensors that have a column for every token: `most` is how many existed at a time."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.most, self.made = vocabulary, 0, list[ref[Tensor]]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(one, Tensor) and one.dim() == 2 and one.size(-1) == self.vocabulary:
                self.made.append(ref(one))
        alive = [one for one in (made() for made in self.made) if one is not None]
        memory = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() // one.itemsize for one in alive}
        self.most = max(self.most, sum(memory.values()))
        return found


def test_no_more_logits_exist_at_once_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "LOGITS", 2 * VOCABULARY)
    known, unembed, targets = drawn()
    with Logits(VOCABULARY) as logits:
        cross_entropy_in_pieces(known, unembed, targets)
    beside = 2 * VOCABULARY + unembed.numel()  # their gradient, and what makes them
    assert 2 * VOCABULARY < logits.most <= 2 * VOCABULARY + beside < ROWS * LENGTH * VOCABULARY


def few_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (losses, objective):
        monkeypatch.setattr(module, "LOGITS", 100)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_step_and_an_evaluation_are_the_same_in_pieces(
    config: ModelConfig, random_model: Models, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = torch.float32 if dtype == torch.bfloat16 else dtype
    text = torch.randint(config.vocab_size, (4, 17), generator=torch.Generator().manual_seed(0))
    batch, found, most = (text[:, :-1], text[:, 1:]), [], []
    for _ in range(2):
        model = random_model(config, dtype=kind)
        with Logits(config.vocab_size) as learning:
            result = training_step(model, [], [batch], rate=1.0, clip=1.0, dtype=dtype)
        with Logits(config.vocab_size) as reading:
            read, _ = evaluate(model, [batch], dtype)
        found.append((result.loss, result.grad_norm, read))
        most += [learning.most, reading.most]
        few_logits(monkeypatch)
    assert min(most[:2]) >= 64 * config.vocab_size > 2 * max(most[2:])  # all at once, and then in pieces
    assert found[1] == pytest.approx(found[0], rel=1e-12 if dtype == torch.float64 else 0.01)


def test_few_logits_are_made_all_at_once_as_ever(config: ModelConfig, random_model: Models) -> None:
    model = random_model(config)
    tokens = torch.randint(config.vocab_size, (2, 9), generator=torch.Generator().manual_seed(0))
    assert Objective(model)(tokens, tokens).item() == cross_entropy(model(tokens), tokens).item()
