"""Many audio streams in one process: one thread decodes all that have audio, in step.

A stream's state has a constant size, so that a step is: take a bounded piece of every stream with
audio, decode them together in the native core (the interpreter runs on meanwhile), hand out the
events. No stream gets more of a step than its share: an hour uploaded at once is decoded beside
people who speak, not before them. Nothing grows without bound: a sender waits while its queue is
full, a stream waits while its reader leaves events lying, and is ended when that lasts.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.core import SolomonicError
from solomonic.serve.speech.config import SpeechConfig
from solomonic.serve.speech.errors import SHUTTING_DOWN, Refused, StreamFailed
from solomonic.serve.speech.session import Session
from solomonic.speech.events import Event

if TYPE_CHECKING:
    from solomonic.speech.biasing.phrases import Phrase
    from solomonic.speech.native_recognizer import NativeRecognizer, PersonalWords

SWEEP_SECONDS = 0.5
FAULT = "decoding this stream failed; this is a fault of the server."
_log = logging.getLogger("solomonic.serve.speech")


class SpeechEngine:
    """Streams of one recogniser for many clients.

    Args:
        recognizer: whose streams they are; nobody else decodes with it meanwhile.
        config: the limits.
        metrics: whatever has `count(name, value, **labels)` and `observe(name, value, **labels)`,
            called from the worker thread, or None.
    """

    def __init__(
        self,
        recognizer: "NativeRecognizer",
        config: SpeechConfig | None = None,
        metrics: Any = None,
    ) -> None:
        self.recognizer = recognizer
        self.config = config or SpeechConfig()
        self.metrics = metrics
        self._lock = threading.Condition()
        self._sessions: dict[Session, None] = {}
        self._ready: dict[Session, None] = {}  # with something to decode, the longest waiting first
        self._opening: dict[str, int] = {}  # by client: places taken by streams that are being made
        self._draining = self._stopped = False
        self._thread: threading.Thread | None = None
        self._makers = ThreadPoolExecutor(2, "solomonic-speech-open")

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._sessions)

    @property
    def alive(self) -> bool:
        """Whether the worker runs, or has not been needed yet."""
        return self._thread is None or self._thread.is_alive()

    @property
    def draining(self) -> bool:
        """Whether no more streams are opened."""
        return self._draining

    def describe(self) -> dict[str, Any]:
        """Model, streams open, limits."""
        limits = self.config.to_json()
        return {"streams": self.streams, "draining": self._draining, "limits": limits}

    async def open(
        self,
        client: Any,
        bias: "Sequence[str | Phrase] | PersonalWords | None" = None,
        *,
        endpointing: bool = True,
        live: bool = True,
    ) -> Session:
        """A stream for a client (a name, or something that has one).

        Args:
            bias: personal words.
            endpointing: cut the audio into utterances.
            live: fed as somebody speaks. False: a file; it has no idle limit while it is fed, and a
                shutdown lets it finish.

        Raises:
            Refused: there is no place; its `code` and `retry_after` say more.
            DataError: personal words that cannot be used.
        """
        name = str(getattr(client, "name", client))
        self._admit(name)
        try:
            loop = asyncio.get_running_loop()
            # Thousands of personal words take a third of a second to compile.
            stream = await loop.run_in_executor(
                self._makers,
                lambda: self.recognizer.create_stream(bias, endpointing=endpointing),
            )
            session = Session(self, name, stream, live)
            with self._lock:
                if self._draining or self._stopped:
                    raise Refused("shutting_down", SHUTTING_DOWN, self.config.retry_seconds)
                self._sessions[session] = None
                self._start()
        finally:
            self._opening[name] -= 1
            if not self._opening[name]:
                del self._opening[name]
        self._count("speech_streams_total")
        return session

    async def drain(self, seconds: float = 10.0) -> int:
        """Finish or hand back every stream; no more are opened.

        A live stream's audio is decoded as far as it came, its finals follow, and then the error
        "shutting_down" with where to go on. Files have `seconds` to end by themselves.

        Returns:
            How many streams were still there at the end and were cut off.
        """
        with self._lock:
            self._draining = True
            for session in self._sessions:
                if session.live and not session.ending:
                    session.handed_back = session.ending = True
                    self._mark(session)
            self._lock.notify()
        await self._emptied(seconds)
        left = list(self._sessions)
        for session in left:
            self._fail(session, StreamFailed("shutting_down", SHUTTING_DOWN))
        await self._emptied(1.0)
        return len(left)

    def close(self) -> None:
        """End the worker; streams that are left fail. `drain` first."""
        for session in list(self._sessions):
            self._fail(session, StreamFailed("shutting_down", SHUTTING_DOWN))
        with self._lock:
            self._stopped = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join()
        self._makers.shutdown(wait=False)

    # For sessions, on their loops.

    def is_full(self, session: Session) -> bool:
        """Whether its sender has to wait."""
        with self._lock:
            seconds = session.queued / max(session.rate, 1)
            many = len(session.queue) >= self.config.queue_pieces
            return not session.ended and (many or seconds >= self.config.queue_seconds)

    def queue_audio(self, session: Session, samples: np.ndarray) -> None:
        """Take (n,) float32; a large piece is cut so that a step can take part of it."""
        with self._lock:
            session.last_fed = time.monotonic()
            session.queue.append((samples, session.last_fed))
            session.queued += len(samples)
            self._mark(session)
            self._lock.notify()

    def end_input(self, session: Session) -> None:
        """What waits is decoded, and then the stream is finished."""
        with self._lock:
            if not session.ending:
                session.ending = True
                self._mark(session)
                self._lock.notify()

    def events_read(self, session: Session, count: int) -> None:
        """The reader took events, so decoding may go on."""
        with self._lock:
            session.undelivered -= count
            session.last_read = time.monotonic()
            if session.pending:
                self._mark(session)
                self._lock.notify()

    def release(self, session: Session) -> None:
        """The place is free again."""
        with self._lock:
            session.closed = session.ended = True
            session.queue.clear()
            session.queued = 0
            # Megabytes, which must not wait until the interpreter looks for cycles: tasks and
            # their exceptions hold on to a session after its client has gone.
            session._stream = None
            self._sessions.pop(session, None)
            self._ready.pop(session, None)

    # On the worker's thread.

    def _run(self) -> None:
        swept = time.monotonic()
        while True:
            with self._lock:
                if not self._ready and not self._stopped:
                    self._lock.wait(SWEEP_SECONDS if self._sessions else None)
                if self._stopped:
                    return
                taken = self._take()
            if taken:
                self._step(taken)
                del taken  # it holds streams that may be closed while this thread waits
            if time.monotonic() - swept >= SWEEP_SECONDS:
                swept = time.monotonic()
                self._sweep(swept)

    def _take(self) -> list["_Part"]:
        """A piece of every stream that is ready, within the bounds of a step; under the lock."""
        limits, ready = self.config, list(self._ready)
        self._ready.clear()
        ready = [s for s in ready if s.undelivered < limits.max_events]
        # Who has little waiting speaks now; who has much has sent it at once and can wait.
        live = [s for s in ready if s.queued <= limits.backlog_seconds * s.rate]
        bulk = [s for s in ready if s.queued > limits.backlog_seconds * s.rate]
        parts = self._share(live, limits.step_seconds)
        parts += self._share(bulk, limits.bulk_seconds if live else limits.step_seconds)
        for part in parts:
            if part.session.queue:
                self._ready[part.session] = None  # behind those that waited
        return parts

    def _share(self, sessions: list[Session], seconds: float) -> list["_Part"]:
        """A step's seconds among some streams; those that get nothing are the next one's first."""
        low, high = self.config.share_seconds
        share = min(max(seconds / max(len(sessions), 1), low), high)
        most = max(int(seconds / share), 1)
        for session in sessions[most:]:
            self._ready[session] = None
        parts = []
        for session in sessions[:most]:
            samples, came = _cut(session, share)
            parts.append(_Part(session, samples, came, session.ending and not session.queue))
        return parts

    def _step(self, parts: list["_Part"]) -> None:
        started = time.monotonic()
        for part in parts:
            try:
                if len(part.samples):
                    part.stream.accept_waveform(part.session.rate, part.samples)
                if part.last:
                    part.stream.input_finished()
            except SolomonicError as error:
                part.failure = StreamFailed("bad_audio", str(error))
            except Exception:
                _log.exception("taking audio into a stream failed")
                part.failure = StreamFailed("internal_error", FAULT)
        self._decode([part for part in parts if part.failure is None])
        now = time.monotonic()
        self._hand_out(parts)
        for part in parts:
            if part.came:
                self._observe("speech_latency_seconds", now - part.came)
        self._observe("speech_step_seconds", now - started)
        self._count("speech_audio_seconds_total", sum(part.seconds for part in parts))

    def _decode(self, parts: list["_Part"]) -> None:
        """All together; where that fails, each alone, so that one cannot take the others down."""
        try:
            self.recognizer.decode_streams([part.stream for part in parts])
        except Exception:  # a fault of ours must end one stream, not the thread of all
            _log.exception("decoding of %d streams together failed", len(parts))
        for part in parts:
            stream = part.stream
            try:
                part.events = stream.events()
                part.heard = stream.time
                stream.results.clear()  # it keeps them for ever, and a stream may last hours
            except Exception:
                _log.exception("decoding a stream failed")
                part.failure = StreamFailed("internal_error", FAULT)

    def _hand_out(self, parts: list["_Part"]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Part]] = {}
        with self._lock:
            for part in parts:
                session = part.session
                if session.closed:
                    continue
                session.undelivered += len(part.events)
                session.pending = bool(session.queue) or (session.ending and not part.last)
                if part.last and session.handed_back and part.failure is None:
                    part.failure = StreamFailed("shutting_down", SHUTTING_DOWN)
                if part.last or part.failure is not None:
                    session.ended, session.pending = True, False
                    self._ready.pop(session, None)
                elif session.pending:
                    self._mark(session)
                by_loop.setdefault(session._loop, []).append(part)
        for loop, some in by_loop.items():
            _call(loop, _deliver, some)

    def _sweep(self, now: float) -> None:
        """End what idles, stalls or lasts too long."""
        limits = self.config
        with self._lock:
            failing: list[tuple[Session, str, str]] = []
            for session in self._sessions:
                if session.ended:
                    continue
                lying = session.undelivered and now - max(session.last_read, session.last_fed)
                if session.undelivered >= limits.max_events and lying > limits.stall_seconds:
                    why = f"events were not read for {limits.stall_seconds:g} s; read them."
                    failing.append((session, "slow_client", why))
                elif now - session.opened > limits.total_seconds:
                    why = f"a stream may last {limits.total_seconds:g} s; open another."
                    failing.append((session, "stream_too_long", why))
                elif (
                    session.live
                    and not (session.queue or session.ending)
                    and now - max(session.last_fed, session.opened) > limits.idle_seconds
                ):
                    why = f"no audio came for {limits.idle_seconds:g} s; open another stream."
                    failing.append((session, "idle_timeout", why))
        for session, code, why in failing:
            self._fail(session, StreamFailed(code, why))

    # Anywhere.

    def _admit(self, name: str) -> None:
        limits = self.config
        if self._draining or self._stopped:
            raise Refused("shutting_down", SHUTTING_DOWN, limits.retry_seconds)
        with self._lock:
            own = sum(session.client == name for session in self._sessions)
            everyone = len(self._sessions) + sum(self._opening.values())
        if everyone >= limits.max_streams:
            self._count("speech_refused_total", code="engine_full")
            message = f"all {limits.max_streams} streams of this server are taken; come again."
            raise Refused("engine_full", message, limits.retry_seconds)
        if own + self._opening.get(name, 0) >= limits.max_streams_per_client:
            self._count("speech_refused_total", code="too_many_streams")
            message = f"a client may have {limits.max_streams_per_client} streams; close one."
            raise Refused("too_many_streams", message, limits.retry_seconds)
        self._opening[name] = self._opening.get(name, 0) + 1

    def _start(self) -> None:
        """The worker, with the first stream; under the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="solomonic-speech", daemon=True)
            self._thread.start()
        self._lock.notify()

    def _mark(self, session: Session) -> None:
        """There is something to decode; under the lock."""
        session.pending = True
        if not session.ended:
            self._ready[session] = None

    def _fail(self, session: Session, failure: StreamFailed) -> None:
        with self._lock:
            session.ended, session.pending = True, False
            session.queue.clear()
            session.queued = 0
            self._ready.pop(session, None)
        self._count("speech_failed_total", code=failure.code)
        _call(session._loop, session.deliver, [], failure, True)

    async def _emptied(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._sessions and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def _count(self, name: str, value: float = 1.0, **labels: str) -> None:
        if self.metrics is not None:
            self.metrics.count(name, value, **labels)

    def _observe(self, name: str, value: float) -> None:
        if self.metrics is not None:
            self.metrics.observe(name, value)


class _Part:
    """What one step does for one stream."""

    def __init__(self, session: Session, samples: np.ndarray, came: float, last: bool) -> None:
        self.session, self.samples, self.came, self.last = session, samples, came, last
        self.stream: Any = session._stream  # the session gives it up when it is closed
        self.events: list[Event] = []
        self.heard = session.heard
        self.failure: StreamFailed | None = None

    @property
    def seconds(self) -> float:
        """Of audio."""
        return len(self.samples) / max(self.session.rate, 1)


def _cut(session: Session, seconds: float) -> tuple[np.ndarray, float]:
    """At most so much of the audio that waits, and when its last piece came; under the lock."""
    wanted = max(int(seconds * session.rate), 1)
    pieces, came = [], 0.0
    while session.queue and wanted > 0:
        samples, came = session.queue.popleft()
        if len(samples) > wanted:
            session.queue.appendleft((samples[wanted:], came))
            samples = samples[:wanted]
        pieces.append(samples)
        wanted -= len(samples)
    taken = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    session.queued -= len(taken)
    return taken, came


def _deliver(parts: list[_Part]) -> None:
    for part in parts:
        part.session.heard = part.heard
        part.session.deliver(part.events, part.failure, part.last or part.failure is not None)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., Any], *given: Any) -> None:
    try:
        loop.call_soon_threadsafe(function, *given)
    except RuntimeError:  # the loop is closed, and with it everybody who would listen
        _log.debug("a stream's event loop was closed before the stream")
