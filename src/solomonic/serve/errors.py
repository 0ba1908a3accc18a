"""Errors as clients see them: one shape, OpenAI's, for every fault and every status.

    {"error": {"message": "...", "type": "...", "code": "...", "param": null}}

`message` is one sentence that says what is wrong and what to do; it never has text of a user.
"""

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from solomonic.core import CheckpointError, SolomonicError, StorageError

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
         429: "rate_limit_error"}  # fmt: skip
"""Type by status; other 4xx are "invalid_request_error", 5xx "server_error"."""
_CODES = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found",
          405: "method_not_allowed", 413: "too_large", 429: "too_many_requests",
          503: "unavailable"}  # fmt: skip
UNSUPPORTED = (
    "suffix", "best_of", "presence_penalty", "frequency_penalty", "logit_bias", "tools",
    "tool_choice", "response_format", "modalities", "store", "service_tier",
)  # fmt: skip
"""Parameters of OpenAI's that may only have the value that changes nothing."""


class HttpError(SolomonicError):
    """A refusal with its HTTP status.

    Args:
        status: 400 .. 599.
        code: a word for programs, "too_many_requests".
        message: a sentence for people, without text of a user.
        param: the parameter at fault.
        retry_after: seconds after which it may work, sent as `Retry-After` in whole seconds.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after = param, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        found = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            found["WWW-Authenticate"] = "Bearer"
        return found

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return body(self.status, self.code, self.message, self.param)

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


def body(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """OpenAI's shape of an error."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "code": code, "param": param}}


def as_http(error: Exception) -> HttpError:
    """Any error as the refusal that a client gets; what is no `SolomonicError` tells nothing."""
    if isinstance(error, HttpError):
        return error
    status = getattr(error, "status", None)
    if isinstance(error, SolomonicError) and isinstance(status, int):  # of a part: it knows best
        code = str(getattr(error, "code", _CODES.get(status, "error")))
        return HttpError(status, code, str(error), retry_after=getattr(error, "retry_after", None))
    if isinstance(error, StorageError):
        # Its sentence names paths and servers, which are none of a client's business.
        return HttpError(
            503, "storage_unavailable", "the store cannot be used just now; try again.",
            retry_after=5,
        )  # fmt: skip
    if isinstance(error, SolomonicError) and not isinstance(error, CheckpointError):
        return HttpError(400, "invalid_value", str(error))
    return HttpError(
        500, "internal_error", "a fault of the server; its log has the request's X-Request-Id."
    )


def install(app: FastAPI) -> None:
    """Make `app` answer every error in the one shape."""
    app.add_exception_handler(SolomonicError, _refuse)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)


async def _refuse(_: Request, error: Exception) -> Response:
    return as_http(error).response()


async def _plain(_: Request, error: Exception) -> Response:
    """Starlette's own: no such route, no such method, a body that cannot be kept or read."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OSError):  # a large upload lies in a file without a name
        return HttpError(
            503, "storage_unavailable", "the server has no room for the upload now; try again.",
            retry_after=5,
        ).response()  # fmt: skip
    known = _CODES.get(error.status_code, "error")
    sentence = {
        404: "there is nothing at this address; /openapi.json lists what there is.",
        405: "this address does not take that method; the Allow header names those it takes.",
        400: "the body cannot be read; send JSON with Content-Type: application/json.",
    }.get(error.status_code, str(error.detail))
    answer = HttpError(error.status_code, known, sentence).response()
    answer.headers.update(error.headers or {})
    return answer


async def _invalid(_: Request, error: Exception) -> Response:
    """A body or parameter that does not fit: the first fault, by name and without its value."""
    assert isinstance(error, RequestValidationError)
    return invalid(error.errors()).response()


def invalid(faults: Any) -> HttpError:
    """What a client is told about faults that Pydantic found."""
    first = faults[0] if faults else {"type": "value_error", "loc": (), "msg": "invalid"}
    # The first part is where it stood: "body", "query" ... and of JSON that is none, a position.
    place = [str(part) for part in first["loc"][1:]]
    param = _name(place[0]) if place else None
    if first["type"] == "json_invalid":
        return HttpError(400, "invalid_json", "the body is no JSON; send a JSON object.")
    if first["type"] == "extra_forbidden" or param in UNSUPPORTED:
        name = _name(place[-1]) if first["type"] == "extra_forbidden" else param
        return HttpError(
            400, "unsupported_parameter",
            f"the parameter '{name}' is not supported here; leave it out.", param=name,
        )  # fmt: skip
    if param is None:
        return HttpError(400, "invalid_value", "the body must be a JSON object; send one.")
    if first["type"] == "missing" and len(place) == 1:
        return HttpError(
            400, "missing_parameter", f"the parameter '{param}' is missing; give it.", param=param
        )
    same = [fault["loc"][2:3] for fault in faults if fault["loc"][1:2] == first["loc"][1:2]]
    message = str(first["msg"]).removeprefix("Value error, ")
    if len(set(same)) > 1:
        message = "it has none of the forms that it may have; see /openapi.json."
    return HttpError(400, "invalid_value", f"the parameter '{param}': {message}", param=param)


def _name(param: str) -> str:
    """A parameter's name, shortened: names come from the client too."""
    return param[:64]
