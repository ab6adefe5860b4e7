"""What the page is told when it opens: which models there are, and what can be done with them here."""

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Request

from octavo.scale import parameters
from octavo.server.models import Served
from octavo.server.page.learning import training_told
from octavo.server.page.records import about

ROOMS = ("learn", "play", "look", "talk")

router = APIRouter(include_in_schema=False)


@router.get("/page/state")
async def show_state(request: Request) -> dict[str, Any]:
    """What there is to open: models, a training, and the rooms that work here."""
    return await asyncio.to_thread(state_of, request.app)


def state_of(app: FastAPI) -> dict[str, Any]:
    """All of it as JSON."""
    return {
        "models": [described(served) for served in app.state.models.named.values()],
        "training": training_told(app.state.training),
        "rooms": ROOMS,
        "key": app.state.key,
    }


def described(served: Served) -> dict[str, Any]:
    """A model's shape, and what is known of how it came to be."""
    config = served.engine.config
    return {
        "name": served.name,
        "context": config.context,
        "layers": config.layers,
        "heads": config.heads,
        "width": config.width,
        "parameters": parameters(config),
        "vocab_size": config.vocab_size,
        "answers": served.answers,
        "dialect": config.dialect,
        **about(served.run),
    }
