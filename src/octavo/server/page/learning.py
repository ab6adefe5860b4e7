"""The room in which a training is watched: its history, what comes in while one looks on, and its brake."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from octavo.server.page import records
from octavo.server.page.following import Following
from octavo.server.page.logs import history
from octavo.server.page.records import about
from octavo.server.page.training import Training
from octavo.server.refused import RefusedError
from octavo.server.strict import REFUSALS, StrictRoute

__all__ = ["about", "router", "training_told"]

EVERY = 0.25  # seconds between two looks at the logs
KEEP_ALIVE = 15.0  # seconds without news, until a stream says that it is still there
SAMPLES = 500  # told at once, at most
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "News, as server-sent events", "content": {"text/event-stream": {}}}
}
Name = Annotated[str | None, Query(max_length=256)]
Step = Annotated[int | None, Query(ge=0, lt=2**53)]

router = APIRouter(route_class=StrictRoute, responses=REFUSALS)


class Nothing(BaseModel):
    """A body that says nothing."""

    model_config = ConfigDict(extra="forbid")


def training_of(request: Request) -> Training | None:
    """The training that this very page belongs to."""
    return request.app.state.training


def training_told(training: Training | None) -> dict[str, Any] | None:
    """What /page/state says of the training that the page belongs to."""
    if training is None or training.run is None:
        return None
    return {"model": training.run.name, "running": training.running}


def run_of(request: Request, name: str | None) -> Path:
    """The run of a model. Raises `RefusedError` where it has none, or none any more."""
    served = request.app.state.models.find(name)
    if served.run is None:
        raise RefusedError(404, f"{served.name} has no training to look at; serve a run", code="no_training")
    if not served.run.is_dir():
        raise RefusedError(404, f"{served.run} is gone; serve another run", code="no_training")
    return served.run


@router.get("/page/learn")
async def show(request: Request, model: Name = None) -> dict[str, Any]:
    """All that a training has come to so far."""
    run, training = run_of(request, model), training_of(request)
    told = await asyncio.to_thread(_told, run, training)
    fingerprint = told.pop("fingerprint")
    baselines = await asyncio.to_thread(request.app.state.counting.of, fingerprint)
    return {**told, "baselines": baselines, "unit": "nats per token"}


def _told(run: Path, training: Training | None) -> dict[str, Any]:
    facts, settings = records.newest_facts(run), records.settings(run)
    train = records.train_settings(run)
    return {
        "metrics": history(run / records.METRICS),
        "samples": history(run / records.SAMPLES, SAMPLES),
        "forecast": records.forecast(train, facts),
        "settings": settings,
        "running": records.running(run, training),
        "steps": records.planned_steps(train, facts),
        "fingerprint": facts.get("fingerprint") or (training.fingerprint if training else None),
    }


@router.get("/page/learn/events", responses=EVENTS, response_class=StreamingResponse)
async def follow(
    request: Request,
    model: Name = None,
    after: Step = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """What comes from now on, or from the step `after` which there is news: metrics, samples, how the training stands.

    A `reset` says that the logs were cut, for the training went back: what was told before is to be asked for again.
    """
    seen = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else after
    following = await asyncio.to_thread(Following, run_of(request, model), training_of(request), seen)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(request, following), media_type="text/event-stream", headers=headers)


async def _events(request: Request, following: Following) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    with following.watched():
        said = clock()
        while not request.app.state.ending():
            news = await asyncio.to_thread(following.news)
            if news is None:  # the run is gone
                return
            if news:
                said = clock()
                yield "".join(news)
            elif clock() - said >= KEEP_ALIVE:
                said = clock()
                yield ": still here\n\n"
            await asyncio.sleep(EVERY)
        last = await asyncio.to_thread(following.news)  # what came since, and that nothing more will
        if last:
            yield "".join(last)


@router.post("/page/learn/stop")
async def stop(request: Request, asked: Nothing) -> dict[str, bool]:
    """Have the training end after its step, saved."""
    return {"running": await _own(request).stop()}


@router.post("/page/learn/resume")
async def resume(request: Request, asked: Nothing) -> dict[str, bool]:
    """Have the training go on, exactly where it was stopped."""
    return {"running": await _own(request).resume()}


def _own(request: Request) -> Training:
    training = training_of(request)
    if training is None:
        raise RefusedError(
            409, "no training belongs to this page; begin one with octavo train --page", code="no_training"
        )
    return training
