"""The service under what nobody asks on purpose: all that its document allows or forbids, and clients that leave."""

import asyncio
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

import octavo
from octavo.memory import peak_memory
from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Served
from sweeps import sweep
from test_server import MODELS, ROUTES, Running

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
from asking import Answer, ask


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("swept")
    octavo.save(*MODELS["plain"], folder)
    jaxtyping.config.update("jaxtyping_disable", True)  # the tests of the engine check its shapes; here it is for speed
    service = Running(Rules(), served=[Served("plain", Engine(*MODELS["plain"], bitwise=True), source=folder)])
    yield service
    service.stop()
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def document(running: Running) -> Any:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{running.port}/openapi.json")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False  # or it would read the environment anew for each request
        yield session


def briefly(case: Any, session: requests.Session) -> None:
    """Ask, but for no long text, and hold the answer against the document."""
    if isinstance(case.body, dict):
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "n"):
            if isinstance(case.body.get(name), int) and case.body[name] >= 1:
                case.body[name] = 2
        if isinstance(case.body.get("model"), str):
            del case.body["model"]  # which would mostly be a name that nobody has
        if case.path.startswith("/v1/c"):
            case.body.setdefault("max_tokens", 2)
        if case.path.startswith("/v1/responses"):
            case.body.setdefault("max_output_tokens", 2)
            if case.body.get("n") == 2:  # of which it writes one
                del case.body["n"]
        if case.path.startswith("/page/regenerate"):
            case.body.setdefault("max_new_tokens", 2)
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
    case.call_and_validate(session=session, checks=checks)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", sweep("requests", shares=2))  # of what is allowed, and of what is not
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(
    ("method", "path"), [(method, path.replace("/plain", "/{name}")) for method, path, _ in ROUTES]
)
def test_whatever_is_sent_is_answered_as_the_document_says(
    method: str, path: str, mode: GenerationMode, count: int, document: Any, session: requests.Session
) -> None:
    if path == "/openapi.json":
        assert set(document) == {path.replace("plain", "{name}") for _, path, _ in ROUTES[:-1]}
        return
    usual = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

    @settings(max_examples=count, **usual)
    @given(document[path][method].as_strategy(generation_mode=mode))
    def ask_for(case: Any) -> None:
        briefly(case, session)

    try:
        ask_for()
    except Unsatisfiable:  # what takes nothing can be asked nothing wrong
        assert mode == GenerationMode.NEGATIVE and method == "GET"


ENDLESS = {"model": "plain", "max_tokens": 100_000, "ignore_eos": True}


async def leave(port: int, count: int, draw: random.Random, at_once: int = 40) -> None:
    """So many clients that close their connection at some moment, some of them before they are answered at all."""
    gate = asyncio.Semaphore(at_once)

    async def one() -> None:
        body = {
            **ENDLESS,
            "prompt": "Ada " * draw.randrange(1, 30),
            "stream": draw.random() < 0.5,
            "n": draw.randrange(1, 4),
        }
        async with gate:
            await ask(port, "/v1/completions", body, abort_after=draw.expovariate(30))

    await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", sweep("aborts"))
def test_clients_that_leave_take_nothing_with_them(count: int) -> None:
    running = Running(Rules(), blocks=400)
    try:
        engine, tasks = running.models.find("plain").engine, running.server.server_state.tasks
        asyncio.run(leave(running.port, 40, random.Random(1)))  # so that what is loaded once is loaded
        files, memory = len(list(Path("/proc/self/fd").iterdir())), peak_memory()
        asyncio.run(leave(running.port, count, random.Random(0)))
        end = time.monotonic() + 20
        while (tasks or engine.load().active or engine.load().waiting) and time.monotonic() < end:
            time.sleep(0.01)
        assert (engine.load().active, engine.load().waiting) == (0, 0)
        time.sleep(0.2)  # sockets that are closing
        assert len(list(Path("/proc/self/fd").iterdir())) <= files + 2
        engine.scheduler.memory.forget()
        assert engine.load().blocks_taken == 0
        assert peak_memory() < memory + (256 << 20)
        assert asyncio.run(ask(running.port, "/v1/completions", {"prompt": "Ada", "max_tokens": 3})).status == 200
    finally:
        running.stop()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_an_hour_of_a_hundred_clients_leaves_no_trace() -> None:
    running, draw = Running(Rules(), blocks=400), random.Random(0)  # which the first minutes fill
    peaks: list[int] = []
    failed: list[Answer] = []

    async def client(end: float) -> None:
        while time.monotonic() < end:
            if draw.random() < 0.1:
                await leave(running.port, 1, draw)
                continue
            body = {
                "prompt": "Grace " * draw.randrange(1, 20),
                "max_tokens": draw.randrange(1, 60),
                "seed": draw.randrange(99),
            }
            answer = await ask(running.port, "/v1/completions", body)
            if answer.status != 200:
                failed.append(answer)

    async def watch(end: float) -> None:
        while time.monotonic() < end:
            await asyncio.sleep(60)
            peaks.append(peak_memory())

    async def hour() -> None:
        end = time.monotonic() + 3600
        await asyncio.gather(watch(end), *(client(end) for _ in range(100)))

    try:
        asyncio.run(hour())
    finally:
        running.stop()
    assert not failed
    assert peaks[-1] < 1.05 * peaks[len(peaks) // 3]
