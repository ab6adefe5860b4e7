"""`octavo plan`: what a training would be, before it is done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from octavo.cli.asking import Shape, Text, Time, gather, named, read_base
from octavo.config import Asked, RunConfig
from octavo.errors import ConfigError, UserError

if TYPE_CHECKING:
    from octavo.outlook import Hardware

MEMORY = 80.0  # GB of a GPU, where there is none here to be asked


def plan(
    *texts: Annotated[str, Parameter(name="TEXT", help="Files, folders, - for standard input, or a corpus by name.")],
    time: Time | None = None,
    text: Text | None = None,
    shape: Shape | None = None,
    config: Annotated[Path | None, Parameter(help="Repeat the settings of an octavo.toml.")] = None,
    gpus: Annotated[int | None, Parameter(help="Say what each of so many GPUs would hold (2, 4 and 8).")] = None,
    tflops: Annotated[float | None, Parameter(help="The peak of one, in TFLOP a second (measured here).")] = None,
    memory: Annotated[float | None, Parameter(help="The memory of one, in GB (80, or that of the one here).")] = None,
) -> None:
    """Say what octavo train would do with these texts and flags, and train nothing."""
    asked, base = gather(time, text, shape), read_base(config)
    told = {"gpus": gpus, "tflops": tflops, "memory": memory}
    check(**told)
    if not texts:
        if asked.preset is None or base is not None or asked.minutes is not None or asked.start is not None:
            raise UserError(
                "say what to plan: octavo plan TEXT, or without one octavo plan --preset gpt2-xl "
                "(no --config, --from or --minutes)"
            )
        print("\n".join(of_size(asked, hardware(asked, gpus, tflops, memory))))
        return

    from octavo.progress import LABEL, Display, folded
    from octavo.training import opened_start, plan_training

    start = opened_start(asked, base)
    with Display() as display, naming_the_way(asked, told):
        chosen, _ = plan_training(named(texts), asked, base=base, start=start, on_event=display.show)
    for line in chosen.lines:
        print(folded(line, get_terminal_size().columns, LABEL) if sys.stdout.isatty() else line)
    if chosen.config.train.minutes is None:
        print(time_of(chosen.config))
    if any(value is not None for value in told.values()):
        from octavo.outlook import outlook

        model, train, window = chosen.config.model, chosen.config.train, chosen.config.window
        tokens = float(train.steps * train.batch * window)
        known = replace(asked, dtype="float32" if train.dtype == "float32" else "bfloat16")
        lines = outlook(model, train.optimizer, window, hardware(known, gpus, tflops, memory), tokens)
        print("\n".join(("", *lines)))


def check(**given: float | None) -> None:
    """Raise `ConfigError` for a flag that is no number above zero."""
    for name, value in given.items():
        if value is not None and not (isfinite(value) and value > 0):
            raise ConfigError(f"{name} is {value}; give a number above zero")


@contextmanager
def naming_the_way(asked: Asked, told: dict[str, float | None]) -> Iterator[None]:
    """Where a size does not fit here, and GPUs were told of, the words that ask about those."""
    from octavo.probing import TooLargeError

    try:
        yield
    except TooLargeError as error:
        flags = " ".join(f"--{name} {value:g}" for name, value in told.items() if value is not None)
        if not flags or asked.preset is None:
            raise
        raise ConfigError(
            f"{error}; or leave the text out and keep the other flags: octavo plan --preset {asked.preset} {flags}"
        ) from error


def time_of(config: RunConfig) -> str:
    """How long all steps take."""
    from octavo.probing import step_time
    from octavo.progress import duration

    seconds, tried = step_time(config)
    learning, how = duration(seconds * config.train.steps), "as tried here" if tried else "as its arithmetic has it"
    return f"time      about {learning} of learning, a step taking {seconds:,.2f} s {how}"


def hardware(asked: Asked, gpus: int | None, tflops: float | None, memory: float | None) -> "Hardware":
    """What was told of the GPUs, completed by what is here."""
    import torch

    from octavo.devices import choose_device
    from octavo.outlook import GPUS, Hardware
    from octavo.shapes import choose_dtype
    from octavo.speed import peak

    device = choose_device(asked.device)
    usual = choose_dtype(asked.dtype, device) if tflops is None else "bfloat16"  # as it is measured, else a GPU's
    here = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else MEMORY * 1e9
    return Hardware(
        memory=here if memory is None else memory * 1e9,
        peak=peak(device, usual) if tflops is None else tflops * 1e12,
        measured=tflops is None,
        gpus=GPUS if gpus is None else (gpus,),
        dtype="float32" if "float32" in (asked.dtype, usual) else "bfloat16",
    )


def of_size(asked: Asked, hardware: "Hardware") -> tuple[str, ...]:
    """What a model of a size would take, with no text to learn from yet; nothing of it is made."""
    from octavo.outlook import outlook
    from octavo.shapes import MANY, preset_model, tokens_of_row

    model = preset_model(asked)
    window = tokens_of_row(asked, model)
    tokens = None if asked.steps is None else float(asked.steps * (asked.batch or MANY) * window)
    return outlook(model, "muon" if model.dialect == "modern" else "adamw", window, hardware, tokens)
