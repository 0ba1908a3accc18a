"""Limits on what one client may ask: requests a minute, work at once, and the size of a body."""

import asyncio
import collections
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from solomonic.serve.config import ServeConfig
from solomonic.serve.errors import HttpError

CLIENTS = 10_000
"""Buckets that are remembered; the one that was idle longest is forgotten first."""
UPLOADS = ("/v1/audio/", "/v1/lattices")
"""Paths whose bodies may have `max_body_bytes`; all others have `max_json_bytes`."""

LINGER = 2.0
"""Seconds for which the rest of a refused body is thrown away."""


class Buckets:
    """Token buckets by client: `rate` a minute on average, bursts of as many.

    Args:
        rate: tokens a minute; 0: no limit.
        clock: seconds, for tests.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._levels: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def take(self, client: str, rate: float | None = None) -> float:
        """Take one token: 0.0, or the seconds until there is one (then nothing was taken)."""
        rate = self.rate if rate is None else rate
        if rate <= 0:
            return 0.0
        now = self._clock()
        level, then = self._levels.pop(client, (rate, now))
        level = min(rate, level + (now - then) * rate / 60)
        wait = 0.0 if level >= 1 else (1 - level) * 60 / rate
        self._levels[client] = (level - (wait == 0), now)
        if len(self._levels) > CLIENTS:
            self._levels.popitem(last=False)
        return wait


class Limits:
    """What the clients of one server have used."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.requests = Buckets(config.requests_per_minute)
        self.failures = Buckets(30)
        """Wrong keys by address: a search through keys is slowed down."""
        self._running: collections.Counter[tuple[str, str]] = collections.Counter()

    def admit(self, client: str, rate: float | None = None) -> None:
        """Count one request of `client`.

        Raises:
            HttpError: 429 when there were too many.
        """
        if wait := self.requests.take(client, rate):
            raise HttpError(
                429, "rate_limit_exceeded",
                "too many requests in a minute; wait as long as Retry-After says.",
                retry_after=wait,
            )  # fmt: skip

    @contextmanager
    def slot(self, kind: str, client: str, most: int, count: int = 1) -> Iterator[None]:
        """Hold `count` of the `most` slots of this kind that a client has, while entered.

        Raises:
            HttpError: 429 when they are taken.
        """
        key = (kind, client)
        if self._running[key] + count > most:
            raise HttpError(
                429, "too_many_at_once",
                f"a client may have {most} {kind} at once; wait until others have ended.",
                retry_after=1,
            )  # fmt: skip
        self._running[key] += count
        try:
            yield
        finally:
            self._running[key] -= count
            if not self._running[key]:
                del self._running[key]


class BodyLimit:
    """Middleware that counts a body while it comes in: one that is too large or too slow is
    refused at once, and the connection closed, before anything has been kept of it."""

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self.app, self.config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        upload = scope["path"].startswith(UPLOADS)
        most = self.config.max_body_bytes if upload else self.config.max_json_bytes
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > most:
            return await refuse(_too_large(most), receive, send)
        guard = _Guard(receive, send, most, self.config.body_timeout)
        await self.app(scope, guard.receive, guard.send)
        if guard.refused is not None:
            await refuse(guard.refused, receive, send, unread=not guard.complete)


class _Guard:
    """`receive` and `send` of one request. Once a body is refused the application sees a client
    that has gone, and what it answers is not sent, unless it had begun to."""

    def __init__(self, receive: Receive, send: Send, most: int, seconds: float) -> None:
        self._receive, self._send = receive, send
        self._left, self._seconds, self._most = most, seconds, most
        self._until: float | None = None
        self.complete = self._begun = False
        self.refused: HttpError | None = None

    async def receive(self) -> Message:
        if self.refused is not None:
            return {"type": "http.disconnect"}
        if self.complete:
            return await self._receive()
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + self._seconds
        try:
            message = await asyncio.wait_for(self._receive(), max(self._until - now, 0.001))
        except TimeoutError:
            return self._stop(
                HttpError(408, "body_timeout", "the body did not arrive in time; send it faster.")
            )
        self._left -= len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        return self._stop(_too_large(self._most)) if self._left < 0 else message

    async def send(self, message: Message) -> None:
        if self.refused is None or self._begun:
            self._begun = True
            await self._send(message)

    def _stop(self, error: HttpError) -> Message:
        if not self._begun:
            self.refused = error
        return {"type": "http.disconnect"}


def _too_large(most: int) -> HttpError:
    return HttpError(413, "too_large", f"the body is larger than {most} bytes; send less at once.")


async def refuse(error: HttpError, receive: Receive, send: Send, unread: bool = True) -> None:
    """Answer a request whose body was not read to its end, and close the connection.

    A connection closed under a client that still sends is reset, and the answer may be lost with
    it: what comes is thrown away until the body ends, for at most `LINGER` seconds.
    """
    answer = error.response()
    answer.headers["Connection"] = "close"
    start = {"type": "http.response.start", "status": answer.status_code}
    await send(start | {"headers": answer.raw_headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": unread})
    if not unread:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body", False):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
