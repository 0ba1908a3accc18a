"""One stream of one client: audio in with back-pressure, events out in their order.

All methods run on the event loop that opened the session. What the engine's worker thread shares
with them is guarded by the engine's lock, and marked so below.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.core import ConfigError, DataError
from solomonic.serve.speech.errors import StreamFailed
from solomonic.speech.audio import check_samples
from solomonic.speech.events import Event, Final, Partial

if TYPE_CHECKING:
    from solomonic.serve.speech.engine import SpeechEngine
    from solomonic.speech.native_recognizer import NativeStream

LOWEST_RATE, HIGHEST_RATE = 1000, 384_000


class Session:
    """Made by `SpeechEngine.open`.

    session = await engine.open("somebody")
    await session.feed(16000, samples)       # waits while the queue is full
    await session.finish()
    async for event in session.events(): ...
    await session.close()                    # always: it gives the place back

    Attributes:
        client: whose it is.
        live: fed as somebody speaks; False: a file, which a shutdown lets finish.
        text: of the utterance under way, as far as recognised.
        heard: seconds of audio that have been decoded.
    """

    def __init__(
        self, engine: "SpeechEngine", client: str, stream: "NativeStream", live: bool
    ) -> None:
        self.client, self.live = client, live
        self.text, self.heard = "", 0.0
        self._engine = engine
        self._stream: NativeStream | None = stream  # None once closed
        self._loop = asyncio.get_running_loop()
        self._rate = 0
        self._events: deque[Event] = deque()
        self._moved = asyncio.Event()  # something came from the worker
        self._failure: StreamFailed | None = None
        self._done = False  # nothing more will come
        # Under the engine's lock:
        self.queue: deque[tuple[np.ndarray, float]] = deque()  # samples and when they came
        self.queued = 0  # samples
        self.undelivered = 0  # events
        self.ending = self.ended = self.closed = False
        self.handed_back = False  # by a shutdown: what comes now is not heard
        self.pending = False  # audio or the end waits, or is being decoded
        self.opened = self.last_fed = self.last_read = time.monotonic()

    async def feed(self, rate: int, samples: Any) -> None:
        """Take mono samples in [-1, 1]; returns when there is room for more.

        Raises:
            ConfigError: another rate than before, or none that audio has.
            DataError: a sample is not finite, or the input was finished.
            StreamFailed: the stream is over.
        """
        if not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ConfigError(
                f"a sample rate of {rate} Hz is outside of {LOWEST_RATE:,} to {HIGHEST_RATE:,}."
            )
        if self._rate and rate != self._rate:
            raise ConfigError(
                f"this stream's audio has {self._rate} samples a second, not {rate}; open another "
                "stream for audio of another rate."
            )
        checked = np.array(check_samples(samples))  # a copy: the caller may reuse its buffer
        await self._room()
        if self.handed_back or not len(checked):
            return
        if self.ending:
            raise DataError("the input of this stream is finished; open another stream.")
        self._rate = rate
        self._engine.queue_audio(self, checked)
        await self._room()

    async def finish(self) -> None:
        """No more audio will come; the finals follow, then `events` ends."""
        self._raise()
        self._engine.end_input(self)

    async def events(self) -> AsyncIterator[Event]:
        """Events in their order, until the input is finished and all is decoded.

        Raises:
            StreamFailed: the stream was ended; the events before have all been given.
        """
        while True:
            for event in self.take():
                yield event
            if self._events:
                continue
            self._raise()
            if self._done:
                return
            self._moved.clear()
            await self._moved.wait()

    async def settle(self) -> list[Event]:
        """Wait until all audio so far is decoded; the events that it gave.

        Raises:
            StreamFailed: the stream was ended before.
        """
        found: list[Event] = []
        while True:
            found += self.take()
            if self._done or not self.pending:
                found += self.take()
                if not found:
                    self._raise()
                return found
            self._moved.clear()
            await self._moved.wait()

    async def over(self) -> None:
        """Wait until nothing more will come, for whatever reason."""
        while not self._done:
            self._moved.clear()
            await self._moved.wait()

    def take(self) -> list[Event]:
        """The events that wait, without waiting."""
        found = list(self._events)
        self._events.clear()
        if found:
            self._engine.events_read(self, len(found))
        return found

    async def close(self) -> None:
        """Give the place back; what is not decoded is dropped. Safe to call again."""
        self._engine.release(self)
        self.deliver([], StreamFailed("closed", "this stream was closed."), done=True)

    def abandon(self) -> None:
        """End the stream at once, for whoever waits for its events: its client has gone."""
        self.deliver([], StreamFailed("closed", "the client of this stream has gone."), done=True)

    @property
    def rate(self) -> int:
        """Samples a second of the audio; 0 before it has come."""
        return self._rate

    @property
    def failure(self) -> StreamFailed | None:
        """Why the stream is over before its time, or None."""
        return self._failure

    def deliver(self, events: Sequence[Event], failure: StreamFailed | None, done: bool) -> None:
        """On the loop: what the worker made of a step; nothing counts after the end."""
        if self._done:
            return
        self._events.extend(events)
        for event in events:
            if isinstance(event, Partial):
                self.text = event.text
            elif isinstance(event, Final):
                self.text = ""
        if failure is not None:
            failure.text, failure.heard = self.text, self.heard
            self._failure = failure
        self._done = done
        self._moved.set()

    def wake(self) -> None:
        """On the loop: there may be room again, or nothing waits any more."""
        self._moved.set()

    async def _room(self) -> None:
        while True:
            self._raise()
            if self.handed_back or not self._engine.is_full(self):
                return
            self._moved.clear()
            await self._moved.wait()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure
