"""The page's way to look inside: the models of this service by name, as they are and as they were."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, StrictInt

from octavo import lens, looking
from octavo.errors import OctavoError
from octavo.looking import Json, Look
from octavo.model import GPT
from octavo.saved import snapshots
from octavo.server.refused import RefusedError
from octavo.server.schema import Name, Number, Text, Token
from octavo.tokenizers import Tokenizer

KEPT = 3  # models, and looks, that the next question is likely to be about
CHANGES = 4096

T = TypeVar("T")
Count = Annotated[StrictInt, Field(ge=0)]


class Asked(BaseModel):
    """Which model, and after which of its steps; the newest weights where none is said."""

    model: Name | None = None
    step: Count | None = None


class LookRequest(Asked):
    """A text to look at, with parts of the model off."""

    text: Annotated[Text, Field(max_length=1 << 16)]
    off: Annotated[list[Annotated[str, Field(max_length=32)]], Field(max_length=CHANGES)] = []
    top: Annotated[StrictInt, Field(ge=1, le=20)] = 5

    @property
    def changes(self) -> dict[str, float]:
        """What is off, as numbers that parts are multiplied by."""
        return dict.fromkeys(self.off, 0.0)


class AttentionRequest(LookRequest):
    """A layer of it."""

    layer: Count


class PartsRequest(LookRequest):
    """A logit of it."""

    position: Count
    token: Token


class RegenerateRequest(LookRequest):
    """How it goes on."""

    max_new_tokens: Annotated[StrictInt, Field(ge=1, le=500)] = 60
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.0
    seed: Annotated[StrictInt, Field(ge=0, lt=2**62)] = 0


@dataclass(frozen=True)
class Opened:
    """A model with its tokenizer."""

    model: GPT
    tokenizer: Tokenizer


class Lenses:
    """The models that can be looked into, by the names that they are served by, and what was asked last.

    They are copies of their own, opened when they are first asked for: whoever listens to a model makes it slow. One
    question is answered at a time.
    """

    def __init__(self, places: Mapping[str, Path]) -> None:
        self.places = places
        self._lock = Lock()
        self._opened: OrderedDict[tuple[object, ...], Opened] = OrderedDict()
        self._looks: OrderedDict[tuple[object, ...], Look] = OrderedDict()

    def place(self, name: str | None) -> tuple[str, Path]:
        """A model's name and folder, the first where none is said. Raises `RefusedError` where there is none."""
        found = next(iter(self.places), None) if name is None else name
        if found is None or found not in self.places:
            there = ", ".join(self.places) or "none"
            raise RefusedError(404, f"no model {found!r:.80} can be looked into; there is {there}", param="model")
        return found, self.places[found]

    def ask(self, asked: Asked, work: Callable[[Opened], T]) -> T:
        """Do something with the model that is asked for."""
        name, place = self.place(asked.model)
        with self._lock:
            key = (name, asked.step, written_at(place))
            return work(kept(self._opened, key, lambda: Opened(*looking.open_model(place, asked.step))))

    def look(self, asked: LookRequest, work: Callable[[Look], T]) -> T:
        """Do something with a look; the next question is most often about the same one."""

        def with_model(opened: Opened) -> T:
            key = (id(opened.model), asked.text, tuple(sorted(asked.off)), asked.top)
            return work(kept(self._looks, key, lambda: looked(opened, asked)))

        return self.ask(asked, with_model)


def looked(opened: Opened, asked: LookRequest) -> Look:
    """A look at what is asked."""
    return looking.look(opened.model, opened.tokenizer, asked.text, changes=asked.changes, top=asked.top)


def written_at(place: Path) -> int:
    """When the weights of a run were written last: a training writes better ones now and then."""
    try:
        return (place / "model.safetensors" if place.is_dir() else place).stat().st_mtime_ns
    except OSError:
        return len(snapshots(place))


def kept(memory: OrderedDict[Any, T], key: Any, make: Callable[[], T]) -> T:
    """What is remembered under a key, made where it is not; the oldest is forgotten."""
    found = memory[key] if key in memory else make()
    memory[key] = found
    memory.move_to_end(key)
    while len(memory) > KEPT:
        memory.popitem(last=False)
    return found


lenses = APIRouter(prefix="/page", include_in_schema=False)


async def answer(request: Request, work: Callable[[Lenses], Json]) -> Json:
    """An answer from a thread of its own; octavo's errors become the request's."""
    try:
        return await asyncio.to_thread(work, request.app.state.lenses)
    except OctavoError as error:
        raise RefusedError(400, str(error)) from None


@lenses.post("/look")
async def look(request: Request, asked: LookRequest) -> Json:
    """A text with all lenses."""

    def whole(found: Look) -> Json:
        return {**found.to_dict(), "thumbnails": found.thumbnails()}

    return await answer(request, lambda models: models.look(asked, whole))


@lenses.post("/attention")
async def attention(request: Request, asked: AttentionRequest) -> Json:
    """Where a layer's heads look."""
    return await answer(request, lambda models: models.look(asked, lambda found: found.attention(asked.layer)))


@lenses.post("/parts")
async def parts(request: Request, asked: PartsRequest) -> Json:
    """Who said a token."""

    def taken_apart(found: Look) -> Json:
        return found.parts(asked.position, asked.token)

    return await answer(request, lambda models: models.look(asked, taken_apart))


@lenses.post("/regenerate")
async def regenerate(request: Request, asked: RegenerateRequest) -> Json:
    """How a text goes on with parts of the model off."""
    words: Json = {"max_new_tokens": asked.max_new_tokens, "temperature": asked.temperature, "seed": asked.seed}

    def written(opened: Opened) -> Json:
        return looking.regenerated(opened.model, opened.tokenizer, asked.text, asked.changes, **words)

    return await answer(request, lambda models: models.ask(asked, written))


@lenses.post("/map")
async def embedding_map(request: Request, asked: Asked) -> Json:
    """The vocabulary as a map."""
    return await answer(
        request, lambda models: models.ask(asked, lambda opened: looking.mapped(opened.model, opened.tokenizer))
    )


@lenses.post("/weights")
async def weights(request: Request, asked: Asked) -> Json:
    """Figures of the weights, and how far they have come from the first that were kept."""
    return await answer(request, lambda models: _weights(models, asked))


def _weights(models: Lenses, asked: Asked) -> Json:
    _, place = models.place(asked.model)
    first = snapshots(place)[:1] if place.is_dir() else []
    before = models.ask(Asked(model=asked.model, step=first[0]), lambda opened: opened) if first else None
    state = dict(before.model.named_parameters()) if before else None
    found = models.ask(asked, lambda opened: lens.matrices(opened.model, state))
    return {"weights": [vars(matrix) | {"std": matrix.deviation} for matrix in found]}
