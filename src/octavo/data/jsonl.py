"""JSON lines: one object per line, and in each a field that holds the text of one document."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from octavo.data.decoding import Errors
from octavo.errors import TextError

LONGEST = 1 << 24  # characters of one line, for a line has to be in memory as a whole


def read_records(chunks: Iterable[str], name: str, field: str, errors: Errors) -> Iterator[str]:
    """Yield the text of each line's object; blank lines and empty texts are passed over.

    Raises `TextError` with the name and the line where there is no JSON object, no such field, or no text in it.
    """
    for number, line in enumerate(_lines(chunks, name), 1):
        if line and not line.isspace():
            text = _field_of(_object(line, f"{name}, line {number}"), f"{name}, line {number}", field)
            if text:
                yield _encodable(text, f"{name}, line {number}", errors)


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
        reason = getattr(error, "msg", "it nests too deep or holds too large a number")
        raise TextError(f"{where} is not JSON: {reason}; put one object on each line") from None
    if not isinstance(value, dict):
        raise TextError(f"{where} holds no object; put one object with a text field on each line")
    return value


def _field_of(value: dict[str, Any], where: str, field: str) -> str:
    if field not in value:
        known = ", ".join(list(value)[:8]) or "nothing"
        raise TextError(f"{where} has no field {field!r}; it has {known}: choose with --field")
    if not isinstance(value[field], str):
        raise TextError(f"{where}: the field {field!r} holds no text; choose another with --field")
    return value[field]


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
