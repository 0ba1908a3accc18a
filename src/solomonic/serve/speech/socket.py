"""A WebSocket with bounds: what may come in, how long a client may not read, how it ends.

{"type": "error", "error": {"message", "type", "code", "param"}, ...}    and a close code
"""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from solomonic.core import SolomonicError
from solomonic.serve.errors import as_http, body
from solomonic.serve.speech.errors import Refused, StreamFailed

LARGEST_TEXT = 256 * 1024
"""Bytes of a text message: 5,000 personal words fit."""
LARGEST_AUDIO = 512 * 1024
"""Bytes of a binary message; fewer than uvicorn takes, so that a refusal can be told."""
SEND_SECONDS = 10.0
"""How long a client may let what it is sent lie in the connection."""
NORMAL, TOO_BIG, POLICY, INTERNAL, RESTART, LATER = 1000, 1009, 1008, 1011, 1012, 1013
FORBIDDEN = 4403
CLOSE = {
    "too_large": TOO_BIG,
    "internal_error": INTERNAL,
    "shutting_down": RESTART,
    "stopping": LATER,
    "engine_full": LATER,
    "too_many_streams": LATER,
    "rerank_busy": LATER,
    "storage_unavailable": LATER,
    "audio_refused": FORBIDDEN,
}
"""Close codes by error code; every other error closes with 1008."""


class BadMessage(SolomonicError):
    """A message that is none of the protocol.

    Attributes:
        code: a word for programs.
        param: the field at fault.
    """

    status = 400

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param
        self.retry_after = None


class Gone(Exception):
    """The client has closed, or does not read: there is nobody to tell anything."""


class Socket:
    """One accepted WebSocket; messages are sent whole and one after the other."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._sending = asyncio.Lock()

    async def receive(self, seconds: float | None = None) -> bytes | str:
        """The next message.

        Raises:
            Gone: the client has closed.
            BadMessage: nothing came in time, or the message is too large.
        """
        try:
            async with asyncio.timeout(seconds):
                message = await self._websocket.receive()
        except TimeoutError:
            raise BadMessage("idle_timeout", f"no message came for {seconds:g} s.") from None
        except (WebSocketDisconnect, RuntimeError) as error:
            raise Gone from error
        if message["type"] == "websocket.disconnect":
            raise Gone
        text, data = message.get("text"), message.get("bytes")
        size, most = (
            (len(text), LARGEST_TEXT) if text is not None else (len(data or b""), LARGEST_AUDIO)
        )
        if size > most:
            raise BadMessage("too_large", f"a message has {size} bytes; send at most {most}.")
        return text if text is not None else bytes(data or b"")

    async def receive_unless(
        self, over: Coroutine[Any, Any, Any], seconds: float | None = None
    ) -> bytes | str | None:
        """The next message; None when `over` ends before it comes. Raises as `receive`."""
        ending = asyncio.ensure_future(over)
        coming = asyncio.ensure_future(self.receive(seconds))
        try:
            await asyncio.wait({ending, coming}, return_when=asyncio.FIRST_COMPLETED)
            return coming.result() if coming.done() else None
        finally:
            ending.cancel()
            coming.cancel()

    async def send(self, message: dict[str, Any]) -> None:
        """As JSON text.

        Raises:
            Gone: the client has closed, or does not read.
        """
        await self.send_text(json.dumps(message, ensure_ascii=False, allow_nan=False))

    async def send_text(self, text: str) -> None:
        """Text as it is; raises as `send`."""
        await self._send({"type": "websocket.send", "text": text})

    async def send_bytes(self, data: bytes) -> None:
        """A binary message; raises as `send`."""
        await self._send({"type": "websocket.send", "bytes": data})

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End it; a client that does not answer is not waited for."""
        if self._websocket.application_state is WebSocketState.DISCONNECTED:
            return
        with contextlib.suppress(Exception):  # it may be closed already, from either side
            async with asyncio.timeout(SEND_SECONDS):
                await self._websocket.close(code, reason[:100])

    async def fail(self, error: Exception) -> None:
        """Say what went wrong and close."""
        plain = error_json(error)
        code = plain["error"]["code"]
        with contextlib.suppress(Gone):
            await self.send(plain)
        await self.close(CLOSE.get(code, POLICY), code)

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._websocket.send(message)
            except Exception as error:  # each server has its own way of saying that it is closed
                raise Gone from error


def error_json(error: Exception) -> dict[str, Any]:
    """The message for any error; what is no `SolomonicError` tells nothing but that."""
    if isinstance(error, StreamFailed):
        status = {"internal_error": 500, "shutting_down": 503}.get(error.code, 400)
        plain = body(status, error.code, str(error))
        return {"type": "error", **plain, "text": error.text, "heard": round(error.heard, 3)}
    if isinstance(error, BadMessage | Refused):
        plain = body(error.status, error.code, str(error), getattr(error, "param", None))
        later = {} if error.retry_after is None else {"retry_after": error.retry_after}
        return {"type": "error", **plain, **later}
    return {"type": "error", **as_http(error).body()}


def parse_object(text: str) -> dict[str, Any]:
    """A text message as a JSON object.

    Raises:
        BadMessage: it is none.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage("invalid_json", "a text message is no JSON; send a JSON object.") from None
    if not isinstance(plain, dict):
        raise BadMessage("invalid_json", "a text message is no JSON object; send {...}.")
    return plain
