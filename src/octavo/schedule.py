"""How fast to learn at each step, as a function of the step and of the number of steps."""


def learning_rate(step: int, steps: int, *, warmup: float, decay: float, floor: float = 0.0) -> float:
    """The factor on the learning rate: up in a line, level, down in a line to `floor`  [Hu 2024, section 4.2].

    `warmup` and `decay` are fractions of the steps; steps are counted from 0.

    >>> [round(learning_rate(step, 10, warmup=0.2, decay=0.5), 2) for step in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """
    rising = (step + 1) / max(1, round(warmup * steps))
    falling = (steps - step) / max(1, steps - decay_start(steps, decay))
    return max(floor, min(1.0, rising, falling))


def decay_start(steps: int, decay: float) -> int:
    """The first step at which the learning rate falls: a training that is to go on longer goes on from before it."""
    return min(steps - 1, round((1 - decay) * steps))
