"""What /v1/responses answers: one message, whole or as events that each have a name and a number."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from octavo.server.engine.sequence import Request, Said
from octavo.server.forms import ChatForm
from octavo.server.models import Served
from octavo.server.refused import error_object
from octavo.server.response_schema import ResponseRequest
from octavo.server.writing import Writing, event

PLACE = {"output_index": 0, "content_index": 0}  # of the one text in an answer


class Responding(Writing):
    """The next turn of a conversation, on its way."""

    def __init__(self, served: Served, requests: list[Request], asked: ResponseRequest) -> None:
        """Hand it to the engine. Raises `RefusedError` where too many wait already."""
        self.turn = ChatForm(served, asked.logprobs)
        super().__init__(served, requests, self.turn, streamed=bool(asked.stream))
        self.item, self.numbered = f"msg_{uuid4().hex}", 0
        self.head = {
            "id": f"resp_{uuid4().hex}",
            "object": "response",
            "created_at": self.head["created"],
            "model": served.name,
            **asked_for(asked, requests[0]),
        }

    def _whole(self) -> dict[str, Any]:
        return self._response(self._status())

    def _begin(self, usage: bool) -> Iterator[str]:
        for name in ("response.created", "response.in_progress"):
            yield self._named(name, response=self._response("in_progress"))
        yield self._named("response.output_item.added", output_index=0, item=self._message("in_progress", []))
        yield self._of_text("response.content_part.added", part=part("", []))

    def _pieces(self, heard: list[tuple[int, Said]], usage: bool) -> Iterator[str]:
        (told,) = self.told
        for _, said in heard:
            if said.error is not None:
                yield self.broken(error_object(500, said.error))
                return
            told.add(said)
            rows = self.turn.rows(said)
            if said.text or rows:
                yield self._of_text("response.output_text.delta", delta=said.text, logprobs=rows)

    def _end(self, usage: bool) -> str:
        if self.error is not None:
            return ""
        (told,), status = self.told, self._status()
        rows = self.turn.rows(told)
        return "".join(
            (
                self._of_text("response.output_text.done", text=told.text, logprobs=rows),
                self._of_text("response.content_part.done", part=part(told.text, rows)),
                self._named("response.output_item.done", output_index=0, item=self._message(status)),
                self._named(f"response.{status}", response=self._response(status)),
            )
        )

    def broken(self, error: dict[str, Any]) -> str:
        """The event that says why a stream does not come to its end; some clients look for the error within it."""
        told = {name: error["error"][name] for name in ("code", "message", "param")}
        return self._named("error", **told, **error)

    def _named(self, name: str, **what: Any) -> str:
        number, self.numbered = self.numbered, self.numbered + 1
        return f"event: {name}\n" + event({"type": name, "sequence_number": number, **what})

    def _of_text(self, name: str, **what: Any) -> str:
        return self._named(name, item_id=self.item, **PLACE, **what)

    def _status(self) -> str:
        return "incomplete" if self.told[0].finish_reason == "length" else "completed"

    def _response(self, status: str) -> dict[str, Any]:
        over = status != "in_progress"
        return {
            **self.head,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "output": [self._message(status)] if over else [],
            "usage": self._used() if over else None,
        }

    def _message(self, status: str, content: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        (told,) = self.told
        whole = [part(told.text, self.turn.rows(told))] if content is None else content
        return {"id": self.item, "type": "message", "status": status, "role": "assistant", "content": whole}

    def _used(self) -> dict[str, Any]:
        used = self.usage()
        return {
            "input_tokens": used["prompt_tokens"],
            "input_tokens_details": {**used["prompt_tokens_details"], "cache_write_tokens": 0},
            "output_tokens": used["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used["total_tokens"],
        }


def asked_for(asked: ResponseRequest, request: Request) -> dict[str, Any]:
    """What an answer repeats of the request, or of what octavo did where it said nothing."""
    sampling = request.sampling
    return {
        "background": False,
        "error": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": None,
        "store": False,
        "temperature": sampling.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": asked.tool_choice or "auto",
        "tools": [],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "truncation": "disabled",
    }


def part(text: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The one piece that a message has."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": rows}
