"""How often a text is worth reading, and how much of what is read dropout hides meanwhile (`benchmarks/often.py`)."""

BY_SIZE = 60.0  # times the tokens that a text has for each parameter: so often it can be read with little dropout
HIDDEN = {6.0: 0.1, 12.0: 0.2, 28.0: 0.3}  # what is hidden of a text that is read more often than so many times
MOST = 40.0  # readings that were ever worth their time, unless a model is small for its text


def hidden(readings: float, by_size: float) -> float:
    """The dropout for a text that is read so often; little, where a model is small for the text.

    >>> [hidden(readings, by_size=8.0) for readings in (2, 10, 20, 40)], hidden(40, by_size=50.0)
    ([0.0, 0.1, 0.2, 0.3], 0.1)
    """
    reached = [share for often, share in HIDDEN.items() if readings > often]
    if not reached:
        return 0.0
    return reached[0] if readings <= by_size else reached[-1]


def most_readings(dropout: float | None, by_size: float) -> float:
    """How often a text is read at the most, after which a training ends before its time: more would make it worse.

    With dropout that is still to be chosen, or with so much.

    >>> [most_readings(dropout, by_size=8.0) for dropout in (None, 0.0, 0.1, 0.2, 0.5)]
    [40.0, 12.0, 12.0, 28.0, 40.0]
    """
    ends = dict(zip(HIDDEN.values(), [*list(HIDDEN)[1:], MOST], strict=True))
    borne = [most for share, most in ends.items() if dropout is None or share <= dropout]
    return max(by_size, borne[-1] if borne else min(ends.values()))
