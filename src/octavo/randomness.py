"""Every random draw of a training is a function of its purpose and of where the training stands: nothing is kept."""

from hashlib import blake2b


def seed_for(stream: str, *numbers: int) -> int:
    """A seed of 63 bits for one stream of draws (`dropout`, `weights`, …) at one place (seed, step, micro-step, rank).

    >>> seed_for("dropout", 0, 7) == seed_for("dropout", 0, 7) != seed_for("dropout", 0, 8)
    True
    """
    words = ":".join([stream, *map(str, numbers)])
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "little") >> 1
