"""What all routes share: bodies with nothing doubtful in them, refusals in the API's words, clients that leave."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from octavo.disk import json_object
from octavo.server.refused import DESCRIBED, RefusedError, of_validation

REFUSALS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "What is wrong", "content": {"application/json": {"schema": DESCRIBED}}}
}
LEFT = 499  # the status of an answer that nobody waits for
T = TypeVar("T")


class StrictRequest(Request):
    """A request whose JSON is one object with nothing doubtful in it."""

    async def json(self) -> Any:
        try:
            return json_object((await self.body()).decode())
        except ValueError as error:
            raise RefusedError(400, f"the body is not what it should be: {error}; send one JSON object") from None


class StrictRoute(APIRoute):
    """A route that reads its body so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        usual = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await usual(StrictRequest(request.scope, request.receive))

        return handle


def refuse_in_the_apis_words(app: FastAPI, there: str) -> None:
    """Whatever a route raises for a request becomes the API's error object; who asks for a path that is none is told
    what is `there`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return of_validation(error).response()

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        known = error if isinstance(error, RefusedError) else lost(request, error, there)
        return known.response()


def lost(request: Request, error: HTTPException, there: str) -> RefusedError:
    """The refusal of a path that there is not, or not with this method."""
    path, status, takes = request.url.path, error.status_code, (error.headers or {}).get("Allow")
    if status == 404:
        return RefusedError(status, f"there is no {path!r:.80} here; {there}")
    if takes is not None:
        return RefusedError(status, f"{path!r:.80} takes no {request.method}; send {takes}", headers=error.headers)
    return RefusedError(status, str(error.detail))


async def while_here(request: Request, work: Awaitable[T]) -> T | None:
    """What comes of some work, or nothing where the client goes away first: then it is given up, if it can be."""
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        for task in (doing, gone):
            task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
