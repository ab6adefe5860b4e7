"""Models without numbers: to be counted, or to be filled with weights that are on the disk already."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.layouts.names import Names, split_name
from octavo.model import GPT

State = Mapping[str, Tensor]
TABLES = 8_000_000  # numbers that the rotary tables of the smallest model may have: 32 MB


def imagine(config: ModelConfig, *, dropout: float = 0.0) -> GPT:
    """A model of this shape whose weights take no memory.

    >>> imagine(ModelConfig(vocab_size=9, context=8, layers=1, heads=1, width=4)).embed.weight.device.type
    'meta'
    """
    with torch.device("meta"), Undrawn():
        return GPT(config, dropout=dropout)


def embody(model: GPT, weights: State) -> GPT:
    """Give a model that was imagined its weights, which are its own from then on."""
    tied = model.config.tied
    model.load_state_dict(weights, strict=not tied, assign=True)
    if tied:
        model.unembed.weight = model.embed.weight
    if model.rotary is not None:
        model.rotary.to_empty(device=model.embed.weight.device)  # which fills them
    return model


def check_fit(
    shapes: Mapping[str, tuple[int, ...]], config: ModelConfig, layout: Names, written: Callable[[State], State]
) -> None:
    """Raise `ConfigError` unless weights of these names and shapes are what a model of this config needs.

    `written` is how the layout names a model's weights. What the config asks for is held against the weights before
    anything as large as it says is made.
    """
    layers = len({split_name(name)[1] for name in shapes} - {""})
    if layers != config.layers:
        raise ConfigError(f"the weights have {layers} layers where the config asks for {config.layers}")
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    for name in ("vocab_size", "width", "heads", "head_width", "feed_forward"):
        if getattr(config, name) > largest:
            raise ConfigError(f"no weight is as large as the {name} of {getattr(config, name)} in the config")
    numbers, tables = sum(map(prod, shapes.values())), 2 * config.context * config.head_width
    if config.rotary and tables > max(TABLES, numbers):
        raise ConfigError(
            f"a context of {config.context} takes {tables} numbers of rotary tables, for a model of {numbers} weights; "
            "no model so small sees so far"
        )
    layout.check(shapes, shapes_of(written(imagine(config).state_dict())))


def shapes_of(state: State) -> dict[str, tuple[int, ...]]:
    """The shape of each weight."""
    return {name: tuple(weight.shape) for name, weight in state.items()}


class Undrawn(TorchFunctionMode):
    """While a model is made, no weight is drawn: on the meta device that would load torch's compiler, for a second."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else given["tensor"]
        return func(*args, **given)
