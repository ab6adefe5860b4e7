"""The service's routes, each a few lines: what is asked, what is answered."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from octavo import __version__
from octavo.config import BASE_STOP
from octavo.sampling import SEEDS, Sampling
from octavo.server import metrics
from octavo.server.engine.sequence import Request as Wanted
from octavo.server.forms import ChatForm, CompletionForm
from octavo.server.models import Models, ReadPrompt, Served, refusing
from octavo.server.page import files, learning, lenses, reporting, state
from octavo.server.page.baselines import Counting
from octavo.server.page.reporting import Reports
from octavo.server.refused import RefusedError
from octavo.server.responding import Responding
from octavo.server.response_schema import ResponseRequest
from octavo.server.schema import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from octavo.server.strict import LEFT, REFUSALS, StrictRoute, refuse_in_the_apis_words, while_here
from octavo.server.writing import Writing

DEFAULT_TOKENS = 16  # of a completion, as the API has it
THERE = "ask /v1/chat/completions, /v1/responses, /v1/completions or /v1/models"

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, whole or streamed", "content": {"application/json": {}, "text/event-stream": {}}}
}


api = APIRouter(route_class=StrictRoute, responses=REFUSALS)


def find(request: Request, name: str | None) -> Served:
    """The model that a request names."""
    models: Models = request.app.state.models
    return models.find(name)


async def newest(request: Request, name: str | None) -> Served:
    """The model that a request names, with its newest weights."""
    models: Models = request.app.state.models
    return await models.newest(name)


@api.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """What is served."""
    return {"object": "list", "data": [one.card() for one in request.app.state.models.named.values()]}


@api.get("/v1/models/{name}")
async def show_model(request: Request, name: str) -> dict[str, Any]:
    """One of what is served."""
    return find(request, name).card()


@api.post("/v1/completions", responses=STREAMED)
async def complete(request: Request, asked: CompletionRequest) -> Any:
    """Texts that go on from prompts."""
    served = await newest(request, asked.model)
    given, copies, wants = _given(asked), asked.n or 1, asked.logprobs is not None
    served.check_room(len(given) * copies)  # it costs least before they are read
    prompts = await served.read(given)
    about = bool(asked.echo and wants)
    _check_completion(served, asked, prompts, about)
    sampling = served.sampling(asked)
    wanted = [
        Wanted(
            prompt=ids,
            sampling=copy,
            max_new_tokens=DEFAULT_TOKENS if asked.max_tokens is None else asked.max_tokens,
            stop=asked.stops,
            alternatives=asked.logprobs or 0,
            about_prompt=about,
        )
        for _, ids in prompts
        for copy in _copies(sampling, asked.seed, copies)
    ]
    repeated = tuple(one for one in prompts for _ in range(copies))
    form = CompletionForm(served, repeated, bool(asked.echo), wants, ids=bool(asked.return_token_ids))
    return await answer(request, Writing(served, wanted, form, streamed=bool(asked.stream)), asked)


@api.post("/v1/chat/completions", responses=STREAMED)
async def converse(request: Request, asked: ChatRequest) -> Any:
    """The next turn of a conversation."""
    served, wanted = await _turns(request, asked)
    form = ChatForm(served, bool(asked.logprobs))
    return await answer(request, Writing(served, wanted, form, streamed=bool(asked.stream)), asked)


@api.post("/v1/responses", responses=STREAMED)
async def respond(request: Request, asked: ResponseRequest) -> Any:
    """The same, as OpenAI's newer clients ask for it."""
    served, wanted = await _turns(request, asked)
    return await answer(request, Responding(served, wanted, asked), asked)


@api.api_route("/v1/responses/{name}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
@api.api_route("/v1/responses/{name}/{part}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
async def recall(request: Request) -> None:
    """Nothing: what was answered is forgotten."""
    path = request.url.path
    raise RefusedError(404, f"there is no {path!r:.80} here: no answer is kept; send the whole conversation anew")


@api.post("/tokenize")
async def tokenize(request: Request, asked: TokenizeRequest) -> dict[str, Any]:
    """A text's ids."""
    served = find(request, asked.model)
    ids = await refusing("content", served.tokenizer.encode, asked.content)
    return {"tokens": ids, "count": len(ids), "max_model_len": served.context}


@api.post("/detokenize")
async def detokenize(request: Request, asked: DetokenizeRequest) -> dict[str, Any]:
    """The text of ids."""
    return {"content": await find(request, asked.model).decode(asked.tokens, "tokens")}


@api.get("/health")
async def health() -> dict[str, str]:
    """That it is there."""
    return {"status": "ok"}


@api.get("/metrics", response_class=PlainTextResponse)
async def show_metrics(request: Request) -> PlainTextResponse:
    """How much is asked and done, in Prometheus' text format."""
    models: Models = request.app.state.models
    text = metrics.text(request.app.state.counts, {name: one.engine.load() for name, one in models.named.items()})
    return PlainTextResponse(text, media_type=metrics.TYPE)


async def answer(request: Request, writing: Writing, asked: CompletionRequest | ChatRequest | ResponseRequest) -> Any:
    """What is written, as a stream or whole; a client that goes away is not written for any longer."""
    request.scope["octavo.writing"] = writing  # for the log
    if asked.stream:
        usage = asked.stream_options is not None and asked.stream_options.include_usage
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(writing.stream(usage=usage), media_type="text/event-stream", headers=headers)
    try:
        whole = await while_here(request, writing.whole())
    finally:
        writing.cancel()
    return Response(status_code=LEFT) if whole is None else JSONResponse(whole)


async def _turns(request: Request, asked: ChatRequest | ResponseRequest) -> tuple[Served, list[Wanted]]:
    """Who is to take the next turn of a conversation, and how, as often as it is asked for."""
    served = await newest(request, asked.model)
    served.check_room(asked.n or 1)
    ids = tuple(await served.converse(asked.conversation, asked.said_in))
    _check_conversation(served, asked, len(ids))
    sampling = served.sampling(asked, answering=True)
    return served, [
        Wanted(
            prompt=ids,
            sampling=copy,
            max_new_tokens=asked.most or served.context,
            stop=asked.stops if served.answers else (*asked.stops, *BASE_STOP),
            alternatives=asked.top_logprobs or 0,
            slide=not served.answers,
            goes_on=not served.answers,
        )
        for copy in _copies(sampling, asked.seed, asked.n or 1)
    ]


def _given(asked: CompletionRequest) -> list[str | list[int]]:
    """The prompts, in whichever of the API's four forms they come."""
    given: list[Any] = asked.prompt if isinstance(asked.prompt, list) else [asked.prompt or ""]
    if not given:
        raise RefusedError(400, "there is no prompt; give at least one", param="prompt")
    return [given] if isinstance(given[0], int) else given


def _copies(sampling: Sampling, seed: int | None, count: int) -> list[Sampling]:
    """How the tokens of each copy of a text are chosen: the same way, with a seed of its own, drawn where none is."""
    first = secrets.randbits(62) if seed is None else seed
    return [replace(sampling, seed=(first + copy) % SEEDS) for copy in range(count)]


def _check_completion(served: Served, asked: CompletionRequest, prompts: list[ReadPrompt], about: bool) -> None:
    if any(not ids for _, ids in prompts):
        raise RefusedError(400, "a prompt has no tokens; give at least one", param="prompt")
    if about and asked.stream:
        raise RefusedError(400, "echo with logprobs is not streamed; leave one of the three out", param="echo")
    if about and any(len(ids) > served.context for _, ids in prompts):
        raise RefusedError(
            400,
            f"echo with logprobs takes a prompt within the context of {served.context} tokens; shorten it",
            param="prompt",
            code="context_length_exceeded",
        )


def _check_conversation(served: Served, asked: ChatRequest | ResponseRequest, count: int) -> None:
    """Raise `RefusedError` where there is no room for what is asked for, of which half the context is enough."""
    room, most = served.context - count, asked.most
    if not served.answers or room >= max(1, min(most or 1, served.context // 2)):
        return
    more = "" if most is None else f", {most} more are asked for"
    fewer = f" or ask for {room} at most" if room > 0 else ""
    raise RefusedError(
        400,
        f"the conversation takes {count} tokens{more} and this model's maximum context length is {served.context}; "
        f"leave out its oldest turns{fewer}",  # by OpenAI's own words for it clients know what to do
        param=asked.said_in,
        code="context_length_exceeded",
    )


def create_app(models: Models) -> FastAPI:
    """The service over these models, whose engines begin to write when it starts and stop when it ends."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        await models.stop()

    app = FastAPI(title="octavo", version=__version__, lifespan=life, docs_url=None, redoc_url=None)
    app.state.models, app.state.counts = models, metrics.Counts()
    app.state.lenses, app.state.sources = None, models.sources
    app.state.training, app.state.counting = None, Counting()
    app.state.reports = Reports()
    for router in (api, files.page, state.router, learning.router, lenses.router, reporting.router):
        app.include_router(router)
    refuse_in_the_apis_words(app, THERE)
    return app
