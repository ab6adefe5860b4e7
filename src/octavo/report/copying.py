"""Whether a model wrote or copied, and whether the held-out text is new: what of both stands in the training text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from octavo.data import Part
from octavo.data.sources import ignore
from octavo.data.survey import Progress
from octavo.events import Event, Preparing
from octavo.generation import generate
from octavo.model import GPT
from octavo.report.findings import Copying, Duplicate, Duplicates, Match, Overlap, Sample
from octavo.report.readings import Weighed
from octavo.report.suffixes import Matches, longest, longest_matches, maximal, share
from octavo.report.texts import PartName, Passage, Texts, locate, locate_characters, stretches
from octavo.sampling import SEEDS, Sampling
from octavo.tokenizers import Tokenizer

TEMPERATURE = 0.8
SAMPLE_TOKENS, PROMPT_TOKENS = 256, 32
AT_ONCE = 20  # samples written side by side
COPIED = 30  # characters: six words or so, which two people seldom set down alike unless one has them from the other
DUPLICATED = 100  # characters: more than a line or a set phrase
SHOWN = 5
SEARCHED = 256_000_000  # bytes of training text that are looked through
EXCERPT = 400  # characters of a duplicate
CUT = "\ufffd"  # a character of which there is but a part


@dataclass(frozen=True)
class Written:
    """What the model wrote after a prompt, and what stands in the text instead."""

    prompt: str
    text: str
    human: str


def write(
    model: GPT, tokenizer: Tokenizer, part: Part, count: int, seed: int, on_event: Callable[[Event], None]
) -> list[Written]:
    """Have the model go on from so many places of a text, drawn from the seed, each with a seed of its own."""
    length = min(SAMPLE_TOKENS, max(1, len(part.tokens) // 2))
    prompt = max(1, min(PROMPT_TOKENS, model.config.context // 2, len(part.tokens) - length))
    starts = np.random.default_rng(seed).integers(0, len(part.tokens) - prompt - length + 1, count).tolist()
    texts: list[Written] = []
    for first in range(0, count, AT_ONCE):
        rows = [part.tokens[start : start + prompt].tolist() for start in starts[first : first + AT_ONCE]]
        told = _progress(on_event, first * length, count * length, len(rows))
        written = _rows(model, tokenizer, rows, length, seed + first, told)
        for start, row, new in zip(starts[first:], rows, written, strict=False):
            text = _behind(row, new, tokenizer)
            human = _behind(row, part.tokens[start + prompt : start + prompt + length].tolist(), tokenizer)
            texts.append(Written(tokenizer.decode(row).strip(CUT), text, human[: len(text)]))
    return texts


def _behind(before: list[int], tokens: list[int], tokenizer: Tokenizer) -> str:
    """What tokens say behind others, of whose last character they may be the rest; without one that has no end."""
    stream = tokenizer.stream(before)
    return ("".join(map(stream.push, tokens)) + stream.finish()).rstrip(CUT)


def _progress(on_event: Callable[[Event], None], done: int, total: int, rows: int) -> Callable[[int], None]:
    return lambda step: on_event(Preparing("writing samples", done + step * rows, total))


def _rows(
    model: GPT, tokenizer: Tokenizer, prompts: list[list[int]], length: int, seed: int, told: Callable[[int], None]
) -> list[list[int]]:
    """The new tokens of each row, without the one that ends a text."""
    ends, never = tokenizer.ends, tokenizer.unsayable(model.config.vocab_size)
    samplings = [
        Sampling(temperature=TEMPERATURE, seed=(seed + row) % SEEDS, forbidden=never) for row in range(len(prompts))
    ]
    found: list[list[int]] = [[] for _ in prompts]
    for number, step in enumerate(generate(model, prompts, max_new_tokens=length, samplings=samplings, stop=ends), 1):
        for row, token in enumerate(step.tokens):
            if token is not None and token not in ends:
                found[row].append(token)
        told(number)
    told(length)
    return found


@dataclass(frozen=True)
class Search:
    """What of some texts stands in the training text, and how to name the places of it."""

    texts: Texts
    matches: dict[str, list[Matches]]

    @classmethod
    def of(cls, texts: Texts, wanted: dict[str, list[str]], on_event: Callable[[Event], None] = ignore) -> "Search":
        """Look for all of these at once: the training text is read and sorted a single time."""
        every = [text for group in wanted.values() for text in group]
        progress = Progress("looking for copies", min(SEARCHED, texts.prepared.train.bytes), on_event)
        found = iter(longest_matches(stretches(training(texts)), every, progress.advance))
        progress.finish()
        return cls(texts, {name: [next(found) for _ in group] for name, group in wanted.items()})

    def overlaps(self, name: str, at_least: int) -> list[list[Overlap]]:
        """The overlaps of each text of a group, with their places."""
        spans = [maximal(found.lengths, at_least) for found in self.matches[name]]
        offsets = [
            [int(found.places[start]) for start, _ in row] for found, row in zip(self.matches[name], spans, strict=True)
        ]
        places = locate(training(self.texts), [offset for row in offsets for offset in row])
        return [
            [Overlap(start, end, places[offset]) for (start, end), offset in zip(row, here, strict=True)]
            for row, here in zip(spans, offsets, strict=True)
        ]

    def longest(self, name: str, texts: Sequence[str]) -> Match | None:
        """The longest match in a group of texts, with its place."""
        best = longest(self.matches[name])
        if best is None:
            return None
        number, start, characters = best
        offset = int(self.matches[name][number].places[start])
        text = texts[number][start : start + characters]
        return Match(text[:EXCERPT], characters, locate(training(self.texts), [offset])[offset])


def training(texts: Texts) -> Iterator[Passage]:
    """The training text, or as much of it as is looked through."""
    left = SEARCHED
    for passage in texts.passages("train"):
        if left <= 0:
            return
        left -= len(passage.text.encode())
        yield passage


def copying(search: Search, written: Sequence[Written]) -> Copying:
    """How much of the samples, and of what people wrote in their place, lies in overlaps of `COPIED` characters."""
    mine, theirs = search.overlaps("samples", COPIED), search.overlaps("human", COPIED)
    texts, human = [sample.text for sample in written], [sample.human for sample in written]
    return Copying(
        at_least=COPIED,
        share=share(_spans(mine), texts),
        human_share=share(_spans(theirs), human),
        longest=search.longest("samples", texts),
        human_longest=search.longest("human", human),
        samples=tuple(
            Sample(sample.prompt, sample.text, share(_spans([row]), [sample.text]), tuple(row))
            for sample, row in zip(written, mine, strict=True)
        ),
    )


def _spans(rows: Sequence[Sequence[Overlap]]) -> list[list[tuple[int, int]]]:
    return [[(overlap.start, overlap.end) for overlap in row] for row in rows]


def duplicates(search: Search, name: PartName, text: str, cost: Weighed) -> Duplicates:
    """How much of the held-out text lies in overlaps of `DUPLICATED` characters, and the longest of them."""
    [found] = search.overlaps("held out", DUPLICATED)
    ranked = sorted(found, key=lambda overlap: -overlap.length)[:SHOWN]
    here = locate_characters(search.texts.passages(name, len(text)), [overlap.start for overlap in ranked])
    return Duplicates(
        at_least=DUPLICATED,
        share=share(_spans([found]), [text]),
        rest_bits_per_byte=rest(cost, text, _spans([found])[0]),
        longest=tuple(Duplicate(text[o.start : o.end][:EXCERPT], o.length, here[o.start], o.place) for o in ranked),
    )


def rest(cost: Weighed, text: str, spans: Sequence[tuple[int, int]]) -> float | None:
    """Bits per byte of the tokens whose middle lies in none of these spans of characters; none where all do."""
    content = np.frombuffer(text.encode(), np.uint8)
    begins = np.append(np.flatnonzero((content & 0xC0) != 0x80), len(content))
    repeated = np.zeros(len(content), bool)
    for start, end in spans:
        repeated[begins[start] : begins[end]] = True
    middles = (np.cumsum(cost.bytes) - cost.bytes / 2).astype(np.int64)
    new = ~repeated[np.minimum(middles, len(content) - 1)]
    size = float(cost.bytes[new].sum())
    return float(cost.bits[new].sum()) / size if size else None
