"""RMSNorm's written-out backward pass is PyTorch's own, in fewer steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from octavo.norm import RMSNorm, WrittenOut


def numbers(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, generator=torch.manual_seed(len(shape)), dtype=torch.float64).to(dtype)


def learned(norm: RMSNorm, x: Tensor, dy: Tensor, own: bool) -> list[Tensor]:
    """The output, the gradient of the input and that of the weight."""
    x, weight = x.detach().requires_grad_(), norm.weight.detach().requires_grad_()
    y = torch.func.functional_call(norm, {"weight": weight}, x) if own else F.rms_norm(x, (8,), weight, norm.eps)
    y.backward(dy)
    assert x.grad is not None and weight.grad is not None
    return [y.detach(), x.grad, weight.grad]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("turned", [False, True], ids=["straight", "turned"])
def test_it_learns_as_the_one_of_pytorch_does(dtype: torch.dtype, bound: float, turned: bool) -> None:
    norm = RMSNorm(8, eps=1e-6)
    with torch.no_grad():
        norm.weight.copy_(numbers(8, dtype=torch.float64))
    norm, x, dy = norm.to(dtype), numbers(3, 5, 2, 8, dtype=dtype), numbers(3, 5, 2, 8, dtype=dtype).flip(0)
    if turned:  # as the gradient of heads arrives: the same numbers, laid out in another order
        dy = dy.transpose(1, 2).contiguous().transpose(1, 2)
    for ours, theirs in zip(learned(norm, x, dy, True), learned(norm, x, dy, False), strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert (ours - theirs).abs().max() <= bound * theirs.abs().max()


def test_its_gradient_is_that_of_the_formula() -> None:
    norm = RMSNorm(6, eps=1e-3).double()
    x = numbers(4, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: torch.func.functional_call(norm, {"weight": w}, x), (x, norm.weight))


def test_it_is_differentiated_twice_as_the_one_of_pytorch_is() -> None:
    norm = RMSNorm(6, eps=1e-3).double()
    x, weight = numbers(4, 6, dtype=torch.float64).requires_grad_(), numbers(6, dtype=torch.float64).requires_grad_()
    theirs = torch.autograd.functional.hessian(lambda x: F.rms_norm(x, (6,), norm.weight, 1e-3).pow(3).sum(), x)
    ours = torch.autograd.functional.hessian(lambda x: norm(x).pow(3).sum(), x)
    assert theirs.abs().max() > 0.1 and torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    for inputs in ((x, weight), (x.detach(), weight), (x, weight.detach())):
        assert torch.autograd.gradgradcheck(lambda x, weight: WrittenOut.apply(x, weight, 1e-3), inputs)


def test_a_small_vector_has_a_finite_gradient_in_float16_and_in_mixed_types() -> None:
    norm, x = RMSNorm(8, eps=1e-6), numbers(3, 8, dtype=torch.float64) / 100
    for kind, given in ((torch.float16, torch.float16), (torch.float32, torch.bfloat16)):
        norm.to(kind)
        value, exact = x.to(given).requires_grad_(), x.to(given).double().requires_grad_()
        norm(value).float().sum().backward()
        F.rms_norm(exact, (8,), eps=1e-6).sum().backward()
        assert value.grad is not None and exact.grad is not None
        torch.testing.assert_close(value.grad.double(), exact.grad, rtol=0, atol=0.02 * float(exact.grad.abs().max()))
        assert norm.weight.grad is not None and norm.weight.grad.dtype == kind
        norm.weight.grad = None
