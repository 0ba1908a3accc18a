"""Server-sent events, and noticing that a client has gone."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from solomonic.serve.errors import as_http

Answer = TypeVar("Answer")
DONE = b"data: [DONE]\n\n"
log = logging.getLogger(__name__)


class Gone(Exception):
    """The client has closed the connection; there is nobody to answer."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of `work`, which is cancelled when the client goes.

    Raises:
        Gone: it did.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends JSON events as they come; a client that goes, or reads too slowly, ends it.

    Args:
        events: the events; an error among them becomes the stream's last event.
        held: entered and left around the whole stream: the client's places.
        seconds: after which the stream is given up, however far it is.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: Callable[[], AsyncIterator[dict[str, Any]]],
        held: AbstractContextManager[Any],
        seconds: float,
    ) -> None:
        # A proxy that collects the stream before it passes it on would undo it.
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._held, self._seconds = events, held, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: dict[str, Any] = {"type": "http.response.start", "status": self.status_code}
        with self._held:
            await send(start | {"headers": self.raw_headers})
            try:
                async with asyncio.timeout(self._seconds):
                    await unless_gone(receive, self._send(send))
            except (Gone, TimeoutError):
                return

    async def _send(self, send: Callable[[Any], Awaitable[None]]) -> None:
        try:
            async for event in self._events():
                await send(_body(b"data: " + json.dumps(event).encode() + b"\n\n"))
        except Exception as error:
            log.error("stream failed", exc_info=error, extra={"part": "lm"})
            await send(_body(b"data: " + json.dumps(as_http(error).body()).encode() + b"\n\n"))
        await send(_body(DONE))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _body(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}
