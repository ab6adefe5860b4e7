"""A report as a page in Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence

from octavo.names import several
from octavo.progress import printable, readable
from octavo.report.findings import (
    Bin,
    Calibration,
    Copying,
    Duplicates,
    Findings,
    Further,
    Overlap,
    Passage,
    Sample,
    Score,
)


def written(found: Findings) -> str:
    """The whole page."""
    lines = [
        f"# How good {_inline(found.run)} is",
        "",
        summary(found),
        standing(found),
        "",
        *(f"- {_inline(note)}" for note in found.notes),
        *_scores(found),
        *_curve(found),
        *_calibration(found.calibration),
        *_passages("The easiest passages", found.easiest),
        *_passages("The hardest passages", found.hardest),
        *(_copying(found.copying) if found.copying else ()),
        *(_duplicates(found.duplicates) if found.duplicates else ()),
    ]
    return "\n".join(lines) + "\n"


def summary(found: Findings) -> str:
    """The figure that counts, in a sentence."""
    text = found.held_out
    return (
        f"{found.model.bits_per_byte:.3f} bits a byte (95 %: {found.interval.low:.3f} to {found.interval.high:.3f}) "
        f"on the {text.part} text, {text.characters:,} characters that it has not learned from."
    )


def standing(found: Findings) -> str:
    """What the best of those without a model comes to, in a sentence."""
    best = min(found.baselines, key=lambda score: score.bits_per_byte)
    times = found.model.bits_per_byte / best.bits_per_byte
    beside = f"{times:,.1f} times as many" if times >= 2 else f"{abs(times - 1):.1%} {'more' if times > 1 else 'fewer'}"
    return (
        f"The best that does without a model, {best.name}, needs {best.bits_per_byte:.3f} bits a byte; "
        f"this model needs {beside}."
    )


def figures(score: Score) -> list[str]:
    """A score as the columns of a table."""
    rest = (score.nats_per_token, score.nats_per_character)
    return [f"{score.bits_per_byte:.3f}", *("" if value is None else f"{value:.3f}" for value in rest)]


COLUMNS = ("bits a byte", "nats a token", "nats a character")


def _scores(found: Findings) -> Iterator[str]:
    yield from _heading("How well it foretells the text")
    ranked = sorted((found.model, *found.baselines), key=lambda score: score.bits_per_byte)
    rows = ([f"**{score.name}**" if score is found.model else score.name, *figures(score)] for score in ranked)
    yield from _table(("who", *COLUMNS), rows)


CURVE = ("as many tokens", "tokens read", "nats a token", "bits a byte")


def _curve(found: Findings) -> Iterator[str]:
    if found.curve:
        yield from _heading("What other sizes would come to")
        yield "Forecasts, for a model of the size that suits what is read of the same text."
        yield ""
        yield from _table(CURVE, map(curve_row, found.curve))


def curve_row(further: Further) -> list[str]:
    """A point of the curve as the columns of a table."""
    loss = f"{further.nats_per_token:.2f} ± {further.within:.2f}"
    return [f"{further.times:g} ×", f"{further.tokens:,}", loss, f"{further.bits_per_byte:.2f}"]


def _calibration(found: Calibration) -> Iterator[str]:
    yield from _heading("How well it knows what it knows")
    yield calibration_line(found)
    yield ""
    yield from _table(("probability of the likeliest token", "tokens", "said", "came"), map(bin_row, found.bins))


def calibration_line(found: Calibration) -> str:
    """How often it is right and how far off its probabilities are, in a sentence."""
    return (
        f"Its likeliest token came {found.right:.1%} of the time; the expected calibration error is {found.error:.3f}."
    )


def bin_row(found: Bin) -> list[str]:
    """A bin of the calibration as the columns of a table."""
    shares = ("" if value is None else f"{value:.1%}" for value in (found.confidence, found.right))
    return [f"{found.low:.1f} to {found.high:.1f}", f"{found.tokens:,}", *shares]


def _passages(title: str, passages: Iterable[Passage]) -> Iterator[str]:
    yield from _heading(title)
    for passage in passages:
        yield f"{passage.bits_per_byte:.2f} bits a byte, from token {passage.token:,} on:"
        yield from _fenced(passage.text)


def _copying(found: Copying) -> Iterator[str]:
    yield from _heading("Wrote or copied")
    yield copy_line(found)
    yield ""
    yield from (f"- {_inline(line)}" for line in longest_lines(found))
    yield ""
    for sample in sorted(found.samples, key=lambda sample: -sample.copied):
        text, notes = marked(sample)
        yield f"After {_inline(repr(sample.prompt))}, {sample.copied:.1%} copied:"
        yield from _fenced(text)
        yield from (f"- {_inline(note)}" for note in notes)
        yield ""


def copy_line(found: Copying) -> str:
    """How much was copied, beside people, in a sentence."""
    return (
        f"{found.share:.1%} of what it writes stands in the training text in stretches of {found.at_least} characters "
        f"or more, and {found.human_share:.1%} of what people wrote in the same places."
    )


def longest_lines(found: Copying) -> list[str]:
    """The longest that the model, and that people, have in common with the training text."""
    both = {"its longest match": found.longest, "that of people": found.human_longest}
    return [
        f"{who}: {several(match.characters, 'character')}, {match.text!r} ({match.place})"
        for who, match in both.items()
        if match
    ]


def marked(sample: Sample) -> tuple[str, list[str]]:
    """A sample with ⟦brackets⟧ and a number around what is copied, and where each stretch of it stands."""
    pieces, notes, come = [], [], 0
    for number, overlap in enumerate(fewest(sample.overlaps), start=1):
        start = max(come, overlap.start)
        pieces += [sample.text[come:start], "⟦", sample.text[start : overlap.end], f"⟧{str(number).translate(RAISED)}"]
        notes.append(f"{number}: {several(overlap.length, 'character')}, {overlap.place}")
        come = overlap.end
    return "".join([*pieces, sample.text[come:]]), notes


RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def fewest(overlaps: Sequence[Overlap]) -> list[Overlap]:
    """As few of the overlaps as cover all that any of them does, in the order of the text.

    >>> from octavo.report.findings import Place
    >>> here = Place("a", 1)
    >>> [found.start for found in fewest([Overlap(0, 5, here), Overlap(2, 7, here), Overlap(4, 9, here)])]
    [0, 4]
    """
    chosen: list[Overlap] = []
    for overlap in overlaps:  # each begins and ends behind the one before
        if len(chosen) > 1 and overlap.start <= chosen[-2].end:
            chosen.pop()  # what it covers, this one and the one before cover too
        chosen.append(overlap)
    return chosen


def _duplicates(found: Duplicates) -> Iterator[str]:
    yield from _heading("How new the held-out text is")
    yield duplicate_line(found)
    yield ""
    for duplicate in found.longest:
        yield f"{duplicate.characters:,} characters of {_inline(f'{duplicate.held_out}, as in {duplicate.training}')}:"
        yield from _fenced(duplicate.text)


def duplicate_line(found: Duplicates) -> str:
    """How much of the held-out text is not new, and what the rest takes, in a sentence."""
    rest = f"; the rest takes {found.rest_bits_per_byte:.3f} bits a byte" if found.rest_bits_per_byte else ""
    return (
        f"{found.share:.1%} of the held-out text stands in the training text in stretches of {found.at_least} "
        f"characters or more{rest if found.share else ''}."
    )


def _heading(title: str) -> Iterator[str]:
    yield from ("", f"## {title}", "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _fenced(text: str) -> Iterator[str]:
    """A text as it is, whatever is in it: the fence is longer than any in the text."""
    ticks = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    yield from ("", f"{fence}text", readable(text), fence, "")


def _inline(text: str) -> str:
    """A text within a line, with nothing that Markdown or HTML would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", printable(text).replace("\n", " "))
