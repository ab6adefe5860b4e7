"""How often a text is worth reading, how fast a model fades meanwhile (`benchmarks/often.py`), and how it begins."""

from math import sqrt

BY_SIZE = 60.0  # times the tokens that a text has for each parameter: so often it can be read by so small a model
MOST = 40.0  # readings that were ever worth their time, unless a model is small for its text
SETS_IN, IN_FULL = 3.0, 5.0  # readings of a text from which on, and in full, weights decay
FADING, OF = 0.56, 1.5e6  # learning rate × weight decay, summed over a reading: for a model of so many parameters
LARGER = 0.4  # and the power of its size by which a larger one fades sooner
AT_ONCE = 0.1  # learning rate × weight decay, at the most
OF_EACH = 400  # tokens read for each of a vocabulary: from so many on, what was counted beforehand is of no use
DIFFERENT = 300  # tokens of a vocabulary: of fewer, counting tells too little
PAIRS = 200  # steps that learn it


def weight_decay(readings: float, steps: int, lr: float, parameters: int) -> float:
    """The weight decay of a training that reads a text so often, in so many steps, at this peak rate.

    Weights are a running mean of what was learned, and how far back it reaches is best told in readings of the text
    [Wang 2024]; here to about one of them, less where a text is read more often, and by a larger model [Kim 2025]. What
    AdamW learns at a lower rate lasts as much longer. A text that is read three times is not yet known by heart.

    >>> [round(weight_decay(often, 200 * often, lr=0.02, parameters=1_500_000), 3) for often in (1, 3, 4, 9, 36)]
    [0.0, 0.0, 0.14, 0.42, 0.84]
    """
    reached = min(1.0, max(0.0, readings - SETS_IN) / (IN_FULL - SETS_IN))
    in_a_reading = FADING * sqrt(readings) * (parameters / OF) ** LARGER
    return reached * min(AT_ONCE, in_a_reading * readings / steps) / lr


def most_readings(by_size: float) -> float:
    """How often a text is read at the most, after which a training ends before its time: more would make it worse.

    >>> [most_readings(by_size) for by_size in (8.0, 50.0)]
    [40.0, 50.0]
    """
    return max(by_size, MOST)


def pairs(tokens: int, vocab_size: int, different: int) -> int | None:
    """The steps in which a model is told what follows what, before it reads so many of a text's `different` tokens.

    What it reads tells it the same, and more slowly, but in the end it learns it better; and of what is read twice,
    what was counted is too sure (`benchmarks/early.py`).

    >>> pairs(150_000, 1_056, 200_000), pairs(1_000_000, 1_056, 2_000_000), pairs(150_000, 65, 1_000_000)
    (200, None, None)
    >>> pairs(150_000, 1_056, 100_000)
    """
    told = vocab_size >= DIFFERENT and tokens < min(OF_EACH * vocab_size, different)
    return PAIRS if told else None
