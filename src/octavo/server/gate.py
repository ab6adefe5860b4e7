"""Who may come in, and with what: checked for each request before any route is looked for, so none is forgotten."""

import asyncio
import hmac
import ipaddress
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octavo.server.metrics import Counts
from octavo.server.refused import RefusedError
from octavo.server.strict import LEFT

BODY = 4 << 20  # bytes
PATIENCE = 20.0  # seconds in which a body has to be here
BEGUN = 4  # requests with a body that are begun before others are answered
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ODD = re.compile(rb"//|\\|%2e|%2f|%5c|/\.\.?(/|$)", re.IGNORECASE)  # other spellings of a path
SAFE = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
Log = Callable[[str], object]
Check = Callable[[Scope], object]


@dataclass(frozen=True)
class Rules:
    """Under which names the service is called, and the key that is asked for, if any."""

    hosts: frozenset[str] = LOOPBACK  # in lower case; `addresses` allows all that are no name besides
    addresses: bool = False
    public: str | None = None  # the origin of a proxy before it, `plain`
    key: str | None = None
    open: frozenset[str] = frozenset()  # what may be got without the key, each path as it is spelled
    body: int = BODY
    patience: float = PATIENCE

    def check(self, scope: Scope) -> None:
        """Raise `RefusedError` for a request that may not come in."""
        host = header(scope, "host") or ""
        if not self.known(host):
            raise RefusedError(403, f"{host!r:.80} is no name of this service; call it as it says itself", code="host")
        origin = header(scope, "origin")
        if origin is not None and not self.own(origin, scope["scheme"], host):
            raise RefusedError(403, f"pages of {origin!r:.80} may not ask here", code="origin")
        if (
            self.key is not None
            and not self.is_open(scope)
            and not same(header(scope, "authorization") or "", f"Bearer {self.key}")
        ):
            raise RefusedError(
                401,
                "the key is missing or wrong; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if ODD.search(spelled(scope)):
            raise RefusedError(400, "the path is spelled in an odd way; write it plainly", code="path")
        kind = (header(scope, "content-type") or "").split(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            told = f"{kind!r:.80}" if kind else "of no kind"
            raise RefusedError(415, f"the body is {told}; send application/json", code="content_type")
        if (packed := (header(scope, "content-encoding") or "identity").lower()) != "identity":
            raise RefusedError(415, f"the body is packed as {packed!r:.40}; send it as it is", code="content_encoding")
        length = header(scope, "content-length") or "0"
        if not length.isdecimal() or int(length) > self.body:
            raise self.too_large()

    def is_open(self, scope: Scope) -> bool:
        """Whether this is one of the few things that hold nothing of anybody's."""
        return scope["method"] == "GET" and (scope.get("raw_path") or b"").decode("latin-1") in self.open

    def known(self, host: str) -> bool:
        """Whether a Host header names this service.

        >>> Rules().known("localhost:8000"), Rules().known("[::1]:80"), Rules().known("evil.example")
        (True, True, False)
        """
        name = re.sub(r":[0-9]{1,5}$", "", host).strip("[]").lower()
        return name in self.hosts or (self.addresses and is_address(name)) or self.proxied(host)

    def proxied(self, host: str) -> bool:
        """Whether a Host header names the proxy.

        >>> rules = Rules(public="https://octavo.example")
        >>> rules.proxied("Octavo.example:443"), rules.proxied("octavo.example:80")
        (True, False)
        """
        return self.public is not None and plain(f"{self.public.partition(':')[0]}://{host}") == self.public

    def scheme(self, scope: Scope) -> str:
        """The scheme of this service's addresses, as who called it sees them: a proxy has its own."""
        if self.public is None or not self.proxied(header(scope, "host") or ""):
            return str(scope["scheme"])
        return self.public.partition(":")[0]

    def own(self, origin: str, scheme: str, host: str) -> bool:
        """Whether an Origin is that of this service's own pages: of the proxy, or of the address that was called."""
        given = plain(origin)
        return given == self.public or (not self.proxied(host) and given == plain(f"{scheme}://{host}"))

    def too_large(self) -> RefusedError:
        """The answer to a body that is too large."""
        return RefusedError(
            413, f"the body has more than {self.body} bytes; send less at once", code="too_large", headers=CLOSE
        )


CLOSE = {"Connection": "close"}


def header(scope: Scope, name: str) -> str | None:
    """The one header of this name. Raises `RefusedError` where it comes twice, which says nothing."""
    found = [value for key, value in scope["headers"] if key == name.encode()]
    if len(found) > 1:
        raise RefusedError(400, f"the header {name} comes twice; send it once", code="header")
    return found[0].decode("latin-1") if found else None


def spelled(scope: Mapping[str, Any]) -> bytes:
    """The path as it was sent: in one line, with % for what would end it."""
    return scope.get("raw_path") or str(scope["path"]).encode()


def same(given: str, wanted: str) -> bool:
    """Whether two texts are the same, in a time that tells nothing about where they differ."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def plain(origin: str) -> str:
    """An origin in lower case, without the port that its scheme has anyway.

    >>> plain("HTTPS://Octavo.example:443"), plain("http://octavo.example:443")
    ('https://octavo.example', 'http://octavo.example:443')
    """
    return re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", origin.lower())


def is_address(name: str) -> bool:
    """Whether this is an address in numbers, which no foreign name can be made to stand for."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def anyone(scope: Scope) -> None:
    """There is room for everybody."""


class Gate:
    """Lets in what the rules allow, bounds what is sent and for how long, and writes a line about each request."""

    def __init__(self, app: ASGIApp, rules: Rules, counts: Counts, log: Log, check_room: Check = anyone) -> None:
        """`check_room` raises `RefusedError` for what there is no room for, before its body is read."""
        self.app, self.rules, self.counts, self.log, self.check_room = app, rules, counts, log, check_room
        self.turn = Turns(BEGUN)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin, status = time.perf_counter(), LEFT  # which stands where nobody waited for an answer
        if scope["method"] == "HEAD":  # of which uvicorn keeps the body back
            scope = {**scope, "method": "GET"}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": safe(message.get("headers", ()))}
            await send(message)

        try:
            self.rules.check(scope)
            scope["scheme"] = self.rules.scheme(scope)
            self.check_room(scope)
            if scope["method"] == "POST":
                await self.turn()
                self.check_room(scope)  # those before it may have taken it
            await self.app(scope, Body(self.rules, receive), sending)
        except RefusedError as error:
            await error.response()(scope, receive, sending)
        except asyncio.CancelledError:  # the service ends, and has waited for this answer as long as it does
            with suppress(asyncio.CancelledError):  # nor does it wait for a client that takes nothing
                await _end(scope, receive, sending, begun=status != LEFT)
        finally:
            seconds = time.perf_counter() - begin
            self.counts.add(_route(scope), status, seconds)
            self.log(_line(scope, status, seconds))


class Turns:
    """Lets a few in in each round of the event loop, in the order in which they came: others go on in between."""

    def __init__(self, at_once: int) -> None:
        self.at_once = self.left = at_once
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.turning = False

    async def __call__(self) -> None:
        """Wait for a turn, if there is none left in this round."""
        loop = asyncio.get_running_loop()
        if not self.turning:
            self.turning = True
            loop.call_soon(self._next, loop)
        if self.left:
            self.left -= 1
            return
        self.waiting.append(loop.create_future())
        await self.waiting[-1]

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self.left = self.at_once
        while self.waiting and self.left:
            turn = self.waiting.popleft()
            if not turn.done():  # nobody waits for it any more
                turn.set_result(None)
                self.left -= 1
        self.turning = bool(self.waiting)
        if self.turning:
            loop.call_soon(self._next, loop)


class Body:
    """A request's body as it comes in: not too much of it, and not too late."""

    def __init__(self, rules: Rules, receive: Receive) -> None:
        self.rules, self.receive = rules, receive
        self.end = asyncio.get_running_loop().time() + rules.patience
        self.size, self.whole = 0, False

    async def __call__(self) -> Message:
        if self.whole:
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.end):
                message = await self.receive()
        except TimeoutError:
            raise RefusedError(408, "the body took too long; send it at once", code="timeout", headers=CLOSE) from None
        self.size += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if self.size > self.rules.body:
            raise self.rules.too_large()
        return message


def safe(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """An answer's headers with those that every answer has; the page's own policy stands instead of the usual one."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    return given + [(name, value) for name, value in SAFE_HEADERS if name not in names]


SAFE_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SAFE.items()]


async def _end(scope: Scope, receive: Receive, send: Send, *, begun: bool) -> None:
    """Tell a client that its answer will not come to its end: in its place, or as the last event of a stream."""
    error = RefusedError(503, "the service ends; ask again when it is back", code="ending", headers=CLOSE)
    told = error.response()
    if begun:
        writing = scope.get("octavo.writing")
        last = f"data: {bytes(told.body).decode()}\n\n" if writing is None else writing.broken(error.content())
        await send({"type": "http.response.body", "body": last.encode()})
    else:
        await told(scope, receive, send)


def _route(scope: Mapping[str, Any]) -> str:
    return getattr(scope.get("route"), "path", "other")


def _line(scope: Mapping[str, Any], status: int, seconds: float) -> str:
    """What is logged of a request: nothing of its text."""
    writing = scope.get("octavo.writing")
    used = "" if writing is None else f", {writing.usage()['prompt_tokens']} + {writing.written} tokens"
    path = spelled(scope).decode("latin-1")[:80]
    return f"{scope['method']} {path} {status} in {seconds:.2f} s{used}"
