"""The models that are served, by name: each with its engine."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from octavo import toml
from octavo.chat import read_conversation
from octavo.completion import opened
from octavo.config import ANSWERING, USUAL
from octavo.devices import placed
from octavo.errors import ConfigError, OctavoError
from octavo.porting import load
from octavo.sampling import Sampling
from octavo.saved import written_at
from octavo.server.engine.engine import BusyError, CrowdError, Engine
from octavo.server.refused import RefusedError
from octavo.server.schema import Writing
from octavo.server.worker import Worker
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer

RETRY = "1"  # seconds
QUIET = 60  # seconds without a text, after which old weights are forgotten
SHORT = 1000  # characters, or ids, that are turned sooner than another thread is woken to turn them
WRITING = frozenset({"/v1/completions", "/v1/chat/completions", "/v1/responses"})
ReadPrompt = tuple[str, tuple[int, ...]]  # a prompt as text and as ids
T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """A model under the name that clients call it by."""

    name: str
    engine: Engine
    since: int = field(default_factory=lambda: int(time.time()))
    run: Path | None = None  # the folder of its training, where it came from one
    source: Path | None = None  # where it was opened, for those who want to look inside
    written: int = 0  # when its weights were written
    again: "Callable[[], Served] | None" = None  # opens it anew, where it may come to be better

    @property
    def tokenizer(self) -> Tokenizer:
        """Its vocabulary."""
        return self.engine.tokenizer

    @property
    def context(self) -> int:
        """How many tokens it sees."""
        return self.engine.config.context

    @property
    def answers(self) -> bool:
        """Whether it was taught to hold a conversation."""
        return self.tokenizer.answers

    def card(self) -> dict[str, object]:
        """What /v1/models says of it."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.since,
            "owned_by": "octavo",
            "max_model_len": self.context,
            "answers": self.answers,  # whether it was taught a conversation, which the API has no word for
        }

    def check_room(self, texts: int) -> None:
        """Raise `RefusedError` where so many more texts would be too many to wait."""
        with refusing_when_busy():
            self.engine.check_room(texts)

    async def read(self, prompts: "list[str | list[int]]") -> list[ReadPrompt]:
        """Prompts that are texts or ids. Much of them takes a while, in which others go on."""
        return await refusing("prompt", self._read, prompts, short=sum(map(len, prompts)) < SHORT)

    def _read(self, prompts: "list[str | list[int]]") -> list[ReadPrompt]:
        return [
            (one, tuple(opened(self.tokenizer, one)))
            if isinstance(one, str)
            else (self.tokenizer.decode(one, special=True), tuple(one))
            for one in prompts
        ]

    async def decode(self, ids: list[int], param: str) -> str:
        """The text of ids. Raises `RefusedError` for one that no token has."""
        return await refusing(param, partial(self.tokenizer.decode, special=True), ids, short=len(ids) < SHORT)

    async def converse(self, messages: list[dict[str, str]], param: str) -> Sequence[int]:
        """A conversation's ids; a model that was never taught one goes on with what was said last."""
        if self.answers:
            return await refusing(param, read_conversation, self.tokenizer, messages)
        ((_, ids),) = await self.read([messages[-1]["content"]])
        return ids

    def sampling(self, asked: Writing, *, answering: bool = False) -> Sampling:
        """How tokens are to be chosen, but for the seed. Raises `RefusedError` for a token that is none."""
        usual = ANSWERING if answering and self.answers else USUAL
        size, endless = self.engine.config.vocab_size, self.tokenizer.ends if asked.ignore_eos else ()
        try:
            sampling = Sampling(
                temperature=usual if asked.temperature is None else asked.temperature,
                top_p=asked.top_p,
                top_k=asked.top_k if asked.top_k and asked.top_k > 0 else None,
                min_p=asked.min_p,
                frequency_penalty=asked.frequency_penalty or 0.0,
                presence_penalty=asked.presence_penalty or 0.0,
                repetition_penalty=asked.repetition_penalty or 1.0,
                logit_bias={int(token): bias for token, bias in (asked.logit_bias or {}).items()},
                forbidden=(*self.tokenizer.unsayable(size), *endless),
            )
            sampling.check_vocabulary(size)
        except OctavoError as error:
            raise RefusedError(400, str(error)) from None
        return sampling

    def spelled(self, token: int) -> str:
        """A token as text, a special one by its name, one that only the model knows of by its number."""
        if token >= self.tokenizer.vocab_size:  # models are made wider than their vocabulary, to a round number
            return f"[{token}]"
        own = bytes(self.spelled_bytes(token)).decode(errors="replace")
        return own or self.tokenizer.decode([token], special=True)

    def places(self, text: str, ids: Sequence[int]) -> list[int]:
        """Where each token begins in the text that they come from, in characters.

        A special token takes room only where the text has its name: what opens a text has none in it. An unknown one
        takes that of the piece that it stands for, where the text was given and not the ids.
        """
        stream, places, place = self.tokenizer.stream(), list[int](), 0
        simple = self.tokenizer if isinstance(self.tokenizer, SimpleTokenizer) else None
        given = [*self.tokenizer.opening, *self.tokenizer.encode(text)] == list(ids)
        hidden = iter([len(one.text) for one in simple.unknowns(text)] if simple and given else [])
        for token in ids:
            places.append(place)
            name = self.tokenizer.decode([token], special=True)
            special = name != self.tokenizer.decode([token])
            unseen = next(hidden, 0) if token == self.tokenizer.unknown else 0
            place += len(stream.push(token)) or unseen or (len(name) if special and text.startswith(name, place) else 0)
        return places

    def spelled_bytes(self, token: int) -> list[int]:
        """The bytes of a token, which may be but a part of a character; none where only the model knows of it."""
        if token >= self.tokenizer.vocab_size:
            return []
        if isinstance(self.tokenizer, BPETokenizer):
            return list(self.tokenizer.token_bytes(token))
        return list(self.tokenizer.decode([token]).encode())


def open_served(place: Path, name: str, *, bitwise: bool = False, device: str = "auto") -> Served:
    """The model at a place under a name; that of a run is opened again when its training has written better weights."""
    return Worker(rest=0).do(partial(_open, place, name, bitwise, device))


def _open(place: Path, name: str, bitwise: bool, device: str) -> Served:
    written = written_at(place)  # before they are read: what is written meanwhile is newer
    run = place if (place / toml.NAME).is_file() else None
    again = partial(open_served, place, name, bitwise=bitwise, device=device) if run else None
    model, tokenizer = load(place)
    try:
        engine = Engine(placed(model, device), tokenizer, bitwise=bitwise)
    except torch.OutOfMemoryError:
        raise ConfigError(f"{place} and its copy do not fit into the memory of the GPU; give --device cpu") from None
    return Served(name, engine, run=run, source=place, written=written, again=again)


class Models:
    """What is served. A name is looked up here and nowhere else: it never becomes a path."""

    def __init__(self, served: list[Served], log: Callable[[str], object] = lambda line: None) -> None:
        self.log = log
        self.named: dict[str, Served] = {one.name: one for one in served}
        self._renewing = asyncio.Lock()
        self._leaving: dict[Engine, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Have the engines write, and call those who listen in the running event loop."""
        for served in self.named.values():
            begin(served.engine)

    async def stop(self) -> None:
        """End all engines, also those that are kept only for texts on their way."""
        for task in self._leaving.values():
            task.cancel()
        for engine in [*self._leaving, *(served.engine for served in self.named.values())]:
            await asyncio.to_thread(engine.stop)

    async def newest(self, name: str | None) -> Served:
        """The model of this name with the weights that were written last. Raises `RefusedError` where there is none.

        Texts on their way are written to their end with the weights that began them. Whoever comes while new ones are
        opened is answered with those that are there.
        """
        served = self.find(name)
        if not self._renewing.locked() and served.again is not None and served.source is not None:
            written = written_at(served.source)
            if written != served.written:
                async with self._renewing:
                    await self._renew(served, served.again, written)
        return self.find(served.name)

    async def _renew(self, served: Served, again: Callable[[], Served], written: int) -> None:
        try:
            newer = await asyncio.to_thread(again)
        except (OctavoError, OSError) as error:  # it is gone, or being written over: tried again when it changes again
            self.log(f"{served.name} goes on with the weights it has: {error}")
            self.named[served.name] = replace(served, written=written)
            return
        begin(newer.engine)
        self.named[served.name] = newer
        self._leaving[served.engine] = asyncio.create_task(self._let_go(served.engine))

    async def _let_go(self, engine: Engine) -> None:
        """End an engine when nobody has had anything written for a while."""
        quiet = 0
        while quiet < QUIET:
            await asyncio.sleep(1)
            quiet = 0 if engine.load().active or engine.load().waiting else quiet + 1
        await asyncio.to_thread(engine.stop)
        del self._leaving[engine]

    def check_room(self, scope: Mapping[str, Any]) -> None:
        """Refuse a request for text while every engine has as many waiting as may: it costs least before it is read."""
        engines = [served.engine for served in self.named.values()]
        if scope["path"] in WRITING and all(engine.full for engine in engines):
            with refusing_when_busy():
                engines[0].check_room()

    def sources(self) -> dict[str, Path]:
        """Where the models were opened, by their names."""
        return {one.name: one.source for one in self.named.values() if one.source is not None}

    def find(self, name: str | None) -> Served:
        """The model of this name, the first where none is said. Raises `RefusedError` where there is none."""
        found = next(iter(self.named.values())) if name is None else self.named.get(name)
        if found is None:
            there = ", ".join(self.named)
            raise RefusedError(404, f"no model {name!r:.80}; there is {there}", param="model", code="model_not_found")
        return found


def begin(engine: Engine) -> None:
    """Have an engine write, and call those who listen in the running event loop."""
    engine.deliver_in(asyncio.get_running_loop())
    engine.start()


@contextmanager
def refusing_when_busy() -> Iterator[None]:
    """An engine that is asked too much tells the client to come again, where that may help."""
    try:
        yield
    except CrowdError as error:
        raise RefusedError(400, str(error)) from None
    except BusyError as error:
        raise RefusedError(429, str(error), code="queue_full", headers={"Retry-After": RETRY}) from None


async def refusing(param: str, work: Callable[..., T], *values: object, short: bool = False) -> T:
    """Do what may take a while in another thread, what is short at once; octavo's own errors become the request's."""
    try:
        return work(*values) if short else await asyncio.to_thread(work, *values)
    except OctavoError as error:
        raise RefusedError(400, str(error), param=param) from None
