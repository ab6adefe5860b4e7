"""How fast a training goes, and how many steps will fit into its time."""

from dataclasses import dataclass


@dataclass
class Pace:
    """What was seen since the last saving: of a training that is gone on with, since its first step.

    >>> pace = Pace()
    >>> pace.fitting(step=10, learning=10.0, left=12.0, every=100, look=2.0)  # a second a step, two for an evaluation
    20
    """

    step: int = 0
    learning: float = 0.0  # seconds of steps

    def seen(self, step: int, learning: float) -> float:
        """Seconds a step."""
        return max(learning - self.learning, 1e-9) / max(1, step - self.step)

    def fitting(self, step: int, learning: float, left: float, every: int, look: float) -> int:
        """The steps there will be after so many seconds more, with an evaluation after every so many, and a last one.

        What is seen from now on counts from here.
        """
        pace = self.seen(step, learning)
        self.step, self.learning = step, learning
        looks = max(1, round(left / (every * pace + look)))
        return step + max(1, round((left - looks * look) / pace))
