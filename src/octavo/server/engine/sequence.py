"""One text that is being written: what was asked for, what there is of it, and what is told of it."""

from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from octavo.completion import FinishReason, Writer
from octavo.reading import window_start
from octavo.sampling import Sampling

if TYPE_CHECKING:
    from octavo.server.engine.memory import Slot

Alternatives = tuple[tuple[int, float], ...]  # the likeliest tokens at a position, each with its log-probability


@dataclass(frozen=True, kw_only=True)
class Request:
    """How one text is to go on from a prompt of ids."""

    prompt: tuple[int, ...]
    sampling: Sampling
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    alternatives: int = 0  # how many tokens to tell at each position
    about_prompt: bool = False  # whether the prompt is told of too, from its second token on
    slide: bool = True  # whether the text may outgrow the context
    goes_on: bool = True  # whether what is written is more of the prompt's text, not a text of its own


@dataclass(frozen=True, kw_only=True)
class Said:
    """What became of a text since the last one: the last of all has a reason, or an error.

    Log-probabilities are in nats. With the last token of a prompt comes what was to be told about the prompt.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    alternatives: tuple[Alternatives, ...] = ()
    places: tuple[int, ...] = ()  # in characters: where each token begins in the text that is written
    finish_reason: FinishReason | None = None
    error: str | None = None
    about_prompt: bool = False

    @property
    def last(self) -> bool:
        """Whether nothing follows."""
        return self.finish_reason is not None or self.error is not None


class Text(abc.Sequence[int]):
    """A prompt and what was added to it: copies of a prompt hold it once."""

    def __init__(self, prompt: tuple[int, ...]) -> None:
        self.prompt, self.added = prompt, list[int]()

    def __len__(self) -> int:
        return len(self.prompt) + len(self.added)

    def __iter__(self) -> abc.Iterator[int]:
        return chain(self.prompt, self.added)

    def __getitem__(self, place: Any) -> Any:
        if not isinstance(place, slice):
            place = range(len(self))[place]
            return self[place : place + 1][0]
        begin, stop, _ = place.indices(len(self))
        before = len(self.prompt)
        return [*self.prompt[begin:stop], *self.added[max(0, begin - before) : max(0, stop - before)]]


class Sequence:
    """A request on its way through the engine."""

    def __init__(
        self, request: Request, writer: Writer, hear: Callable[[Said], None], context: int, ends: tuple[int, ...]
    ) -> None:
        self.request, self.writer, self.hear = request, writer, hear
        self.context, self.ends = context, ends
        self.text = Text(request.prompt)
        self.start = window_start(len(self.text), context)
        self.slot: Slot | None = None
        self.reused = 0  # tokens of the prompt that another text had read
        self.told = 1 if request.about_prompt else len(self.text)  # up to here the prompt was told of
        self.cancelled = False
        self.alternatives: list[Alternatives] = []  # of tokens whose text is not certain yet
        self.places: list[int] = []  # of the same

    @property
    def prompt(self) -> tuple[int, ...]:
        """What it goes on from."""
        return self.request.prompt

    @property
    def known(self) -> int:
        """How many tokens of the window are remembered."""
        return 0 if self.slot is None else self.slot.known

    @property
    def window(self) -> list[int]:
        """The tokens that the model sees."""
        return self.text[self.start :]

    @property
    def unread(self) -> int:
        """How many tokens of the window are still to be read."""
        return len(self.text) - self.start - self.known

    def next(self, count: int) -> list[int]:
        """The next tokens that are to be read."""
        first = self.start + self.known
        return self.text[first : first + count]

    @property
    def writing(self) -> bool:
        """Whether there is but the newest token to read."""
        return self.slot is not None and self.unread == 1

    @property
    def written(self) -> int:
        """How many tokens the model has added."""
        return len(self.text) - len(self.prompt)

    def push(self, token: int, logprob: float, alternatives: Alternatives) -> Said | None:
        """Take the next token; give what is certain with it, if anything is."""
        if not self.request.max_new_tokens:  # only the prompt was to be told of
            return Said(finish_reason="length")
        self.text.added.append(token)
        self.alternatives.append(alternatives)
        self.places.append(self.writer.place)
        full = not self.request.slide and len(self.text) >= self.context
        last = self.written >= self.request.max_new_tokens or token in self.ends or full
        piece = self.writer.push(token, logprob, last=last)
        if not piece.text and piece.finish_reason is None:
            return None
        told, self.alternatives = tuple(self.alternatives), []
        places, self.places = tuple(self.places), []
        return Said(
            text=piece.text,
            tokens=piece.tokens,
            logprobs=piece.logprobs,
            alternatives=told,
            places=places,
            finish_reason=piece.finish_reason,
        )

    def slide(self) -> bool:
        """Let the window move on where the text has outgrown the context; tells whether it did."""
        start = window_start(len(self.text), self.context)
        moved, self.start = start != self.start, start
        return moved
