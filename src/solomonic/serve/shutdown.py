"""Stopping without losing anything: who has work under way is asked to end it in time.

A part that holds streams or generations registers a coroutine function `drain(deadline)`; the
deadline is a time of `time.monotonic`. It returns when its work is done, at the latest then.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import uvicorn

from solomonic.serve.services import Services

log = logging.getLogger(__name__)
Drain = Callable[[float], Awaitable[None]]


async def drain(services: Services) -> None:
    """Refuse new work, and wait for what runs, at most the grace time. A second call waits too."""
    services.draining.set()
    deadline = time.monotonic() + services.config.grace
    parts = list(services.drains)
    done = await asyncio.gather(*(part(deadline) for part in parts), return_exceptions=True)
    for part, outcome in zip(parts, done, strict=True):
        if isinstance(outcome, Exception):
            log.error("draining failed", exc_info=outcome, extra={"part": part.__qualname__})


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it closes connections.

    Between the signal and the end of draining the port is still open: new requests are told 503,
    and a load balancer that asks /ready sends no more.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self.services = services

    async def shutdown(self, sockets: list | None = None) -> None:
        """Drain, then close."""
        if not self.force_exit:  # a second Ctrl-C
            forced = asyncio.create_task(self._forced())
            draining = asyncio.create_task(drain(self.services))
            await asyncio.wait({forced, draining}, return_when=asyncio.FIRST_COMPLETED)
            for task in (forced, draining):
                task.cancel()
        await super().shutdown(sockets)

    async def _forced(self) -> None:
        while not self.force_exit:
            await asyncio.sleep(0.1)
