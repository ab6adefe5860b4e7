"""What a model says, reckoned in float32 with no more of it in memory than what is being multiplied."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from octavo.config import ModelConfig
from octavo.imagined import imagine
from octavo.model import GPT

PIECE = 1 << 20  # numbers of a matrix that are made float32 at a time
SMALL = ("positions.weight",)  # beside norms and biases: those are held
Rounding = Callable[[str, Tensor], Tensor]


def as_it_is(name: str, weight: Tensor) -> Tensor:
    """The numbers of a weight, or of some of its rows, in float32."""
    return weight.float()


@contextmanager
def reckoning(config: ModelConfig, weights: Mapping[str, Tensor], rounded: Rounding = as_it_is) -> Iterator[GPT]:
    """A model in float32 that takes its matrices from `weights` when they multiply, rounded a few rows at a time.

    Where these are a dictionary, all are held as they are stored; where each is read when it is asked for, none is.
    """
    model = imagine(config)
    shapes = {name: weight.dim() for name, weight in model.named_parameters()}
    small = {name: rounded(name, weights[name]) for name, dim in shapes.items() if dim == 1 or name in SMALL}
    model.load_state_dict(small, strict=False, assign=True)
    if model.rotary is not None:
        model.rotary.to_empty(device="cpu")  # which fills them
    with torch.inference_mode(), _Reckoned(model, weights, rounded):
        yield model.eval()


class _Reckoned(TorchFunctionMode):
    """Products with weights that are not there, and rows of them, are made with those that are."""

    def __init__(self, model: GPT, weights: Mapping[str, Tensor], rounded: Rounding) -> None:
        super().__init__()
        self.names = {id(weight): name for name, weight in model.named_parameters() if weight.is_meta}
        self.weights, self.rounded = weights, rounded

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = self.names.get(id(args[1])) if len(args) > 1 else None
        if name is not None and func is F.linear:
            return self.product(name, args[0], args[2] if len(args) > 2 else None)
        if name is not None and func is F.embedding:
            return self.rounded(name, F.embedding(args[0], self.weights[name]))
        return func(*args, **(kwargs or {}))

    def product(self, name: str, x: Tensor, bias: Tensor | None) -> Tensor:
        """x Wᵀ + b."""
        weight = self.weights[name]
        step = max(1, PIECE // weight.size(1))
        y = x.new_empty(*x.shape[:-1], weight.size(0))
        for place, rows in zip(y.split(step, -1), weight.split(step), strict=True):
            # each is let go before the next is made, or the heap would have a hole for every one
            place.copy_(F.linear(x, self.rounded(name, rows)))
        return y if bias is None else y.add_(bias)
