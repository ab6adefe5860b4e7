"""A request while it is being answered: what the engine says of its texts, in the API's words, whole or as a stream."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

from octavo.server.engine.sequence import Alternatives, Request, Said, Sequence
from octavo.server.models import Served, refusing_when_busy
from octavo.server.refused import RefusedError

DONE = "data: [DONE]\n\n"


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

    def piece(self, said: Said, number: int, before: int) -> dict[str, Any]:
        """What a stream says of a text that went on, after so many characters."""
        ...


@dataclass
class Told:
    """All that was said of one text."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[Alternatives] = field(default_factory=list)
    about_prompt: list[Said] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, said: Said) -> None:
        """One thing more."""
        if said.about_prompt:
            self.about_prompt.append(said)
            return
        self.text += said.text
        self.tokens += said.tokens
        self.logprobs += said.logprobs
        self.alternatives += said.alternatives
        self.finish_reason = said.finish_reason


class Writing:
    """Texts that one request has asked for, on their way."""

    def __init__(self, served: Served, requests: list[Request], form: Form) -> None:
        """Hand them to the engine. Raises `RefusedError` where too many wait already."""
        self.served, self.form = served, form
        self.heard: asyncio.Queue[tuple[int, Said]] = asyncio.Queue()  # no longer than what was asked for
        prefix, self.kind, self.chunk_kind = form.names
        self.head = {
            "id": f"{prefix}-{uuid4().hex}",
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": None,
        }
        self.written = 0
        with refusing_when_busy():
            self.sequences: list[Sequence] = served.engine.submit(requests, self._hear)

    def _hear(self, number: int, said: Said) -> None:
        self.heard.put_nowait((number, said))

    def cancel(self) -> None:
        """Let go of what is not written yet."""
        self.served.engine.cancel(self.sequences)

    async def said(self) -> AsyncIterator[tuple[int, Said]]:
        """What becomes of the texts, until all have ended. Raises `RefusedError` where the engine could not go on."""
        left = len(self.sequences)
        while left:
            number, said = await self.heard.get()
            if said.error is not None:
                raise RefusedError(500, said.error)
            left -= said.last
            self.written += len(said.tokens) if not said.about_prompt else 0
            yield number, said

    async def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        told = [Told() for _ in self.sequences]
        async for number, said in self.said():
            told[number].add(said)
        choices = [self.form.choice(one, number) for number, one in enumerate(told)]
        return {**self.head, "object": self.kind, "choices": choices, "usage": self.usage()}

    async def stream(self, *, usage: bool) -> AsyncIterator[str]:
        """The answer as server-sent events; whoever stops listening lets the texts go."""
        try:
            async for event in self._events(usage):
                yield event
        finally:
            self.cancel()

    async def _events(self, usage: bool) -> AsyncIterator[str]:
        lengths = [0] * len(self.sequences)
        for number in range(len(self.sequences)):
            if (opening := self.form.opening(number)) is not None:
                yield self._event([opening], usage)
        try:
            async for number, said in self.said():
                yield self._event([self.form.piece(said, number, lengths[number])], usage)
                lengths[number] += len(said.text)
        except RefusedError as error:
            yield event(error.content())
        else:
            if usage:
                yield self._event([], usage, self.usage())
        yield DONE

    def _event(self, choices: list[dict[str, Any]], usage: bool, used: dict[str, Any] | None = None) -> str:
        more = {"usage": used} if usage else {}
        chunk = {**self.head, "object": self.chunk_kind, "choices": choices, **more}
        return event(chunk)

    def usage(self) -> dict[str, Any]:
        """How many tokens were read and written; those that another text had read count, and are told apart."""
        prompts = {id(one.prompt): one for one in self.sequences}.values()
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
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"
