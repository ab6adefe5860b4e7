"""The page's way to look inside: what it may ask. What answers is loaded when the first question comes."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import AfterValidator, BaseModel, Field, StrictInt
from pydantic_core import to_json

from octavo.errors import OctavoError
from octavo.server.refused import RefusedError
from octavo.server.schema import Name, Number, Text, Token
from octavo.server.strict import LEFT, REFUSALS, StrictRoute, while_here

if TYPE_CHECKING:
    from octavo.server.page.peering import Lenses

CHANGES = 4096
LONGEST = 1 << 16  # characters that are cut into tokens before it is known whether there is room for these

Count = Annotated[StrictInt, Field(ge=0, lt=2**53)]
Json = dict[str, Any]


def short(text: str) -> str:
    """A text that may be looked at."""
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters, and {LONGEST} can be looked at together; shorten it")
    return text


class Asked(BaseModel):
    """Which model, and after which of its steps; the newest weights where none is said.

    An answer says when its weights were `written`. Who asks more about it says so too, and is answered from the same
    ones, for a training may have written others meanwhile.
    """

    model: Name | None = None
    step: Count | None = None
    written: Annotated[str, Field(max_length=32)] | None = None


class TextRequest(Asked):
    """A text to look at, with parts of the model off."""

    text: Annotated[Text, AfterValidator(short), Field(json_schema_extra={"maxLength": LONGEST})]
    off: Annotated[list[Annotated[str, Field(max_length=32)]], Field(max_length=CHANGES)] = []
    top: Annotated[StrictInt, Field(ge=1, le=20)] = 5

    @property
    def changes(self) -> dict[str, float]:
        """What is off, as numbers that parts are multiplied by."""
        return dict.fromkeys(self.off, 0.0)


class HeadsRequest(TextRequest):
    """All heads at a glance, and the attention of a layer where one is named."""

    layer: Count | None = None


class AttentionRequest(TextRequest):
    """A layer of it."""

    layer: Count


class PartsRequest(TextRequest):
    """A logit of it."""

    position: Count
    token: Token


class RegenerateRequest(TextRequest):
    """How it goes on."""

    max_new_tokens: Annotated[StrictInt, Field(ge=1, le=500)] = 60
    temperature: Annotated[Number, Field(ge=0, le=2)] = 0.0
    seed: Annotated[StrictInt, Field(ge=0, lt=2**62)] = 0


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """The thread in which questions wait for each other: nobody else's work waits behind them."""
    app.state.asking = ThreadPoolExecutor(1, "octavo lenses")
    try:
        yield
    finally:
        await asyncio.to_thread(app.state.asking.shutdown, cancel_futures=True)


router = APIRouter(prefix="/page", route_class=StrictRoute, responses=REFUSALS, lifespan=life)


def lenses_of(state: Any) -> "Lenses":
    """What looks into the models of an application; loading it takes a second or two."""
    if state.lenses is None:
        from octavo.server.page.peering import Lenses

        state.lenses = Lenses(state.sources)
    found: Lenses = state.lenses
    return found


async def answer(request: Request, question: str, asked: Asked) -> Response:
    """An answer from the thread of the questions, where it becomes JSON too; octavo's errors become the request's.

    A question whose client has left before it is its turn is not looked into.
    """

    def work() -> bytes:
        return to_json(getattr(lenses_of(request.app.state), question)(asked), inf_nan_mode="null")

    asking = asyncio.get_running_loop().run_in_executor(request.app.state.asking, work)
    try:
        found = await while_here(request, asking)
    except OctavoError as error:
        raise RefusedError(400, str(error)) from None
    return Response(status_code=LEFT) if found is None else Response(found, media_type="application/json")


@router.post("/look", response_model=Json)
async def look(request: Request, asked: TextRequest) -> Response:
    """A text with what is seen of it first."""
    return await answer(request, "look", asked)


@router.post("/heads", response_model=Json)
async def heads(request: Request, asked: HeadsRequest) -> Response:
    """All heads at a glance."""
    return await answer(request, "heads", asked)


@router.post("/layers", response_model=Json)
async def layers(request: Request, asked: TextRequest) -> Response:
    """What each layer would say."""
    return await answer(request, "layers", asked)


@router.post("/attention", response_model=Json)
async def attention(request: Request, asked: AttentionRequest) -> Response:
    """Where a layer's heads look."""
    return await answer(request, "attention", asked)


@router.post("/parts", response_model=Json)
async def parts(request: Request, asked: PartsRequest) -> Response:
    """Who said a token."""
    return await answer(request, "parts", asked)


@router.post("/regenerate", response_model=Json)
async def regenerate(request: Request, asked: RegenerateRequest) -> Response:
    """How a text goes on with parts of the model off."""
    return await answer(request, "regenerate", asked)


@router.post("/map", response_model=Json)
async def embedding_map(request: Request, asked: Asked) -> Response:
    """The vocabulary as a map."""
    return await answer(request, "embedding_map", asked)


@router.post("/weights", response_model=Json)
async def weights(request: Request, asked: Asked) -> Response:
    """Figures of the weights, and how far they have come from the first that were kept."""
    return await answer(request, "weights", asked)
