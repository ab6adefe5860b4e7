"""Which stretches of a text stand in another, word for word, through a suffix array [Manber 1993]."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from octavo.report.texts import BOUNDARY, Stretch

END = b"\xfe"  # stands between the texts that are looked for; no text in UTF-8 has this byte either


class Matches(NamedTuple):
    """For every character of a text, how many from it on stand in the other text, and where there, in bytes."""

    lengths: np.ndarray
    places: np.ndarray


def available() -> bool:
    """Whether the package that sorts suffixes is installed."""
    try:
        import pydivsufsort  # noqa: F401
    except ImportError:
        return False
    return True


def longest_matches(
    learned: Iterable[Stretch], texts: Sequence[str], done: Callable[[int], None] = lambda size: None
) -> list[Matches]:
    """The longest match from every character of these texts on, in any of these stretches; `done` hears their bytes.

    >>> [found] = longest_matches([Stretch(0, b"to be or not")], ["be not"])
    >>> found.lengths.tolist(), found.places.tolist()
    ([3, 2, 4, 3, 2, 1], [3, 4, 8, 9, 10, 0])
    """
    wanted = np.frombuffer(END.join(text.encode() for text in texts), np.uint8)
    lengths, places = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
    for stretch in learned:
        if len(wanted):
            here, there = _matches(stretch.content, wanted.tobytes())
            better = here > lengths
            lengths[better], places[better] = here[better], there[better] + stretch.offset
        done(len(stretch.content))
    return _by_character(wanted, lengths, places, texts)


def _matches(learned: bytes, wanted: bytes) -> tuple[np.ndarray, np.ndarray]:
    """For each byte that is wanted, the neighbour among all sorted suffixes that shares most with it."""
    from pydivsufsort import divsufsort, kasai

    joined = learned + BOUNDARY + wanted
    order = divsufsort(joined)
    shared = np.append(np.asarray(kasai(joined, order))[: len(order) - 1], 0)  # by each with the one behind it
    ranks = np.flatnonzero(order > len(learned))
    runs = np.cumsum(np.diff(ranks, prepend=ranks[:1] - 2) != 1)  # of wanted suffixes side by side
    lengths, places = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
    before = _least(np.where(ranks > 0, shared[ranks - 1], 0), runs)
    behind = _least(shared[ranks][::-1], -runs[::-1])[::-1]
    starts, ends = np.searchsorted(runs, runs, "left"), np.searchsorted(runs, runs, "right") - 1
    at = order[ranks].astype(np.int64) - len(learned) - 1
    neighbours = np.where(before >= behind, ranks[starts] - 1, ranks[ends] + 1)
    lengths[at] = np.maximum(before, behind)
    places[at] = order[np.clip(neighbours, 0, len(order) - 1)]
    return lengths, places


def _least(values: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """The least value so far in each run, runs being numbered upwards.

    >>> _least(np.array([3, 5, 4, 2]), np.array([1, 1, 2, 2])).tolist()
    [3, 3, 4, 2]
    """
    if not len(values):
        return values
    step = int(values.max()) + 1  # each run is put below all of the one before it
    lowered = values.astype(np.int64) - step * (runs - runs[0])
    return np.minimum.accumulate(lowered) + step * (runs - runs[0])


def _by_character(wanted: np.ndarray, lengths: np.ndarray, places: np.ndarray, texts: Sequence[str]) -> list[Matches]:
    """From bytes to characters; a character of which only some bytes match does not."""
    found, start = [], 0
    for text in texts:
        stop = start + len(text.encode())
        begins = np.flatnonzero((wanted[start:stop] & 0xC0) != 0x80)
        ends = np.append(begins, stop - start)
        reached = np.searchsorted(ends, begins + lengths[start:stop][begins], "right") - 1
        found.append(Matches(reached - np.arange(len(begins)), places[start:stop][begins]))
        start = stop + 1
    return found


def maximal(lengths: np.ndarray, at_least: int) -> list[tuple[int, int]]:
    """The overlaps of so many characters that no other one holds within it, each from its start to its end.

    >>> maximal(np.array([3, 2, 4, 3, 2, 1]), at_least=3)
    [(0, 3), (2, 6)]
    """
    ends = np.arange(len(lengths)) + lengths
    starts = np.flatnonzero((lengths >= at_least) & (ends > np.append(0, ends[:-1])))
    return [(int(start), int(ends[start])) for start in starts]


def covered(spans: Sequence[tuple[int, int]]) -> int:
    """How many characters lie in any of these, which come in the order of their starts.

    >>> covered([(0, 3), (2, 6), (8, 9)])
    7
    """
    total, reached = 0, 0
    for start, end in spans:
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def share(spans: Sequence[Sequence[tuple[int, int]]], texts: Sequence[str]) -> float:
    """How much of these texts lies in their overlaps."""
    return sum(map(covered, spans)) / max(1, sum(map(len, texts)))


def longest(matches: Sequence[Matches]) -> tuple[int, int, int] | None:
    """Which of these texts has the longest match of all, from which character on, and how many characters of it."""
    found = [(int(match.lengths.max(initial=0)), number) for number, match in enumerate(matches)]
    characters, number = max(found, default=(0, 0), key=lambda pair: pair[0])
    return (number, int(matches[number].lengths.argmax()), characters) if characters else None
