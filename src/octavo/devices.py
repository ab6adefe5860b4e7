"""Where a model computes: the device that was asked for, or the one that suits it."""

import torch

from octavo.errors import ConfigError
from octavo.memory import free_memory
from octavo.model import GPT
from octavo.scale import parameters

LARGE = 2**26  # parameters: a smaller model writes as soon on a CPU, where a step is not waited for
QUICK = frozenset({"cuda"})  # the devices on which writing was measured


def choose_device(asked: str) -> str:
    """The device asked for, or the fastest there is. Raises `ConfigError` where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(name for name, found in there.items() if found)
    if not there.get(asked):
        raise ConfigError(f"device is {asked}, which PyTorch does not find here; give cpu, or leave it out")
    return asked


def placed(model: GPT, asked: str = "auto") -> GPT:
    """A model where it is to write: on the device asked for; of itself, a large one on a GPU that its weights fit into.

    Raises `ConfigError` where the device is not there, or has too little memory.
    """
    device = choose_device(asked)
    if asked == "auto" and (parameters(model.config) < LARGE or device not in QUICK):
        return model
    try:
        return model.to(device)
    except torch.OutOfMemoryError:
        if asked != "auto":
            raise ConfigError(f"{device} has not enough memory for the model's weights; give --device cpu") from None
        return model.to("cpu")  # what had gone there already comes back


def free_on(device: torch.device) -> int | None:
    """Bytes that are free where a model computes; `None` where nothing tells."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
