"""Stopping without losing anything: who has work under way is asked to end it in time.

A part that holds streams or generations registers a coroutine function `drain(deadline)`; the
deadline is a time of `time.monotonic`. It returns when its work is done, at the latest then.
"""

import asyncio
import logging
import time

from solomonic.serve.services import Services

log = logging.getLogger(__name__)


async def drain(services: Services) -> None:
    """Refuse new work, and wait for what runs, at most the grace time. May be called again."""
    services.draining.set()
    services.metrics.ready.set(0)
    deadline = time.monotonic() + services.config.grace
    parts = list(services.drains)
    done = await asyncio.gather(*(part(deadline) for part in parts), return_exceptions=True)
    for part, outcome in zip(parts, done, strict=True):
        if isinstance(outcome, Exception):
            name = getattr(part, "__qualname__", "")
            log.error("draining failed", exc_info=outcome, extra={"part": name})
