"""A client that costs next to nothing, so that what is timed is the server: HTTP by hand over asyncio's streams."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """What came back: the status, the body or the text of a stream, and when its pieces came, in seconds."""

    status: int
    body: bytes = b""
    text: str = ""
    times: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def json(self) -> dict[str, Any]:
        """The body as JSON."""
        return json.loads(self.body)


async def ask(
    port: int,
    path: str,
    body: dict[str, Any] | None = None,
    *,
    abort_after: float | None = None,
    host: str = "127.0.0.1",
) -> Answer:
    """One request on a connection of its own; `abort_after` so many seconds the connection is closed, whatever came."""
    begin = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        writer.write(head.encode() + payload)
        await writer.drain()
        if abort_after is not None:
            await asyncio.sleep(abort_after)
            return Answer(0)
        return await _read(reader, begin)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, begin: float) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    answer = Answer(int(head.split(" ", 2)[1]))
    if "text/event-stream" in head:
        async for line in reader:
            if line.startswith(b"data: ") and line[6:].strip() != b"[DONE]":
                piece = _text(json.loads(line[6:]))
                if piece:
                    answer.times.append(time.perf_counter() - begin)
                    answer.text += piece
    else:
        answer.body = await reader.read()
    answer.seconds = time.perf_counter() - begin
    return answer


def _text(chunk: dict[str, Any]) -> str:
    if "error" in chunk:
        raise RuntimeError(chunk["error"]["message"])
    choices = chunk.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return choices[0].get("text") or delta.get("content") or ""
