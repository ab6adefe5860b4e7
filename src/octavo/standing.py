"""How far a training has come, and what was decided on the way: all of its state but the tensors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from octavo.config import RunConfig, TrainConfig
from octavo.data.batches import more_pieces
from octavo.errors import ConfigError, DamagedError, OctavoError
from octavo.evaluation import Evaluation
from octavo.events import Stepped
from octavo.plain import as_dict, from_dict
from octavo.schedule import Schedule
from octavo.step import StepResult

FAILURES = 3  # steps in a row that came to no finite number, until the training gives up
WHERE = {"train.device", "train.compile"}
# not in what earlier versions saved, where they were off
NEWER = {"recompute", "gathered", "threads", "weight_decay", "besides", "look"}


@dataclass(kw_only=True)
class Standing:
    """What a checkpoint knows beside its tensors. Every random draw follows from it and from the seed."""

    schedule: Schedule
    minutes: float | None
    micro_batches: int
    recompute: bool = False  # each block, on the way back
    gathered: bool = False  # the weights of a model in parts, once for all of a step
    threads: int | None = None  # fewer than there are, for others want cores
    weight_decay: float | None = None  # another than was planned, for the text is read another number of times
    step: int = 0  # as many are done, and as many global batches are read
    seconds: float = 0.0  # of training
    besides: float = 0.0  # seconds of them in which something else was done than a step
    look: float = 0.0  # seconds that it takes to read the held-out text once, as far as that is known
    best: Evaluation | None = None
    failures: int = 0  # steps in a row that came to no finite number
    due: Stepped | None = None  # the last step, where its evaluation was interrupted

    @property
    def learning(self) -> float:
        """Seconds of steps alone."""
        return self.seconds - self.besides

    @property
    def over(self) -> bool:
        """Whether all steps are done, and no evaluation is due that a stop interrupted."""
        return self.step >= self.schedule.steps and self.due is None

    def forecast(self, train: TrainConfig) -> tuple[float, float, int] | None:
        """The loss that was expected, how surely, and after how many steps, where the end that was planned has come."""
        planned = self.minutes == train.minutes and (self.minutes is not None or self.schedule.steps == train.steps)
        if not (planned and self.over) or train.forecast is None or train.forecast_within is None:
            return None
        return train.forecast, train.forecast_within, train.steps

    def looked(self, seconds: float, look: float) -> None:
        """Say how long an evaluation took, and how long one of all of the held-out text does."""
        self.besides, self.look = self.besides + seconds, look

    def stepped(self, result: StepResult, config: RunConfig, pace: float) -> Stepped:
        """What there is to tell of the last step, where one takes so many seconds."""
        train = config.train
        per_step = train.batch * config.window
        steps, every = self.schedule.steps, train.eval_every
        looks = -(-steps // every) - self.step // every if self.step < steps else 0  # after this step
        return Stepped(
            step=self.step,
            steps=steps,
            seconds=round(self.seconds, 3),
            tokens=self.step * per_step,
            lr=train.lr * self.schedule.rate(self.step - 1),
            train_loss=result.loss,
            grad_norm=result.grad_norm,
            tokens_per_second=round(per_step / pace, 1),
            remaining=(steps - self.step) * pace + looks * self.look,
        )

    def count_failures(self, result: StepResult, lr: float) -> None:
        """Count steps in a row that came to no finite number; raises `OctavoError` where the training gives up."""
        self.failures = 0 if result.used else self.failures + 1
        if self.failures >= FAILURES:
            raise OctavoError(
                f"{FAILURES} steps in a row came to no finite loss (step {self.step}); the last checkpoint is "
                f"intact, train again with a smaller --lr than {lr:g}"
            )

    def betters(self, found: Evaluation, *, glanced: bool) -> bool:
        """Whether these weights are the best so far.

        Where a model begins with what was counted, what a glance at some of the text found of that is no measure.
        """
        if self.best is None:
            return True
        return found.val_loss < (math.inf if glanced and self.best.step == 0 else self.best.val_loss)

    def facts(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def take_less(self, rows: int) -> bool:
        """Decide on less memory for a batch of so many rows; whether there was anything left to decide.

        First weights are put together for each piece anew, then pieces are smaller, then blocks are computed again.
        """
        if self.gathered:
            self.gathered = False
            return True
        pieces = more_pieces(rows, self.micro_batches)
        if pieces is None and self.recompute:
            return False
        self.recompute = self.recompute or pieces is None
        self.micro_batches = pieces or self.micro_batches
        return True

    def kept(self, saved: Sequence[int]) -> set[int]:
        """Of the steps saved, newest first, those to keep: the last before the rate fell, and the best one."""
        plateau = [step for step in saved if step <= self.schedule.level_until]
        return {*plateau[:1], self.best.step if self.best else 0}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Standing":
        """Back from plain values, all of them; what else stands there is for others. Raises `DamagedError`."""
        names = {field.name for field in fields(cls)}
        missing = sorted(names - facts.keys() - NEWER)
        if missing:
            raise DamagedError(f"the checkpoint does not say where the training stands: {missing[0]} is missing")
        try:
            return from_dict(cls, {name: value for name, value in facts.items() if name in names})
        except ConfigError as error:
            raise DamagedError(f"the checkpoint does not say where the training stands: {error}") from error


def mismatch(facts: Mapping[str, Any], config: RunConfig, text_sha256: str) -> str | None:
    """What a training would go on with that is not what it began with, in words."""
    if facts.get("text_sha256") != text_sha256:
        return "the text is not the one that was learned from"
    then, now = (dict(flattened(values)) for values in (facts.get("config", {}), as_dict(config)))
    elsewhere = then.get("train.device") != now.get("train.device")  # no other data, other bits: the numerics tell it
    for name in sorted({*then, *now} - (WHERE if elsewhere else set())):
        if (then.get(name) or None) != (now.get(name) or None):  # what is off may be newer than the checkpoint
            return f"{name} is {now.get(name)} and was {then.get(name)}"
    return None


def flattened(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by their full names.

    >>> dict(flattened({"model": {"width": 64}, "seed": 0}))
    {'model.width': 64, 'seed': 0}
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{where}{name}.")
        else:
            yield where + name, value
