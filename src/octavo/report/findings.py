"""What a report finds out, section by section, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """How well a text was foretold; a compressor knows bytes alone, and has no nats."""

    name: str
    bits_per_byte: float
    nats_per_token: float | None = None
    nats_per_character: float | None = None


@dataclass(frozen=True)
class Interval:
    """Where the figure would lie in 95 of 100 texts like this one, by resampling its windows."""

    low: float
    high: float
    windows: int


@dataclass(frozen=True)
class HeldOut:
    """The text that all figures are of, and whether it is the test text or, where there is none, the validation."""

    part: str
    tokens: int
    characters: int
    bytes: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Bin:
    """The predictions whose likeliest token had a probability from `low` to `high`: so sure, and so often right."""

    low: float
    high: float
    tokens: int
    confidence: float | None  # none where there is no token
    right: float | None


@dataclass(frozen=True)
class Calibration:
    """How often the likeliest token came, and whether that is as often as its probabilities said."""

    right: float
    error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Passage:
    """A stretch of the held-out text, and how well it was foretold."""

    text: str
    bits_per_byte: float
    token: int  # where it begins, in tokens from the beginning of the held-out text


@dataclass(frozen=True)
class Place:
    """Where something stands: a file, or a record of it, and a line counted from 1."""

    source: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}, line {self.line:,}"


@dataclass(frozen=True)
class Overlap:
    """Characters `start` to `end` of a text that stand word for word in the training text, and where."""

    start: int
    end: int
    place: Place

    @property
    def length(self) -> int:
        """In characters."""
        return self.end - self.start


@dataclass(frozen=True)
class Sample:
    """What the model wrote after a prompt, and which of it was copied; overlaps may overlap one another."""

    prompt: str
    text: str
    copied: float
    overlaps: tuple[Overlap, ...]


@dataclass(frozen=True)
class Match:
    """The longest that stands in the training text too, and where."""

    text: str
    characters: int
    place: Place


@dataclass(frozen=True)
class Copying:
    """How much of what the model writes is copied, beside text that people wrote: what follows the same prompts."""

    at_least: int  # characters of an overlap
    share: float
    human_share: float
    longest: Match | None  # of all samples, however short; none where nothing matches
    human_longest: Match | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Duplicate:
    """A stretch of the held-out text that stands in the training text too, and both its places."""

    text: str
    characters: int
    held_out: Place
    training: Place


@dataclass(frozen=True)
class Duplicates:
    """How much of the held-out text is not new at all."""

    at_least: int
    share: float
    rest_bits_per_byte: float | None  # of the text that is new; none where nothing is
    longest: tuple[Duplicate, ...]


@dataclass(frozen=True)
class Further:
    """What is to be expected of so many times the tokens: a loss, how near two of three come to it, bits a byte."""

    times: float
    tokens: int
    nats_per_token: float
    within: float
    bits_per_byte: float


@dataclass(frozen=True)
class Findings:
    """All that is known of how good a model is, and in `notes` what has to be known of the figures.

    `copying` and `duplicates` are `None` where they were not looked for.
    """

    run: str
    held_out: HeldOut
    model: Score
    interval: Interval
    baselines: tuple[Score, ...]
    curve: tuple[Further, ...]
    calibration: Calibration
    easiest: tuple[Passage, ...]
    hardest: tuple[Passage, ...]
    copying: Copying | None
    duplicates: Duplicates | None
    notes: tuple[str, ...]
