"""Models without numbers: to be counted, or to be filled with weights that are on the disk already."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from octavo.config import ModelConfig
from octavo.model import GPT


def imagine(config: ModelConfig) -> GPT:
    """A model of this shape whose weights take no memory.

    >>> imagine(ModelConfig(vocab_size=9, context=8, layers=1, heads=1, width=4)).embed.weight.device.type
    'meta'
    """
    with torch.device("meta"), Undrawn():
        return GPT(config)


class Undrawn(TorchFunctionMode):
    """While a model is made, no weight is drawn: on the meta device that would load torch's compiler, for a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else given["tensor"]
        return func(*args, **given)
