"""A request while it is being answered: what the engine says of its texts, in the API's words, whole or as a stream."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

from octavo.server.engine.sequence import Alternatives, Request, Said, Sequence
from octavo.server.models import Served, refusing_when_busy
from octavo.server.refused import RefusedError, error_object

DONE = "data: [DONE]\n\n"
ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Form(Protocol):
    """How the API's two kinds of answers look."""

    @property
    def names(self) -> tuple[str, str, str]:
        """What an answer's id begins with, and what a whole answer and a piece of one are called."""
        ...

    def choice(self, told: "Told", number: int) -> dict[str, Any]:
        """A text that is whole."""
        ...

    def opening(self, number: int) -> dict[str, Any] | None:
        """What a stream says of a text before it has any."""
        ...

    def piece(self, said: Said, number: int) -> dict[str, Any]:
        """What a stream says of a text that went on."""
        ...


@dataclass
class Told:
    """All that was said of one text."""

    pieces: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[Alternatives] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    about_prompt: list[Said] = field(default_factory=list)
    finish_reason: str | None = None

    @property
    def text(self) -> str:
        """What was written."""
        return "".join(self.pieces)

    def add(self, said: Said) -> None:
        """One thing more."""
        if said.about_prompt:
            self.about_prompt.append(said)
            return
        self.pieces.append(said.text)
        self.tokens += said.tokens
        self.logprobs += said.logprobs
        self.alternatives += said.alternatives
        self.places += said.places
        self.finish_reason = said.finish_reason


class Writing:
    """Texts that one request has asked for, on their way."""

    def __init__(self, served: Served, requests: list[Request], form: Form, *, streamed: bool) -> None:
        """Hand them to the engine. Raises `RefusedError` where too many wait already."""
        self.served, self.form, self.streamed = served, form, streamed
        self.told = [Told() for _ in requests]  # of an answer that is given whole
        self.heard: list[tuple[int, Said]] = []  # of a stream, since it was written to; no longer than what was asked
        self.news = asyncio.Event()  # there is something to be written
        self.left, self.written = len(requests), 0
        self.error: str | None = None
        prefix, self.kind, self.chunk_kind = form.names
        self.head = {
            "id": f"{prefix}-{uuid4().hex}",
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": None,
        }
        with refusing_when_busy():
            self.sequences: list[Sequence] = served.engine.submit(requests, self._hear)

    @property
    def over(self) -> bool:
        """Whether all texts have ended, or the engine could not go on."""
        return self.error is not None or not self.left

    def _hear(self, number: int, said: Said) -> None:
        """Keep what became of a text. Who wants it whole is woken once, not for each token."""
        self.left -= said.last
        self.written += len(said.tokens) if not said.about_prompt else 0
        self.error = self.error or said.error
        if self.streamed:
            self.heard.append((number, said))
        else:
            self.told[number].add(said)
        if self.streamed or self.over:
            self.news.set()

    def cancel(self) -> None:
        """Let go of what is not written yet."""
        self.served.engine.cancel(self.sequences)

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece. Raises `RefusedError` where the engine could not go on."""
        await self.news.wait()
        if self.error is not None:
            raise RefusedError(500, self.error)
        return self._whole()

    def _whole(self) -> dict[str, Any]:
        choices = [self.form.choice(one, number) for number, one in enumerate(self.told)]
        return {**self.head, "object": self.kind, "choices": choices, "usage": self.usage()}

    async def stream(self, *, usage: bool) -> AsyncIterator[str]:
        """The answer as server-sent events, all that there are by now at once.

        Whoever stops listening lets the texts go.
        """
        try:
            if said := "".join(self._begin(usage)):
                yield said
            while True:
                await self.news.wait()
                self.news.clear()
                heard, self.heard = self.heard, []
                said = "".join(self._pieces(heard, usage))
                if self.over:
                    yield said + self._end(usage)
                    return
                yield said
        finally:
            self.cancel()

    def _begin(self, usage: bool) -> Iterator[str]:
        openings = [self.form.opening(number) for number in range(len(self.told))]
        return (self._event([opening], usage) for opening in openings if opening is not None)

    def _pieces(self, heard: list[tuple[int, Said]], usage: bool) -> Iterator[str]:
        for number, said in heard:
            if said.error is not None:
                yield self.broken(error_object(500, said.error))
                return
            yield self._event([self.form.piece(said, number)], usage)

    def broken(self, error: dict[str, Any]) -> str:
        """The event that says why a stream does not come to its end."""
        return event(error)

    def _end(self, usage: bool) -> str:
        used = self._event([], usage, self.usage()) if usage and self.error is None else ""
        return used + DONE

    def _event(self, choices: list[dict[str, Any]], usage: bool, used: dict[str, Any] | None = None) -> str:
        more = {"usage": used} if usage else {}
        chunk = {**self.head, "object": self.chunk_kind, "choices": choices, **more}
        return event(chunk)

    def usage(self) -> dict[str, Any]:
        """How many tokens were read and written; those that another text had read count, and are told apart."""
        prompts = {id(one.prompt): one for one in reversed(self.sequences)}.values()  # of copies, the first read it
        read = sum(len(one.prompt) for one in prompts)
        return {
            "prompt_tokens": read,
            "completion_tokens": self.written,
            "total_tokens": read + self.written,
            "prompt_tokens_details": {"cached_tokens": sum(one.reused for one in prompts)},
        }


def event(content: dict[str, Any]) -> str:
    """One event of a stream.

    >>> event({"id": 1})
    'data: {"id":1}\\n\\n'
    """
    return f"data: {ENCODE(content)}\n\n"
