"""The OpenAPI document, made exact: every status a route can answer with, and what may go in."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict

from solomonic.serve.services import Services


class Fault(BaseModel):
    """What went wrong."""

    model_config = ConfigDict(extra="forbid")
    message: str
    type: str
    code: str
    param: str | None


class ErrorBody(BaseModel):
    """The shape of every error."""

    model_config = ConfigDict(extra="forbid")
    error: Fault


_SAYS = {
    400: "A parameter is missing, unknown or out of range; `param` names it.",
    401: "There is no valid API key.",
    403: "Not allowed: for a page of another server, for another user, or in this mode.",
    404: "There is no such thing, or not on this server.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is of a type that is not taken.",
    429: "Too many requests; `Retry-After` says when to come again.",
    500: "A fault of the server.",
    503: "The server is full or stopping; `Retry-After` says when to come again.",
}
_LATER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
ERRORS: dict[int, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": says}
    | ({"headers": _LATER} if status in (429, 503) else {})
    for status, says in _SAYS.items()
}
"""`responses` of routes: what each status means."""


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` for these statuses."""
    return {status: ERRORS[status] for status in statuses}


REFUSALS = errors(400, 401, 403, 429, 503)
"""What any route with `require_client` may answer."""
BODY = REFUSALS | errors(408, 413)
"""What any of them with a body may answer."""


def install(app: FastAPI, services: Services) -> None:
    """Let `app` serve its document with what only a running server knows."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            app.openapi_schema = _exact(made, services)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _exact(document: dict[str, Any], services: Services) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # errors have our shape
        schemas.pop(name, None)
    known = {"Choices": services.config.max_choices}
    if services.lm is not None:
        known["TokenId"] = services.lm.vocab_size - 1
    for name, maximum in known.items():
        if name in schemas:
            schemas[name]["maximum"] = maximum
    for path, item in document["paths"].items():
        for operation in item.values():
            operation["responses"].pop("422", None)
            if services.keys.required and path not in ("/health", "/ready"):
                operation["security"] = [{"key": []}]
    if services.keys.required:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return document
