"""What the routes of a server share: one object on `app.state.services`."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection

from solomonic.serve.config import ServeConfig
from solomonic.serve.limits import Limits
from solomonic.serve.metrics import Metrics
from solomonic.speech.places import DEVICE_FILE

if TYPE_CHECKING:
    from solomonic.serve.auth import Keys
    from solomonic.serve.lm.engine import LmEngine
    from solomonic.serve.lm.loaded import LoadedModel
    from solomonic.speech.native_recognizer import NativeRecognizer


@dataclasses.dataclass
class Services:
    """Models, engines and registers of one server.

    Attributes:
        asr, lm, reranker: None where they were left out; routes then answer 404.
        speech, recall, engine: made when the application starts, None before.
        drains: coroutine functions of `serve.shutdown`; append yours when you start.
        closers: coroutine functions run after draining, the last one first.
        draining: set once the server was told to stop; new work is refused with 503.
        conversations: tasks of WebSockets that were let in; each ends with a last message.
        started: whether every part is there.
    """

    config: ServeConfig
    asr: "NativeRecognizer | None"
    lm: "LoadedModel | None"
    store: Any
    reranker: Any
    metrics: Metrics
    limits: Limits
    keys: "Keys"
    speech: Any = None
    recall: Any = None
    engine: "LmEngine | None" = None
    draining: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    drains: list[Callable[[float], Awaitable[None]]] = dataclasses.field(default_factory=list)
    closers: list[Callable[[], Awaitable[None]]] = dataclasses.field(default_factory=list)
    conversations: set[asyncio.Task[Any]] = dataclasses.field(default_factory=set)
    started: bool = False

    @property
    def asr_name(self) -> str:
        """What clients call the recogniser."""
        if self.asr is None:
            return ""
        path = self.asr.path
        return path.parent.name if path.name == DEVICE_FILE else path.stem

    def models(self) -> dict[str, tuple[str, int]]:
        """Names that the `model` parameter may have: of each whether it is for "text" or "speech",
        and when it was made (unix time)."""
        found = {} if self.lm is None else {self.lm.name: ("text", self.lm.created)}
        if self.asr is not None:
            made = int(self.asr.path.stat().st_mtime) if self.asr.path.exists() else 0
            found.setdefault(self.asr_name, ("speech", made))
        return found


@contextlib.contextmanager
def conversation(services: Services) -> Iterator[None]:
    """While entered, stopping waits for the task that runs: its client is told how it ends."""
    task = asyncio.current_task()
    assert task is not None
    services.conversations.add(task)
    try:
        yield
    finally:
        services.conversations.discard(task)


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that a request or WebSocket came to."""
    return connection.app.state.services
