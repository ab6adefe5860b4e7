"""What decides the last bits of a number: where it differs, the same training comes to other bits."""

from collections.abc import Mapping
from typing import Any

import torch

from octavo.optim import has_bfloat16_units


def numerics(device: torch.device, threads: int) -> dict[str, Any]:
    """The versions, the threads that there are and the processor that compute here."""
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": threads,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "bfloat16 units": has_bfloat16_units(),
        "device": device.type,
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return facts


ALONE = {"processes": 1, "way": "alone"}  # nothing is said of a process that has the model for itself


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What is not as it was, in words; nothing where all is.

    >>> difference({"torch": "2.12.0", "threads": 2}, {"torch": "2.13.0", "threads": 2})
    'torch was 2.12.0 and is 2.13.0'
    """
    before, here = {**ALONE, **then}, {**ALONE, **now}
    changed = [name for name in sorted({*before, *here}) if before.get(name) != here.get(name)]
    return "; ".join(f"{name} was {before.get(name)} and is {here.get(name)}" for name in changed) or None
