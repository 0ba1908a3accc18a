"""Who is asking: API keys, users, and pages of other servers that have no business here.

A key comes as `Authorization: Bearer KEY` or `X-API-Key: KEY`. WebSockets of browsers have no
headers: they give it as a subprotocol, `new WebSocket(url, ["solomonic", "key." + KEY])`, and
clients that know only an address as `?api_key=KEY` (which proxies may log; avoid it).
"""

import asyncio
import dataclasses
import hmac
import time

from fastapi import Request, WebSocket
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from solomonic.core import SolomonicError
from solomonic.serve.config import ServeConfig
from solomonic.serve.errors import HttpError, as_http
from solomonic.serve.keys import NAME, KeyFile, KeySource, hash_key
from solomonic.serve.limits import refuse
from solomonic.serve.services import Services, services_of
from solomonic.serve.store.base import KeyRecord

LOCAL = "local"
"""Name of everybody where there are no keys."""
REMEMBERED = 5.0
"""Seconds for which an answer of the store is believed, so also until a revoked key is refused."""
PROTOCOL = "solomonic"
REFUSED = 4401
"""WebSocket close code of those without a valid key."""
_ADMITTED = "admitted"


@dataclasses.dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        name: of the key, "local" without keys. Limits and logs go by it.
        user: whose memory is used. A key that is bound to a user has that one's; any other may
            name one, which is then its own: "<key>:<user>". Without keys it is the name given.
        limits: of the key, in place of the server's (`keys.LIMITS`).
    """

    name: str
    user: str
    limits: dict[str, int] = dataclasses.field(default_factory=dict)

    def limit(self, name: str, otherwise: int) -> int:
        """One of the key's limits, or the server's."""
        return int(self.limits.get(name, otherwise))


class Keys:
    """Looks keys up, and remembers for some seconds what it found.

    Args:
        source: a key file, or the store.
        required: whether there must be a key. Once one has been seen there always must: revoking
            the last key does not open the door, and the first one shuts it within seconds.
    """

    def __init__(self, source: KeySource | None, required: bool) -> None:
        self.source, self.required = source, required
        self._found: dict[bytes, tuple[float, KeyRecord | None]] = {}
        self._looked = time.monotonic()

    async def needed(self) -> bool:
        """`required`, after a look every few seconds whether there is a first key now."""
        now = time.monotonic()
        if not self.required and self.source is not None and now > self._looked + REMEMBERED:
            self._looked = now
            if await asyncio.to_thread(self.source.keys):
                self.required = True
        return self.required

    async def find(self, key: str) -> KeyRecord | None:
        """What is known of `key`; None: it is not valid."""
        if self.source is None:
            return None
        wanted, now = hash_key(key), time.monotonic()
        until, record = self._found.get(wanted, (0.0, None))
        if until < now:
            record = await asyncio.to_thread(self.source.find_key, wanted)
            if len(self._found) >= 1000:
                self._found.clear()
            if record is not None:  # wrong keys are not remembered: there are many
                self._found[wanted] = (now + REMEMBERED, record)
        if record is None or not hmac.compare_digest(bytes(record.key_hash), wanted):
            return None
        return record

    async def forget_user(self, user: str) -> int:
        """Remove the user's keys where they are not in the store; how many they were."""
        if not isinstance(self.source, KeyFile):
            return 0
        self._found.clear()
        return await asyncio.to_thread(self.source.revoke_user, user)


async def require_client(request: Request) -> Client:
    """The client of an HTTP request; a dependency: `client = Depends(require_client)`.

    Where the request has a body `Door` has asked already, and is believed.

    Raises:
        HttpError: 401 without a valid key, 429 after too many requests, 503 while draining, 403
            for a page of another server, 400 for a user that may not be named.
    """
    known = request.scope.get("state", {}).get(_ADMITTED)
    return known or await _client(request, services_of(request))


class Door:
    """Middleware: who sends a body is asked before any of it is read.

    Routes learn who asks only after their body has been read and parsed; without the door those
    who have no key could fill memory and disk with bodies.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(scope):
            request = Request(scope)
            try:
                client = await _client(request, services_of(request))
            except SolomonicError as error:
                return await refuse(as_http(error), receive, send)
            scope.setdefault("state", {})[_ADMITTED] = client
        await self.app(scope, receive, send)


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers


async def require_client_ws(websocket: WebSocket) -> Client:
    """The client of a WebSocket that was not accepted yet.

    Raises:
        HttpError: as `require_client`; the socket was closed with 4401 (no valid key), 4429 (too
            many), 4403 or 1013 (stopping), and the message as reason.
    """
    try:
        return await _client(websocket, services_of(websocket))
    except HttpError as error:
        code = {401: REFUSED, 403: 4403, 429: 4429, 503: 1013}.get(error.status, 1008)
        # A handshake that is refused has no close code, so the socket is opened to say why.
        await websocket.accept(subprotocol=subprotocol(websocket))
        await websocket.close(code, error.message[:120])
        raise


def subprotocol(websocket: WebSocket) -> str | None:
    """What to accept a WebSocket with: "solomonic" if the client offers it. Never its key."""
    return PROTOCOL if PROTOCOL in websocket.scope.get("subprotocols", []) else None


async def _client(connection: HTTPConnection, services: Services) -> Client:
    if services.draining.is_set():
        raise HttpError(
            503, "stopping", "the server is stopping; try again in a moment.", retry_after=5
        )
    record = await _record(connection, services)
    name = LOCAL if record is None else str(record.name)
    client = Client(name, "", {} if record is None else dict(record.limits or {}))
    connection.scope.setdefault("state", {})["client"] = name
    limits = services.limits
    limits.admit(name, client.limit("requests_per_minute", limits.config.requests_per_minute))
    return dataclasses.replace(client, user=_user(connection, record))


async def _record(connection: HTTPConnection, services: Services) -> KeyRecord | None:
    if not await services.keys.needed():
        return None
    # Behind a proxy all addresses are the proxy's, unless uvicorn trusts its headers.
    address = connection.client.host if connection.client else ""
    key = _key(connection)
    record = None if key is None else await services.keys.find(key)
    if record is not None:
        return record
    if wait := services.limits.failures.take(address):
        raise HttpError(
            429, "too_many_failures",
            "too many requests without a valid key; wait as long as Retry-After says.",
            retry_after=wait,
        )  # fmt: skip
    said = "an API key is needed" if key is None else "the API key is not valid"
    raise HttpError(401, "invalid_api_key", f"{said}; send it as 'Authorization: Bearer KEY'.")


def _key(connection: HTTPConnection) -> str | None:
    scheme, _, rest = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    if given := connection.headers.get("x-api-key"):
        return given
    if connection.scope["type"] != "websocket":
        return None
    for offered in connection.scope.get("subprotocols", []):
        if offered.startswith("key."):
            return offered.removeprefix("key.")
    return connection.query_params.get("api_key")


def _user(connection: HTTPConnection, record: KeyRecord | None) -> str:
    """Whose memory the request is about."""
    named = connection.headers.get("x-solomonic-user") or connection.query_params.get("user") or ""
    if named and NAME.fullmatch(named) is None:
        raise HttpError(
            400, "invalid_user",
            "the user's name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_', '@' and '-', beginning "
            "with a letter or digit.",
            param="user",
        )  # fmt: skip
    if record is None:
        return named or LOCAL
    if record.user:
        if named and named != record.user:
            raise HttpError(
                403, "user_not_allowed", "this key belongs to one user; leave the user out.",
                param="user",
            )  # fmt: skip
        return str(record.user)
    return f"{record.name}:{named}"


def same_origin(connection: HTTPConnection, config: ServeConfig) -> bool:
    """Whether a browser's page may ask: one of this server, one that is allowed, or no browser."""
    origin = connection.headers.get("origin")
    if origin is None or origin in config.cors_origins:
        return True
    host = connection.headers.get("host", "")
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
