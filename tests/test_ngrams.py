"""Counting n-grams: the formula of Kneser and Ney, held against counting by hand."""

import math
from collections import Counter
from random import Random

import numpy as np
import pytest

from octavo.ngrams import spread, surprise


def by_hand(learned: list[int], held_out: list[int], order: int) -> float:
    """Mean nats per token, with dictionaries; the contexts of the first tokens of a part are shorter than the order."""
    text, size = learned + held_out, max(learned + held_out) + 1

    def grams(length: int) -> list[tuple[int, ...]]:
        return [tuple(text[max(0, end - length) : end]) for end in range(1, len(text) + 1)]

    counts: dict[int, Counter[tuple[int, ...]]] = {}
    for length in range(1, order + 1):
        if length == order:
            counts[length] = Counter(grams(length)[: len(learned)])
        else:  # how many different tokens stand before it
            longer = dict.fromkeys(grams(length + 1)[: len(learned)])
            first = {gram: index for index, gram in reversed(list(enumerate(grams(length + 1)[: len(learned)])))}
            counts[length] = Counter(grams(length)[first[gram]] for gram in longer)

    def probability(end: int, length: int) -> float:
        if length == 0:
            return 1 / size
        gram, context = grams(length)[end], grams(length)[end][:-1]
        table = counts[length]
        followers = {other: count for other, count in table.items() if other[:-1] == context}
        once, twice = list(table.values()).count(1), list(table.values()).count(2)
        discount = once / (once + 2 * twice) if once else 0.5
        if not followers:
            return probability(end, length - 1)
        total = sum(followers.values())
        freed = discount * len(followers) / total
        return max(table[gram] - discount, 0) / total + freed * probability(end, length - 1)

    places = range(len(learned), len(text))
    return -sum(math.log(probability(end, order)) for end in places) / len(places)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_surprise_is_what_counting_by_hand_comes_to(seed: int) -> None:
    draw = Random(seed)
    learned, held_out = ([draw.choice([0, 0, 1, 2, 3]) for _ in range(count)] for count in (60, 12))
    for order, nats in enumerate(surprise(np.array(learned), np.array(held_out), 3), start=1):
        assert nats == pytest.approx(by_hand(learned, held_out, order), abs=1e-12)


def test_a_longer_memory_helps_where_there_is_something_to_remember() -> None:
    tokens = np.array([0, 1, 0, 2] * 200)
    one, two, three = surprise(tokens[:600], tokens[600:], 3)
    assert one > 1.0 > two > 0.3 > three > 0.0


def test_chance_cannot_be_counted_away() -> None:
    draw = np.random.default_rng(0)
    nats = surprise(draw.integers(0, 8, 20_000), draw.integers(0, 8, 5_000), 4)
    assert all(math.log(8) - 0.01 < value < math.log(8) * 1.2 for value in nats)


def test_a_text_is_represented_from_its_beginning_to_its_end() -> None:
    tokens = np.arange(100_000)
    some = spread(tokens, 5_000)
    assert some[0] == 0 and some[-1] == 99_999
    assert abs(len(some) - 5_000) <= 256
    assert np.array_equal(spread(tokens[:100], 5_000), tokens[:100])
