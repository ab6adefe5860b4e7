"""Who answers in a conversation: a model that was opened here, or one that a server has."""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from octavo.chat import read_conversation
from octavo.cli.generate import Knobs
from octavo.cli.opening import unknown_note
from octavo.completion import complete
from octavo.config import BASE_STOP
from octavo.errors import DownloadError, TextError, UserError
from octavo.names import few

if TYPE_CHECKING:
    from octavo.model import GPT
    from octavo.tokenizers import Tokenizer

Turn = tuple[str, str]  # what you wrote, what the model made of it
TOO_LONG = "context_length_exceeded"  # in the API's words
PATIENCE = 600  # seconds for a server's next word: a prompt may be long, and others there before


class TooLongError(DownloadError):
    """A server's model has no room for so long a conversation."""


class Speaker(Protocol):
    """Somebody who answers."""

    name: str
    answers: bool  # it was taught to; others only go on with a text
    sees: int | None  # tokens at a time, where that is known
    forgotten: int  # turns that the last answer had no room for

    def note(self, line: str) -> str:
        """What is to be known about a line before it is answered; mostly nothing."""
        ...

    def speak(self, said: list[Turn], line: str, knobs: Knobs) -> Generator[str, None, None]:
        """An answer, as it is written."""
        ...


class Local:
    """A model that was opened here."""

    def __init__(self, model: "GPT", tokenizer: "Tokenizer", name: str) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.answers = tokenizer.answers
        self.sees: int | None = model.config.context
        self.forgotten = 0

    def note(self, line: str) -> str:
        """Which pieces of a line the model has never seen."""
        return unknown_note(self.tokenizer, line)

    def speak(self, said: list[Turn], line: str, knobs: Knobs) -> Generator[str, None, None]:
        """Answer, or continue the line up to a blank one."""
        words = {**asdict(knobs), "stop": () if self.answers else BASE_STOP, "slide": not self.answers}
        prompt = [self._turns(said, line, knobs)] if self.answers else line
        for piece in complete(self.model, self.tokenizer, prompt, **words):
            yield piece.text

    def _turns(self, said: list[Turn], line: str, knobs: Knobs) -> list[int]:
        """The conversation up to here as the model reads it; what does not fit is forgotten, the oldest first."""
        context = self.model.config.context
        room = min(knobs.max_new_tokens, context // 2)
        for self.forgotten in range(len(said) + 1):
            ids = read_conversation(self.tokenizer, messages(said[self.forgotten :], line))
            if len(ids) + room <= context:
                return ids
        if len(ids) >= context:
            raise TextError(f"that takes {len(ids)} tokens and the model sees {context}; say it in fewer words")
        return ids


class Remote:
    """A model that a server has, over the API that OpenAI's clients speak."""

    def __init__(self, address: str, name: str | None) -> None:
        """`address` as clients have it, with or without /v1. Raises `UserError` for one that is none."""
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            named = (parts.hostname or "").encode("idna") and parts.port != 0
        except ValueError:  # a port, brackets or a name that are none
            named = False
        if not named or parts.scheme not in ("http", "https") or not parts.path.isascii():
            raise UserError(f"--server {address} is no address; give one like http://127.0.0.1:8000")
        self.address, self.parts = address, parts
        self.path = parts.path.rstrip("/").removesuffix("/v1") + "/v1"
        key = os.environ.get("OCTAVO_API_KEY", "").strip()
        if not key.isascii() or not key.isprintable():
            raise UserError("$OCTAVO_API_KEY holds what no key does; set it to plain letters, digits and signs")
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        card = self._card(name)
        self.name = name or str(card["id"])
        self.answers = card.get("answers") is not False  # others do not say, and serve few that do not
        length = card.get("max_model_len")  # as vLLM says it too
        self.sees: int | None = length if isinstance(length, int) else None
        self.forgotten = 0

    def note(self, line: str) -> str:
        """Nothing: the server knows."""
        return ""

    def speak(self, said: list[Turn], line: str, knobs: Knobs) -> Generator[str, None, None]:
        """Answer; whoever stops listening closes the connection, and the server lets the text go."""
        asked = {name: value for name, value in asdict(knobs).items() if value is not None}
        asked["max_tokens"] = asked.pop("max_new_tokens")
        if asked["repetition_penalty"] == 1:  # it changes nothing, and others refuse what OpenAI's API has no word for
            del asked["repetition_penalty"]
        asked |= {"model": self.name, "stream": True}
        connection, answer = self._answer(said, line, asked)
        try:
            yield from map(_piece, _events(answer))
        except (OSError, HTTPException) as error:
            raise DownloadError(f"{self.address} broke off ({error or type(error).__name__}); ask again") from None
        finally:
            connection.close()

    def _answer(self, said: list[Turn], line: str, asked: dict[str, Any]) -> tuple[HTTPConnection, HTTPResponse]:
        """The beginning of an answer; what the server has no room for is forgotten, the oldest first.

        Where that is not enough, the answer to the line alone may be as long as there is room for.
        """
        self.forgotten = 0
        while True:
            remembered = messages(said[self.forgotten :], line)
            try:
                return self._ask("POST", "/chat/completions", asked | {"messages": remembered})
            except TooLongError:
                if self.forgotten < len(said):
                    self.forgotten += 1
                elif asked.pop("max_tokens", None) is None:
                    raise

    def _card(self, name: str | None) -> dict[str, Any]:
        """What the server says of the model of this name, of its first one where none is said."""
        connection, answer = self._ask("GET", "/models")
        with closing(connection):
            try:
                cards = {str(card["id"]): dict(card) for card in json.loads(answer.read())["data"]}
            except (ValueError, LookupError, TypeError, OSError, HTTPException):
                cards = {}
        if not cards:
            raise DownloadError(f"{self.address} names no models; is it an OpenAI-compatible server?")
        if name is not None and name not in cards:
            raise DownloadError(f"{self.address} has no model {name}; it has {few(list(cards))}")
        return next(iter(cards.values())) if name is None else cards[name]

    def _ask(self, method: str, path: str, asked: object = None) -> tuple[HTTPConnection, HTTPResponse]:
        kind = HTTPSConnection if self.parts.scheme == "https" else HTTPConnection
        connection = kind(str(self.parts.hostname), self.parts.port, timeout=PATIENCE)
        body = None if asked is None else json.dumps(asked)
        try:
            connection.request(method, self.path + path, body, self.headers)
            answer = connection.getresponse()
        except (OSError, HTTPException) as error:
            raise DownloadError(f"{self.address} does not answer ({error}); is octavo serve running there?") from None
        if answer.status == 200:
            return connection, answer
        with closing(connection):
            complaint, code = _complaint(answer.read(65536))
        refused = TooLongError if code == TOO_LONG else DownloadError
        raise refused(f"{self.address} says {answer.status}: {complaint}")


def messages(said: list[Turn], line: str) -> list[dict[str, str]]:
    """A conversation, and the line that is to be answered, as messages.

    >>> messages([("Hello", "Hi.")], "Who?")[1:]
    [{'role': 'assistant', 'content': 'Hi.'}, {'role': 'user', 'content': 'Who?'}]
    """
    turns = [
        {"role": role, "content": text} for turn in said for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return [*turns, {"role": "user", "content": line}]


def _events(answer: HTTPResponse) -> Iterator[str]:
    """What comes in a stream of server-sent events, up to its end."""
    for line in answer:
        kind, _, content = line.decode("utf-8", errors="replace").strip().partition(":")
        if kind == "data" and content.strip() == "[DONE]":
            return
        if kind == "data":
            yield content


def _piece(event: str) -> str:
    """The text of an event. Raises `DownloadError` for one that is an error, or nothing that is known."""
    try:
        found = json.loads(event)
        if "error" in found:
            raise DownloadError(f"the server says: {found['error']['message']}")
        return "".join(choice["delta"].get("content") or "" for choice in found["choices"])
    except (ValueError, LookupError, TypeError, AttributeError):
        raise DownloadError(f"the server says what no OpenAI-compatible one does: {event:.80}") from None


def _complaint(body: bytes) -> tuple[str, object]:
    """What is wrong, in the server's words, of which a page for browsers or nothing is none, and its code."""
    text = body.decode("utf-8", errors="replace").strip()
    try:
        error = json.loads(text)["error"]
        return str(error["message"]), error.get("code")
    except (ValueError, LookupError, TypeError, AttributeError):
        is_page = not text or text.startswith("<")
        return "nothing that an OpenAI-compatible server would; is it one?" if is_page else text[:200], None
