"""Structured logs on standard error: one JSON object a line, and never what a user said or wrote.

Fields of a request: time, level, event, id, route, method, status, ms, client. The route is the
template ("/v1/models/{model}"), not the address; neither query, headers nor bodies are logged.
"""

import json
import logging
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from solomonic.serve.metrics import Metrics

log = logging.getLogger("solomonic.serve.requests")
FIELDS = ("id", "route", "method", "status", "ms", "client", "part", "count", "code", "seconds")
"""What code may give as `extra`; anything else is left out of the log."""


LEAST = {"solomonic": logging.DEBUG, "uvicorn": logging.INFO}
"""The lowest level of each: at debug uvicorn's WebSockets would write headers and messages."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON. Of an exception only type and place are shown: messages of
    exceptions may quote what was being worked on."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": _event(record),
            "logger": record.name,
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["where"] = _places(record.exc_info[2])
        return json.dumps(line, default=str)


def _event(record: logging.LogRecord) -> str:
    """What happened, in words of ours or uvicorn's; others may quote what they worked on."""
    if record.name.startswith("uvicorn"):
        return record.getMessage()
    if record.name.startswith("solomonic"):
        return record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    return f"{record.levelname.lower()} of a library"


def _has_no_address(record: logging.LogRecord) -> bool:
    """False for uvicorn's lines about WebSockets: they have the address with its query, in which a
    key may stand. Each connection has a line of `Watch`."""
    return not (record.name.startswith("uvicorn") and '"WebSocket %s"' in str(record.msg))


def _places(trace: Any) -> list[str]:
    """file:line of the innermost frames, outermost first."""
    found = []
    while trace is not None:
        found.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return found[-8:]


def configure(level: str = "info", stream: TextIO | None = None) -> logging.Handler:
    """Send what the server and uvicorn log to `stream` (standard error), as JSON.

    Warnings of other libraries come too, without their text, which may quote what a user sent.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_has_no_address)
    for name, least in LEAST.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(max(logging.getLevelNamesMapping()[level.upper()], least))
    root = logging.getLogger()  # of all libraries; one handler of ours, whoever asked before
    others = [one for one in root.handlers if not isinstance(one.formatter, JsonFormatter)]
    root.handlers = [*others, handler]
    # One line a request is ours; uvicorn's has the address with its query.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("websockets").setLevel("CRITICAL")
    return handler


class Watch:
    """Middleware: gives each request an id, counts it, and writes its one line."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        scope.setdefault("state", {})
        identity = scope["state"]["request_id"] = secrets.token_hex(8)
        begun, status, opened = time.perf_counter(), 0, ""

        async def answer(message: Message) -> None:
            nonlocal status, opened
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [
                    *message.get("headers", []), (b"x-request-id", identity.encode()),
                ]}  # fmt: skip
            elif message["type"] == "websocket.close":
                status = message.get("code", 1000)
            elif message["type"] == "websocket.accept":
                status, opened = 101, route_of(scope)
                self.metrics.sockets.labels(opened).inc()
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Exception:
            log.exception("failed", extra={"id": identity, "route": route_of(scope)})
            if scope["type"] == "websocket" or status:  # too late for an answer
                status = status or 1011
                raise
            await _fault(scope, receive, answer)
        finally:
            if opened:
                self.metrics.sockets.labels(opened).dec()
            self._note(scope, route_of(scope), status or 499, time.perf_counter() - begun)

    def _note(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        method = scope.get("method", "WS")
        if method not in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "WS"):
            method = "other"  # labels are few, whatever clients send
        self.metrics.requests.labels(route, method, str(status)).inc()
        if scope["type"] == "http":
            self.metrics.seconds.labels(route).observe(seconds)
        quiet = route in ("/health", "/ready", "/metrics") and status < 400
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "request",
            extra={
                "id": scope["state"]["request_id"],
                "route": route,
                "method": method,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "client": scope["state"].get("client", ""),
            },
        )


def route_of(scope: Scope) -> str:
    """The template of the route that took this request, "other" where there was none."""
    return getattr(scope.get("route"), "path", None) or "other"


async def _fault(scope: Scope, receive: Receive, send: Send) -> None:
    from solomonic.serve.errors import as_http

    await as_http(Exception()).response()(scope, receive, send)
