"""JSON lines: one object per line, and in each a field that holds the text of one document, or a conversation."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from octavo.chat import ROLES, Message
from octavo.data.decoding import Errors
from octavo.errors import TextError

USUAL, MESSAGES = "text", ("messages", "conversations")  # the fields of a text and of a conversation, by custom
ROLE, CONTENT = ("role", "from"), ("content", "value")  # in a message as the API of OpenAI has it, and as ShareGPT does
ALIASES = {"developer": "system", "human": "user", "gpt": "assistant"}
SHORT = 40  # characters of a value that is shown
LONGEST = 1 << 24  # characters of one line, for a line has to be in memory as a whole


class ArrayError(TextError):
    """Objects that are not on lines of their own."""


class Record(NamedTuple):
    """What a line holds: a text, or the messages of a conversation."""

    where: str
    content: str | list[Message]


def read_records(chunks: Iterable[str], name: str, field: str, errors: Errors) -> Iterator[Record]:
    """Yield what each line's object holds in this field; blank lines and empty texts are passed over.

    Where the field is the usual one and is not there, that is the field `messages` or `conversations`. Raises
    `TextError` with the name and the line where there is no JSON object, no such field, or neither a text nor a
    conversation in it.
    """
    for number, line in enumerate(_lines(chunks, name), 1):
        if line and not line.isspace():
            where = f"{name}, line {number}"
            content = _field_of(_object(line, where), where, field)
            if content:
                yield Record(where, _sound(content, where, errors))


def _lines(chunks: Iterable[str], name: str) -> Iterator[str]:
    waiting: list[str] = []
    length = number = 0
    for chunk in chunks:
        first, *others = chunk.split("\n")
        waiting.append(first)
        length += len(first)
        for other in others:
            yield "".join(waiting)
            waiting, length, number = [other], len(other), number + 1
        if length > LONGEST:
            raise TextError(f"{name}, line {number + 1} is longer than {LONGEST:,} characters; cut it into documents")
    yield "".join(waiting)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        if line.lstrip().startswith("["):
            raise _array(where) from None
        reason = "it nests too deep or holds too large a number"
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise TextError(f"{where} is not JSON: {reason}; put one object on each line") from None
    if isinstance(value, list):
        raise _array(where)
    if not isinstance(value, dict):
        raise TextError(f"{where} holds no object; put one object with a text field on each line")
    return value


def _array(where: str) -> "ArrayError":
    return ArrayError(f"{where} begins an array; put each of its objects on a line of its own, as jq -c '.[]' does")


def _field_of(value: dict[str, Any], where: str, field: str) -> str | list[Message]:
    if field == USUAL:
        field = next((name for name in (USUAL, *MESSAGES) if name in value), USUAL)
    if field not in value:
        known = ", ".join(list(value)[:8]) or "nothing"
        wanted = f"{field!r} or {MESSAGES[0]!r}" if field == USUAL else repr(field)
        advice = "leave --field out" if field in MESSAGES and USUAL in value else "choose with --field"
        raise TextError(f"{where} has no field {wanted}; it has {known}: {advice}")
    content = value[field]
    if isinstance(content, list) and all(isinstance(message, dict) for message in content):
        return [_message(message, f"{where}, message {number}") for number, message in enumerate(content, 1)]
    if field in MESSAGES and not isinstance(content, str):
        raise TextError(f"{where}: {field!r} holds no conversation; give a list of objects with a role and a content")
    if not isinstance(content, str):
        raise TextError(f"{where}: the field {field!r} holds no text; choose another with --field")
    return content


def _message(value: dict[str, Any], where: str) -> Message:
    role = _found(value, ROLE, where)
    role = ALIASES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        raise TextError(f"{where} has the role {_short(role)}; give one of {', '.join([*ROLES, *ALIASES])}")
    content = _found(value, CONTENT, where)
    if isinstance(content, list):  # of parts, of which texts can be learned from
        content = "".join(_part(part, where) for part in content)
    if not isinstance(content, str):
        raise TextError(f"{where} has a content that is no text: {_short(content)}; leave the line out")
    return {"role": role, "content": content}


def _short(value: Any) -> str:
    """A value as the file has it, or its beginning."""
    text = json.dumps(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"


def _found(message: dict[str, Any], names: tuple[str, ...], where: str) -> Any:
    for name in names:
        if name in message:
            return message[name]
    raise TextError(f"{where} has no {names[0]}; it has {', '.join(list(message)[:8]) or 'nothing'}: add it")


def _part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise TextError(f"{where} has a part that is no text: {_short(part)}; leave the line out")


def _sound(content: str | list[Message], where: str, errors: Errors) -> str | list[Message]:
    if isinstance(content, str):
        return _encodable(content, where, errors)
    return [
        {**message, "content": _encodable(message["content"], f"{where}, message {number}", errors)}
        for number, message in enumerate(content, 1)
    ]


def _encodable(text: str, where: str, errors: Errors) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which is no character
        if errors == "strict":
            raise TextError(
                f"{where} holds half a surrogate pair at character {error.start}; mend it, or use --errors replace"
            ) from None
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
