"""uvicorn, made to drain before it closes, and to wait for no connection for ever.

One process: a model is loaded once, its states are rows of one batch, and a second worker would
have a second model and know nothing of the first one's streams. More machines are the next step
(docs/serve.md), not more workers.
"""

import asyncio
import gc
import signal
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from solomonic.serve.config import ServeConfig
from solomonic.serve.services import Services
from solomonic.serve.shutdown import drain

MESSAGE_BYTES = 2**20
"""Of a WebSocket message: half a minute of audio."""
LAST_WORDS = 5
"""Seconds for answers that are being sent when draining is over."""


class Server(uvicorn.Server):
    """uvicorn's server; a signal drains it (`serve.shutdown`) before connections are closed.

    Until draining is over the port is open: new requests are told 503, and a load balancer that
    asks /ready sends no more.

    Attributes:
        interrupted: whether it was stopped from the keyboard.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self.services, self.interrupted = services, False

    async def startup(self, sockets: list | None = None) -> None:
        """Open the port. From now on the collector of cycles passes over what is loaded.

        It looks through all of it otherwise, a quarter of a million objects, and nobody is answered
        for 150 ms meanwhile.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks to stop, the second one insists. Neither is passed on: who has
        stopped as asked has ended well."""
        self.interrupted = sig == signal.SIGINT
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True

    async def shutdown(self, sockets: list | None = None) -> None:
        """Drain, then close."""
        draining = asyncio.create_task(drain(self.services))
        while not (draining.done() or self.force_exit):
            await asyncio.wait({draining}, timeout=0.1)
        draining.cancel()
        await super().shutdown(sockets)
        gc.unfreeze()


def make_server(app: FastAPI, config: ServeConfig) -> Server:
    """The server of an application; `await server.serve()` or `server.run()`."""
    patient = type("Patient", (_Patient,), {"header_seconds": config.header_timeout})
    own = uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        # What uvloop connects to, the audit hook of `serve.local` does not see.
        loop="asyncio" if config.local_only else "auto",
        http=patient,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        limit_concurrency=config.max_connections,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=LAST_WORDS,
        ws_max_size=MESSAGE_BYTES,
        ws_max_queue=8,
        ws_per_message_deflate=False,  # audio does not shrink, and each connection pays 0.3 MB
        ssl_certfile=config.tls_cert or None,
        ssl_keyfile=config.tls_key or None,
    )
    return Server(own, app.state.services)


class _Patient(HttpToolsProtocol):
    """Closes a connection whose request has not fully said what it wants in time: thousands of
    them would cost their sender nothing and us all our connections."""

    header_seconds = 10.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_waiting()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def handle_websocket_upgrade(self) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade()

    def _start_waiting(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
