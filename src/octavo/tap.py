"""A named place in the model where somebody may listen, or speak."""

from torch import Tensor, nn


class Tap(nn.Module):
    """Gives back what it gets. A forward hook on it hears the value; a hook that returns something replaces it.

    >>> import torch
    >>> tap, heard = Tap(), []
    >>> handle = tap.register_forward_hook(lambda module, inputs, value: heard.append(value))
    >>> tap(torch.tensor([1.0, 2.0])) is heard[0]
    True
    >>> handle.remove(); tap.heard
    False
    """

    @property
    def heard(self) -> bool:
        """Whether anybody listens, on the way there or back: the fused kernels are left only then."""
        return any((self._forward_pre_hooks, self._forward_hooks, self._backward_pre_hooks, self._backward_hooks))

    def forward(self, value: Tensor) -> Tensor:
        return value
