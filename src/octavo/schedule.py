"""How fast to learn at each step: up in a line, level, and down in a line to nothing  [Hu 2024, section 4.2]."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The factor on the learning rate as a function of the step, and of what was decided by then.

    The rate falls from `from_rate` at `falls_from` to nothing at `steps`. Steps are counted from 0.

    >>> schedule = Schedule(steps=10, warmup=2, falls_from=5)
    >>> [round(schedule.rate(step), 2) for step in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """

    steps: int
    warmup: int
    falls_from: int
    from_rate: float = 1.0
    level: int | None = None  # where the rate began to fall, if that was decided anew within the fall

    @property
    def level_until(self) -> int:
        """The step at which the rate began to fall: a state from before can be gone on with as if no end had come."""
        return self.falls_from if self.level is None else self.level

    @classmethod
    def planned(cls, steps: int, *, warmup: float, decay: float) -> "Schedule":
        """A schedule whose warm-up and decay are fractions of the steps.

        >>> Schedule.planned(100, warmup=0.02, decay=0.5)
        Schedule(steps=100, warmup=2, falls_from=50, from_rate=1.0, level=None)
        """
        return cls(steps=steps, warmup=round(warmup * steps), falls_from=min(steps - 1, round((1 - decay) * steps)))

    def rate(self, step: int) -> float:
        """The factor on every peak learning rate at this step, from 0 to 1."""
        rising = (step + 1) / max(1, self.warmup)
        falling = self.from_rate * (self.steps - step) / max(1, self.steps - self.falls_from)
        return max(0.0, min(1.0, rising, falling if step >= self.falls_from else self.from_rate))

    def replanned(self, step: int, steps: int, decay: float) -> "Schedule":
        """The same schedule with another end, decided before `step`: what has been is left as it was.

        >>> Schedule(steps=100, warmup=2, falls_from=50).replanned(20, 60, 0.5).falls_from
        30
        >>> late = Schedule(steps=100, warmup=2, falls_from=50).replanned(75, 80, 0.5)
        >>> [late.rate(step) for step in (75, 79)]
        [0.5, 0.1]
        >>> late.level_until, late.replanned(78, 90, 0.5).level_until
        (50, 50)
        """
        if step <= self.falls_from and self.from_rate == 1:
            falls_from = max(step, min(self.warmup, steps - 1), round((1 - decay) * steps))
            return replace(self, steps=steps, falls_from=falls_from)
        return replace(self, steps=steps, falls_from=step, from_rate=self.rate(step), level=self.level_until)
