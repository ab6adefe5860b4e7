"""How fast a training goes, and how many steps will fit into its time."""

from dataclasses import dataclass


@dataclass
class Pace:
    """What was seen since the last saving: of a training that is gone on with, since its first step.

    >>> pace = Pace()
    >>> pace.looked(2.0)
    >>> pace.fitting(step=10, seconds=12.0, end=24.0, every=100)  # a second a step, two for the last evaluation
    20
    """

    step: int = 0
    seconds: float = 0.0
    looking: float = 0.0  # seconds of them in which the held-out text was read
    look: float = 0.0  # seconds that it takes to read it once, as far as that is known

    def looked(self, seconds: float, share: float = 1.0) -> None:
        """Say how long an evaluation took, on all of the held-out text or a share of it."""
        self.look, self.looking = seconds / share, self.looking + seconds

    def seen(self, step: int, seconds: float) -> float:
        """Seconds a step, whatever was done besides."""
        return max(seconds - self.seconds, 1e-9) / max(1, step - self.step)

    def fitting(self, step: int, seconds: float, end: float, every: int) -> int:
        """The steps there will be at the end, which is a time, with an evaluation after every so many and a last one.

        What is seen from now on counts from here.
        """
        pace, left = self.seen(step, seconds - self.looking), end - seconds
        self.step, self.seconds, self.looking = step, seconds, 0.0
        looks = max(1, round(left / (every * pace + self.look)))
        return step + max(1, round((left - looks * self.look) / pace))
