"""Prompts completed as text, in pieces as they are written: no broken character, and nothing of a stop text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from octavo.errors import SamplingError, TextError
from octavo.generation import Generation, generate
from octavo.model import GPT
from octavo.plain import simple
from octavo.sampling import SEEDS, Number, Sampling
from octavo.tokenizers import Tokenizer

FinishReason = Literal["stop", "length"]
Prompt = str | Sequence[int]  # a text, or the ids of one that is opened already


@dataclass(frozen=True)
class Piece:
    """What one completion gained: text that is certain by now, and the tokens read since the piece before.

    The last piece of a completion has a reason: `stop` where it ended by itself or at a stop text, else `length`.
    """

    index: int  # of the prompt, times n, plus which of its n completions
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]  # in nats, one per token
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Completion:
    """A whole completion. Its tokens include the one that ended it, its text ends before a stop text."""

    prompt: str
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason


def complete(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: str | Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: Number = 1.0,
    top_k: int | None = None,
    top_p: Number | None = None,
    min_p: Number | None = None,
    repetition_penalty: Number = 1.0,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    n: int = 1,
    slide: bool = True,
    bitwise: bool = False,
) -> Iterator[Piece]:
    """Complete each prompt n times, with the seeds seed, seed + 1, …, and yield the pieces as they come.

    A completion ends where the model ends its text, where a text of `stop` appears, or after so many new tokens. An
    empty prompt stands for the beginning of a text. A prompt of ids is read as it is, and what is written after it is a
    text of its own, as in a conversation. Raises `SamplingError` and `TextError` at the call.
    """
    texts, stops, n = _listed(prompts), _stops(stop), simple(n)
    _check(texts, stops, n)
    first = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        forbidden=tokenizer.unsayable(model.config.vocab_size),
    )
    samplings = [replace(first, seed=(first.seed + copy) % SEEDS) for copy in range(n)]
    generation = generate(
        model,
        [row for text in texts for row in [_ids(tokenizer, text)] * n],
        max_new_tokens=max_new_tokens,
        samplings=samplings * len(texts),
        stop=tokenizer.ends,
        slide=slide,
        bitwise=bitwise,
    )
    before = [row if isinstance(texts[index // n], str) else () for index, row in enumerate(generation.texts)]
    return _pieces(generation, [Writer(index, tokenizer, stops, after) for index, after in enumerate(before)])


def _stops(stop: str | Sequence[str]) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) or not isinstance(stop, Iterable) else tuple(stop)


def _listed(prompts: Any) -> list[Prompt]:
    """The prompts, whatever they came in; numbers alone are the ids of one."""
    rows = simple(prompts)
    several = isinstance(rows, Iterable) and not isinstance(rows, str | bytes)
    rows = list(map(simple, rows)) if several else [rows]
    rows = [rows] if several and rows and all(isinstance(row, int) for row in rows) else rows
    for row in rows:
        if isinstance(row, bytes) or not isinstance(row, Sequence):
            raise TextError(f"a prompt is {row!r:.80}; give a text, or the ids of its tokens")
    return rows


def _ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    return opened(tokenizer, prompt) if isinstance(prompt, str) else list(prompt)


def _check(prompts: Sequence[Prompt], stops: Sequence[str], n: int) -> None:
    if not prompts:
        raise TextError("there is no prompt; give at least one, an empty one begins a text")
    for stop in stops:
        if not isinstance(stop, str):
            raise SamplingError(f"a stop text is {stop!r}; give a string")
    if "" in stops:
        raise SamplingError("a stop text is empty; give at least one character")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise SamplingError(f"n is {n!r}; give a whole number from 1")


def completions(
    model: GPT, tokenizer: Tokenizer, prompts: str | Sequence[Prompt], *, max_new_tokens: int, n: int = 1, **words: Any
) -> list[Completion]:
    """What `complete` yields, joined: n completions of each prompt, in the order of the prompts."""
    texts, n = _listed(prompts), simple(n)
    found = complete(model, tokenizer, texts, max_new_tokens=max_new_tokens, n=n, **words)
    pieces: list[list[Piece]] = [[] for _ in range(len(texts) * n)]
    for piece in found:
        pieces[piece.index].append(piece)
    names = [text if isinstance(text, str) else tokenizer.decode(text, special=True) for text in texts]
    return [_joined(names[index // n], parts) for index, parts in enumerate(pieces)]


def opened(tokenizer: Tokenizer, text: str) -> list[int]:
    """A prompt as the model wants to read it: after what begins a text, and an empty one after the end of another.

    Raises `TextError` where the text is empty and the tokenizer has nothing to begin with.
    """
    tokens = [*tokenizer.opening, *tokenizer.encode(text)]
    if tokens:
        return tokens
    if tokenizer.end_of_text is None:
        raise TextError("the prompt is empty and this tokenizer has no token to begin a text with; give a prompt")
    return [tokenizer.end_of_text]


def _joined(prompt: str, pieces: Sequence[Piece]) -> Completion:
    reason = pieces[-1].finish_reason
    return Completion(
        prompt,
        "".join(piece.text for piece in pieces),
        tuple(token for piece in pieces for token in piece.tokens),
        tuple(logprob for piece in pieces for logprob in piece.logprobs),
        "length" if reason is None else reason,
    )


def _pieces(generation: Generation, writers: "Sequence[Writer]") -> Iterator[Piece]:
    for step in generation:
        for row, (token, logprob) in enumerate(zip(step.tokens, step.logprobs, strict=True)):
            if token is None or logprob is None:
                continue
            piece = writers[row].push(token, logprob, last=row not in generation.growing)
            if piece.finish_reason is not None:
                generation.end(row)
            if piece.text or piece.finish_reason is not None:
                yield piece


class Writer:
    """One completion as it grows, after the tokens of the text that it goes on with."""

    def __init__(self, index: int, tokenizer: Tokenizer, stops: Sequence[str], after: Sequence[int] = ()) -> None:
        self.index, self.ends = index, tokenizer.ends
        self.stream, self.watch = tokenizer.stream(after), StopWatch(stops)
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.given = 0  # characters

    @property
    def place(self) -> int:
        """Where the text of the next token begins, in characters."""
        return self.given + len(self.watch.held)

    def push(self, token: int, logprob: float, *, last: bool) -> Piece:
        """Take the next token, and give what is certain with it: the tokens too if it is any text, or the end."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        text = self.watch.push(self.stream.push(token))
        if last and not self.watch.stopped:
            text += self.watch.push(self.stream.finish())
            text += self.watch.finish()
        reason = self._reason(token, last)
        return self._piece(text, reason)

    def _reason(self, token: int, last: bool) -> FinishReason | None:
        if self.watch.stopped or token in self.ends:
            return "stop"
        return "length" if last else None

    def _piece(self, text: str, reason: FinishReason | None) -> Piece:
        if not text and reason is None:
            return Piece(self.index, "", (), ())
        self.given += len(text)
        tokens, self.tokens = tuple(self.tokens), []
        logprobs, self.logprobs = tuple(self.logprobs), []
        return Piece(self.index, text, tokens, logprobs, reason)


class StopWatch:
    """Lets a text through until a stop text is complete, and holds back what may be the beginning of one.

    >>> watch = StopWatch(["\\n\\n"])
    >>> watch.push("To be\\n"), watch.push("or"), watch.push("\\n\\nAh"), watch.stopped
    ('To be', '\\nor', '', True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.held, self.stopped = "", False

    def push(self, text: str) -> str:
        """Take more of the text; give what is certain not to belong to a stop text."""
        text, self.held = self.held + text, ""
        found = [(text.index(stop) + len(stop), -len(stop)) for stop in self.stops if stop in text]
        if found:  # the one that was complete first, however the text was cut
            self.stopped = True
            return text[: sum(min(found))]
        certain = len(text) - self._suspicious(text)
        self.held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """Say that no text follows; give what was held back."""
        text, self.held = self.held, ""
        return text

    def _suspicious(self, text: str) -> int:
        """The length of the longest ending of the text with which a stop text begins."""
        longest = max((len(stop) - 1 for stop in self.stops), default=0)
        lengths = range(min(longest, len(text)), 0, -1)
        return next((length for length in lengths if any(s.startswith(text[-length:]) for s in self.stops)), 0)
