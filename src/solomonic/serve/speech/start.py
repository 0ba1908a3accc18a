"""Starting speech with the server: the engine, the users' memories, and how both end."""

import asyncio
import time
from typing import TYPE_CHECKING

from solomonic.serve.services import Services
from solomonic.serve.speech.config import SpeechConfig
from solomonic.serve.speech.engine import SpeechEngine
from solomonic.serve.speech.recall import Recall

if TYPE_CHECKING:
    from solomonic.serve.config import ServeConfig


async def startup(services: Services) -> None:
    """Make `services.speech` where there is a recogniser, and what remembers users."""
    recall = Recall(services.store, services.reranker, services.lm)
    services.recall = recall

    async def close_recall() -> None:
        recall.close()

    services.closers.append(close_recall)

    async def drain(deadline: float) -> None:
        # A second is left for handlers to say that they were cut off.
        if services.speech is not None:
            await services.speech.drain(max(deadline - time.monotonic() - 1.0, 0.0))
        # What was heard is still reranked, remembered and told: no socket may be closed before.
        if services.conversations:
            left = max(deadline - time.monotonic(), 0.0)
            await asyncio.wait(set(services.conversations), timeout=left)

    services.drains.append(drain)
    if services.asr is None:
        return
    engine = SpeechEngine(services.asr, speech_config(services.config), services.metrics)
    services.speech = engine

    async def close() -> None:
        engine.close()

    services.closers.append(close)


def speech_config(config: "ServeConfig") -> SpeechConfig:
    """The engine's limits from the server's."""
    return SpeechConfig(
        max_streams=config.max_streams,
        max_streams_per_client=config.max_streams_per_client,
        idle_seconds=config.idle_timeout,
    )
