"""The service as a program: which address, which key, and the end of it in good order."""

import asyncio
import gc
import os
import re
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from octavo.errors import ConfigError
from octavo.server.gate import LOOPBACK, Check, Gate, Log, Rules, anyone, plain
from octavo.server.page.files import OPEN

if TYPE_CHECKING:
    from octavo.server.models import Models

KEY = "OCTAVO_API_KEY"
HEADERS = 32 << 10  # bytes of a request's headers
WAITING = 2048  # clients that may wait to be taken, and how many are before others are answered
TAKEN = 16
OBJECTS = 50_000  # that come before it is looked for those which nobody can reach
SWITCH = 2e-4  # seconds that the thread which answers waits for the one which writes; Python's own are 5e-3
GRACE = 8  # seconds that streams have to come to their end; docker ends what is there after ten
SHORTEST = 16  # signs of a key that guards more than this machine
HOST = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]"  # a name, or an address in numbers
ADDRESS = re.compile(rf"https?://(?:{HOST})(?::([1-9][0-9]{{0,4}}))?/?", re.ASCII | re.IGNORECASE)


def read_key(file: Path | None) -> str | None:
    """The key from a file, else from the environment. Raises `ConfigError` for one that is none."""
    try:
        given = os.environ.get(KEY) if file is None else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--api-key-file {file} cannot be read: {error}") from None
    if given is None:
        return None
    key = given.strip()
    if not key.isascii() or not key.isprintable() or len(key.split()) != 1:
        raise ConfigError("the API key is no single word of plain letters, digits and signs; give one that is")
    return key


def rules_for(host: str, key: str | None, public: str | None = None) -> Rules:
    """The rules of a service at this address, perhaps behind a proxy at a public one.

    Raises `ConfigError` where others could come in without a key.
    """
    here, origin = host in LOOPBACK, None if public is None else public_origin(public)
    if here and origin is None:
        return Rules(key=key)
    if key is None:
        opens, instead = (f"--public {public}", "leave it out") if here else (f"--host {host}", "serve 127.0.0.1")
        raise ConfigError(f"{opens} lets other machines in; name a key in --api-key-file or in ${KEY}, or {instead}")
    if len(key) < SHORTEST:
        raise ConfigError(f"the API key has {len(key)} signs; others can guess it, give at least {SHORTEST}")
    if here:
        return Rules(public=origin, key=key)
    own = {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    return Rules(hosts=LOOPBACK | own, addresses=True, public=origin, key=key)


def public_origin(address: str) -> str:
    """The origin of an address that a proxy has, as browsers spell it. Raises `ConfigError` where it is none.

    >>> public_origin("https://Octavo.example:443/")
    'https://octavo.example'
    """
    found = ADDRESS.fullmatch(address)
    if found is None or int(found[1] or 0) >= 2**16:
        raise ConfigError(
            f"--public {address} is not http:// or https:// and a host, with a port or none; "
            "give one like https://octavo.example"
        )
    return plain(address.rstrip("/"))


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address. Raises `ConfigError` where that cannot be had."""
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port {port} is no port; give 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        at = socket.create_server((host, port), family=family, backlog=WAITING)
    except (OSError, UnicodeError) as error:  # of a host that no name can be
        reason = str(getattr(error, "strerror", None) or error).split(" (")[0]
        line = f"{host} port {port} cannot be listened at: {reason}; give another --port or --host"
        raise ConfigError(line) from None
    # or the second part of an answer would wait until the client has said that the first one came, 40 ms and more
    at.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return at


def service(models: "Models", rules: Rules, log: Log) -> uvicorn.Server:
    """A server for these models."""
    from octavo.server.app import create_app  # with torch, which a training's page does without

    return server_of(create_app(models), rules, log, models.check_room)


class Server(uvicorn.Server):
    """One that takes but a few new clients at a time, however many wait: those that it has go on in between."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for at in sockets or ():
            at.listen(WAITING)  # asyncio has one number for both, that of the configuration

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # by a second Ctrl-C, after which the application is left as it is
            await self.lifespan.shutdown()


def server_of(app: FastAPI, rules: Rules, log: Log, check_room: Check = anyone) -> uvicorn.Server:
    """A server with a little time for streams to come to their end when it is told to come to its."""
    app.state.key = rules.key is not None
    config = uvicorn.Config(
        Gate(app, replace(rules, open=OPEN), app.state.counts, log, check_room),
        log_config=None,
        access_log=False,
        http="h11",
        ws="none",
        h11_max_incomplete_event_size=HEADERS,
        timeout_graceful_shutdown=GRACE,
        backlog=TAKEN,
        timeout_keep_alive=75,
        server_header=False,
        proxy_headers=False,
    )
    server = Server(config)
    app.state.ending = lambda: server.should_exit  # for streams that would never end by themselves
    return server


def serve(models: "Models", rules: Rules, at: socket.socket, log: Log) -> None:
    """Answer until the process is told to end."""
    server = service(models, rules, log)
    settle()
    with suppress(ImportError, ValueError, OSError):  # each client is an open file
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(server.serve([at]))


def settle() -> None:
    """Have the interpreter change threads sooner, and look seldom, and among new objects only, for unreachable ones.

    To look through all that torch brings along takes a while, in which nobody is answered.
    """
    sys.setswitchinterval(SWITCH)
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, 20, 20)
