"""Texts for the tests, made here from a seed: nothing is read from outside, and nobody else's words are needed."""

import random

NAMES = ("Ada", "Grace", "Emmy", "Sofia", "Hypatia")
VERBS = ("finds", "draws", "counts", "proves", "forgets", "remembers")
THINGS = ("a circle", "the number seven", "an old letter", "the shortest way", "every prime", "two stars")


def sentences(count: int, seed: int = 0) -> str:
    """So many short sentences about mathematicians, a line each."""
    draw = random.Random(seed)
    return "".join(f"{draw.choice(NAMES)} {draw.choice(VERBS)} {draw.choice(THINGS)}.\n" for _ in range(count))
