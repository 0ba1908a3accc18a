"""Middleware that guards browsers: which pages may ask, by which name, and what they may do."""

from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from solomonic.serve.auth import same_origin
from solomonic.serve.config import ServeConfig, is_loopback
from solomonic.serve.errors import HttpError

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
"""Of every answer, unless its route says something else (the page does)."""
HSTS = "max-age=31536000"
_METHODS = "GET, POST, PUT, DELETE"
_ALLOWED = "Authorization, Content-Type, X-API-Key, X-Solomonic-User"


class Guard:
    """Refuses requests of foreign pages and under foreign names; adds headers to all answers.

    Without `cors_origins` no page of another server can read an answer (browsers ask for headers
    that are not sent) nor do anything blindly: a request that names a foreign origin is refused,
    WebSockets too, which browsers open across origins without asking.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self.app, self.config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        connection = HTTPConnection(scope)
        origin = connection.headers.get("origin")
        answer = _with_headers(send, self._headers(origin))
        if (error := self._refusal(connection)) is not None:
            if scope["type"] == "websocket":
                return await send({"type": "websocket.close", "code": 4403, "reason": error.code})
            return await error.response()(scope, receive, answer)
        if scope["type"] == "http" and _is_preflight(connection, scope):
            return await Response(status_code=204)(scope, receive, answer)
        await self.app(scope, receive, answer)

    def _refusal(self, connection: HTTPConnection) -> HttpError | None:
        if not self._known_host(connection.headers.get("host", "")):
            return HttpError(
                421, "unknown_host",
                "this server does not go by that name; use its address, or start it with the name "
                "as --allow-host.",
            )  # fmt: skip
        if not same_origin(connection, self.config):
            return HttpError(
                403, "foreign_origin",
                "pages of other servers may not use this one; its operator can allow them with "
                "--cors-origin.",
            )  # fmt: skip
        if self.config.local_only and _is_audio(connection):
            return HttpError(
                403, "audio_refused",
                "this server runs in local-only mode and takes no audio; send lattices.",
            )  # fmt: skip
        return None

    def _known_host(self, host: str) -> bool:
        """Against DNS rebinding: a page's own name that was made to point at this machine."""
        name = _without_port(host).lower()
        if self.config.hosts:
            return name in self.config.hosts or is_loopback(name)
        return not self.config.loopback or is_loopback(name)

    def _headers(self, origin: str | None) -> dict[str, str]:
        found = dict(HEADERS)
        if self.config.tls_cert:
            found["Strict-Transport-Security"] = HSTS
        if origin is not None and origin in self.config.cors_origins:
            found |= {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": _ALLOWED,
                "Access-Control-Expose-Headers": "Retry-After, X-Request-Id",
                "Access-Control-Max-Age": "600",
                "Cross-Origin-Resource-Policy": "cross-origin",
            }
        if self.config.cors_origins:
            found["Vary"] = "Origin"
        return found


def _is_audio(connection: HTTPConnection) -> bool:
    """Whether it is for audio and nothing else. /v1/stream takes lattices too, and refuses audio
    itself."""
    path, socket = connection.scope["path"], connection.scope["type"] == "websocket"
    return path.startswith("/v1/audio") or (socket and path in ("/", "/vosk"))


def _is_preflight(connection: HTTPConnection, scope: Scope) -> bool:
    asks = "access-control-request-method" in connection.headers
    return scope["method"] == "OPTIONS" and asks and "origin" in connection.headers


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if ":" in host else host


def _with_headers(send: Send, extra: dict[str, str]) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in extra.items():
                if name == "Vary":
                    headers.add_vary_header(value)
                else:
                    headers.setdefault(name, value)
            message = {**message, "headers": headers.raw}
        await send(message)

    return answer


def allowed_hosts(names: Iterable[str]) -> tuple[str, ...]:
    """Names of hosts as they are compared: lower case, no port."""
    return tuple(_without_port(name).lower() for name in names)
