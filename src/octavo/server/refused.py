"""What a request is refused with: the API's error object, and its status."""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"} | dict.fromkeys(
    (500, 503), "server_error"
)
DESCRIBED = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


class RefusedError(HTTPException):
    """A request that is not answered: what is wrong with it, then what to do."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.param, self.code = param, code

    def content(self) -> dict[str, Any]:
        """The API's error object."""
        return error_object(self.status_code, str(self.detail), self.param, self.code)

    def response(self) -> JSONResponse:
        """The answer itself."""
        return JSONResponse(self.content(), self.status_code, self.headers)


def error_object(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in the API's form.

    >>> error_object(404, "no model x; there is y")["error"]["type"]
    'invalid_request_error'
    """
    return {
        "error": {"message": message, "type": KINDS.get(status, "invalid_request_error"), "param": param, "code": code}
    }


def of_validation(error: RequestValidationError) -> RefusedError:
    """The first thing that is wrong with a request, in one line.

    Of a field that may be of several kinds each kind complains: the one that was meant is not of the wrong type, or
    only deep within.
    """
    first = max(error.errors(), key=lambda one: (not one["type"].endswith("_type"), len(one["loc"])))
    names = [str(part) for part in first["loc"][1:]]
    param = first.get("ctx", {}).get("name") or (names[0] if names else None)
    where = ".".join(name for name in names if re.fullmatch(r"\w+", name))  # the others are kinds of values
    message = first["msg"].removeprefix("Value error, ")
    return RefusedError(400, f"{where}: {message}" if where else message, param=param)
