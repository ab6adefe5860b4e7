"""What happens while a model is trained, as values: the trainer yields them, whoever shows or logs them reads them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from octavo.config import RunConfig


@dataclass(frozen=True)
class Note:
    """One line that the user should know: what was adapted, left out or fallen back to."""

    text: str


@dataclass(frozen=True)
class Preparing:
    """Something is being read, encoded or written: so many bytes of so many, or of 0 where nobody can know."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Planned:
    """What will be trained, and how, in a few lines and in full."""

    lines: tuple[str, ...]
    config: RunConfig
    parameters: int


@dataclass(frozen=True)
class Stepped:
    """One training step is done. `seconds` and `remaining` are of training time, `train_loss` in nats per token."""

    step: int
    steps: int
    seconds: float
    tokens: int
    lr: float
    train_loss: float
    grad_norm: float
    tokens_per_second: float
    remaining: float


@dataclass(frozen=True)
class Evaluated:
    """The held-out text was read: nats per token, nats per character, bits per byte."""

    step: int
    steps: int
    seconds: float
    val_loss: float
    val_nats_per_character: float
    val_bits_per_byte: float
    best: bool
    train_loss: float | None  # none before the first step
    remaining: float


@dataclass(frozen=True)
class Sampled:
    """What the model writes by now."""

    step: int
    text: str


@dataclass(frozen=True)
class Saved:
    """The state after this step is on the disk, whatever happens next."""

    step: int
    where: Path


@dataclass(frozen=True)
class Finished:
    """The training is over, by its own end or because it was asked to stop; figures are of the best weights.

    `forecast` is the loss that was expected, in nats per token, how near two of three trainings come to it, and the
    steps it was of.
    """

    run: Path
    step: int
    steps: int
    seconds: float
    best_step: int
    val_loss: float
    val_nats_per_character: float
    val_bits_per_byte: float
    reason: Literal["done", "stopped"]
    evaluated: bool = True  # whether the weights that were kept are those of the figures
    read: bool = True  # whether the held-out text was read after a step, too
    forecast: tuple[float, float, int] | None = None


Event = Note | Preparing | Planned | Stepped | Evaluated | Sampled | Saved | Finished
