"""The page of one training, in a process apart from it: it reads the run's files, and is gone when the training is."""

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import FastAPI
from safetensors import SafetensorError, safe_open

from octavo import __version__
from octavo.errors import ConfigError
from octavo.server.metrics import Counts
from octavo.server.page import files, learning, lenses, records, reporting
from octavo.server.page.baselines import Counting
from octavo.server.page.reporting import Reports
from octavo.server.page.training import Training
from octavo.server.refused import RefusedError
from octavo.server.service import listen, rules_for, server_of
from octavo.server.strict import refuse_in_the_apis_words

HOST = "127.0.0.1"
PORTS = 20  # tried one after the other, until any free one is taken
GIVING_WAY = 10  # how much lower the page's priority is than the training's
LAST = 3  # seconds that answers have to come to their end
ROUTERS = (files.page, learning.router, lenses.router, reporting.router)
ROOMS = ("learn", "look")  # a training's page has these rooms; the second reads the weights that were kept last


class Learning(NamedTuple):
    """The model that is being trained, as the routes ask for it."""

    name: str
    run: Path


class OneRun:
    """The models of this page: the one that is being trained."""

    def __init__(self, training: Training) -> None:
        self.training = training

    @property
    def named(self) -> Mapping[str, Learning]:
        """By their names."""
        run = self.training.run
        return {} if run is None else {run.name: Learning(run.name, run)}

    def sources(self) -> dict[str, Path]:
        """Where it is kept."""
        return {name: one.run for name, one in self.named.items()}

    def find(self, name: str | None) -> Learning:
        """The model of this name, the only one where none is said. Raises `RefusedError` where it is not there."""
        if not self.named:
            raise RefusedError(404, "the training is not planned yet; wait a moment", code="preparing")
        found = next(iter(self.named.values()))
        if name not in (None, found.name):
            raise RefusedError(404, f"no model {name!r:.80}; there is {found.name}", param="model")
        return found


def create_page(training: Training) -> FastAPI:
    """The page of a training as an application."""
    app = FastAPI(title="octavo", version=__version__, docs_url=None, redoc_url=None)
    app.state.models, app.state.counts = OneRun(training), Counts()
    app.state.training, app.state.counting = training, Counting()
    app.state.lenses, app.state.sources = None, app.state.models.sources
    app.state.home, app.state.reports = "/learn", Reports("cpu")  # the GPU is the training's

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/page/state")
    async def state() -> dict[str, Any]:
        models = [await asyncio.to_thread(_described, one) for one in app.state.models.named.values()]
        return {"models": models, "training": learning.training_told(training), "rooms": ROOMS, "key": False}

    for router in ROUTERS:
        app.include_router(router)
    refuse_in_the_apis_words(app, "open /learn")
    return app


def _described(model: Learning) -> dict[str, Any]:
    """What /page/state says of the model, by what was planned."""
    planned = records.settings(model.run).get("model", {})
    shape = {name: planned.get(name) for name in ("context", "layers", "heads", "width", "vocab_size", "dialect")}
    more = {"parameters": _parameters(model.run / "model.safetensors"), "answers": False}
    return {"name": model.name, **shape, **more, **records.about(model.run)}


def _parameters(weights: Path) -> int | None:
    """How many numbers are learned; not known before the first evaluation has written them."""
    with suppress(OSError, SafetensorError), safe_open(weights, framework="numpy") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - it is no dict
    return None


def main(port: int) -> int:
    """Serve the page of the training that speaks on standard input, until that ends."""
    try:
        at = listen_from(port)
    except ConfigError as error:
        say({"failed": str(error)})
        return error.status
    training = Training(say)
    server = server_of(create_page(training), rules_for(HOST, None), lambda line: None)
    threading.Thread(target=hear, args=[training, server], daemon=True).start()
    say({"port": at.getsockname()[1]})
    with suppress(AttributeError, OSError):  # from here on; it is to have begun before the first step is taken
        os.nice(GIVING_WAY)
    asyncio.run(server.serve([at]))
    return 0


def listen_from(port: int) -> socket.socket:
    """A socket at this port, or at one of the next that is free, or at any."""
    for one in range(port, min(port + PORTS, 2**16)):
        with suppress(ConfigError):
            return listen(HOST, one)
    return listen(HOST, 0)


def say(words: Mapping[str, Any]) -> None:
    """One line for the training's process."""
    with suppress(OSError, ValueError):  # which may be gone
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()


def hear(training: Training, server: Any) -> None:
    """Listen to the training's process; when it says no more, it has ended, and so does the page."""
    with suppress(OSError, ValueError):
        for line in sys.stdin:
            training.hear(json.loads(line))
    server.should_exit = True
    time.sleep(LAST)
    os._exit(0)
