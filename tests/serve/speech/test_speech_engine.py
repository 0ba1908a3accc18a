"""`serve.speech.engine`: many streams at once give what each of them alone gives."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from needs import needs_recognizer
from solomonic.core import ConfigError, DataError
from solomonic.serve.speech import Refused, SpeechConfig, SpeechEngine, StreamFailed
from solomonic.speech.endpoint import check_events
from solomonic.speech.events import Event, Final
from solomonic.speech.native_recognizer import NativeRecognizer
from speech_tiny import RATE, command, silence

pytestmark = needs_recognizer
TINY = Path(__file__).parents[3] / "native/tests/data/speech.solo"


def run(work: Callable[[], Coroutine[Any, Any, Any]], seconds: float = 60) -> Any:
    """The coroutine to its end; one that hangs fails."""
    return asyncio.run(asyncio.wait_for(work(), seconds))


@asynccontextmanager
async def engine(**limits: Any) -> AsyncIterator[SpeechEngine]:
    made = SpeechEngine(NativeRecognizer(TINY), SpeechConfig(**limits))
    try:
        yield made
    finally:
        made.close()


def sounds(seed: int, utterances: int = 2) -> np.ndarray:
    """(n,): words and silences."""
    parts = [command(seed=seed + i, after=1.4 + 0.2 * (seed % 3)) for i in range(utterances)]
    return np.concatenate([silence(0.3, 1e-3, seed=seed), *parts]).astype(np.float32)


def alone(audio: np.ndarray, **options: Any) -> list[Event]:
    """What the recogniser says by itself."""
    recognizer = NativeRecognizer(TINY)
    stream = recognizer.create_stream(**options)
    stream.accept_waveform(RATE, audio)
    stream.input_finished()
    return stream.events()


async def speak(
    made: SpeechEngine, audio: np.ndarray, seed: int, most: int = 8000, **options: Any
) -> list[Event]:
    """Feed the audio in pieces of random sizes and gather the events meanwhile."""
    session = await made.open(f"client {seed}", **options)
    found: list[Event] = []

    async def listen() -> None:
        async for event in session.events():
            found.append(event)

    listening = asyncio.create_task(listen())
    sizes, at = random.Random(seed), 0
    while at < len(audio):
        size = sizes.randint(1, most)
        await session.feed(RATE, audio[at : at + size])
        at += size
        if sizes.random() < 0.3:
            await asyncio.sleep(0.001)
    await session.finish()
    await listening
    await session.close()
    return found


def test_many_streams_at_once_give_what_each_gives_alone() -> None:
    audios = [sounds(seed) for seed in range(12)]

    async def work() -> list[list[Event]]:
        async with engine(step_seconds=1.0, share_seconds=(0.03, 0.11)) as made:
            speaking = [speak(made, audio, seed) for seed, audio in enumerate(audios)]
            found = await asyncio.gather(*speaking)
            assert made.streams == 0
            return found

    expected = [alone(audio) for audio in audios]
    assert sum(isinstance(event, Final) for events in expected for event in events) >= 24
    for events, right in zip(run(work), expected, strict=True):
        check_events(events)
        assert events == right


def test_personal_words_and_no_endpointing_reach_the_stream() -> None:
    audio = sounds(3)

    async def work() -> list[Event]:
        async with engine() as made:
            return await speak(made, audio, 1, bias=["kitchen lights"], endpointing=False)

    events = run(work)
    assert events == alone(audio, bias=["kitchen lights"], endpointing=False)
    assert events != alone(audio)


def test_audio_that_cannot_be_is_refused_and_the_stream_goes_on() -> None:
    audio = sounds(1)

    async def work() -> list[Event]:
        async with engine() as made:
            session = await made.open("one")
            for rate in (0, 10, 10_000_000):
                with pytest.raises(ConfigError, match="sample rate"):
                    await session.feed(rate, audio[:10])
            await session.feed(RATE, audio[:1000])
            with pytest.raises(ConfigError, match="not 8000"):
                await session.feed(8000, audio[:10])
            with pytest.raises(DataError, match="not finite"):
                await session.feed(RATE, np.full(10, np.nan, np.float32))
            await session.feed(RATE, audio[1000:])
            await session.finish()
            with pytest.raises(DataError, match="finished"):
                await session.feed(RATE, audio[:10])
            found = [event async for event in session.events()]
            await session.close()
            with pytest.raises(DataError, match="cannot be used"):
                await made.open("one", ["щука"])
            assert made.streams == 0
            return found

    assert run(work) == alone(audio)


def test_places_are_limited_and_given_back() -> None:
    async def work() -> None:
        async with engine(max_streams=3, max_streams_per_client=2) as made:
            first = await made.open("one")
            await made.open("one")
            with pytest.raises(Refused, match="close one") as refused:
                await made.open("one")
            assert (refused.value.code, refused.value.status) == ("too_many_streams", 429)
            await made.open("two")
            with pytest.raises(Refused, match="all 3 streams") as refused:
                await made.open("three")
            assert (refused.value.code, refused.value.status) == ("engine_full", 503)
            assert refused.value.retry_after > 0
            await first.close()
            await first.close()
            await made.open("three")
            assert made.streams == 3

    run(work)


def test_places_are_counted_while_streams_are_being_made() -> None:
    async def work() -> list[Any]:
        async with engine(max_streams=4) as made:
            opening = [made.open(f"client {i}") for i in range(10)]
            return await asyncio.gather(*opening, return_exceptions=True)

    made = run(work)
    assert sum(isinstance(one, Refused) for one in made) == 6


def test_an_hour_at_once_does_not_hold_up_who_speaks() -> None:
    """Counted in steps, not in time: what is said is decoded in the very next one."""
    audio, flood = sounds(2), np.tile(sounds(5), 20)
    taken: list[dict[Any, float]] = []  # of each step, seconds by session
    came: list[int] = []  # for each piece of the speaker, the steps before it

    async def work() -> None:
        async with engine(step_seconds=0.4, bulk_seconds=0.1, share_seconds=(0.05, 0.2)) as made:
            bulk = await made.open("bulk", live=False)
            live = await made.open("live")
            take, queue = made._take, made.queue_audio

            def watched_take() -> list[Any]:
                parts = take()
                taken.append({part.session: part.seconds for part in parts})
                return parts

            def watched_queue(session: Any, samples: np.ndarray) -> None:
                with made._lock:
                    if session is live:
                        came.append(len(taken))
                    queue(session, samples)

            made._take, made.queue_audio = watched_take, watched_queue  # type: ignore[method-assign]

            async def pour() -> None:
                for start in range(0, len(flood), RATE):
                    await bulk.feed(RATE, flood[start : start + RATE])

            async def drop() -> None:
                async for _ in bulk.events():
                    pass

            tasks = [asyncio.create_task(pour()), asyncio.create_task(drop())]
            size = RATE // 10
            for start in range(0, len(audio) - size, size):
                # So much waits that it still counts as bulk when the speaker's piece is decoded,
                # however late this machine lets the sender run.
                while bulk.queued < 3 * RATE and not tasks[0].done():
                    await asyncio.sleep(0.001)
                await live.feed(RATE, audio[start : start + size])
                await live.settle()
            assert not tasks[0].done(), "the flood ended before the speaker: nothing was tested"
            for task in tasks:
                task.cancel()
            assert [live in taken[number] for number in came] == [True] * len(came)
            assert max(max(step.values(), default=0.0) for step in taken) <= 0.2 + 1e-6
            both = [step[bulk] for step in taken if bulk in step and live in step]
            assert max(both) <= 0.1 + 1e-6
            assert len(both) > len(came) / 2

    run(work)


def test_who_does_not_read_stalls_alone_and_is_ended() -> None:
    audio = sounds(4, utterances=8)

    async def work() -> tuple[list[Event], str, int]:
        async with engine(max_events=4, stall_seconds=1.0, queue_seconds=1.0) as made:
            lazy = await made.open("lazy")

            async def pour() -> None:
                for start in range(0, len(audio), 4000):
                    await lazy.feed(RATE, audio[start : start + 4000])

            pouring = asyncio.create_task(pour())
            other = await speak(made, audio, 7, most=2000)
            with pytest.raises(StreamFailed, match="not read") as failed:
                await pouring
            kept = lazy.take()
            await lazy.close()
            return other, failed.value.code, len(kept)

    other, code, kept = run(work)
    assert other == alone(audio)
    assert code == "slow_client"
    assert 4 <= kept < 20


def test_an_idle_stream_is_ended_with_a_reason() -> None:
    async def work() -> None:
        async with engine(idle_seconds=0.1) as made:
            session = await made.open("one")
            with pytest.raises(StreamFailed, match="no audio came") as failed:
                async for _ in session.events():
                    pass
            assert failed.value.code == "idle_timeout"
            await session.close()

    run(work)


def test_a_stream_has_an_end() -> None:
    async def work() -> None:
        async with engine(total_seconds=0.1) as made:
            session = await made.open("one", live=False)
            with pytest.raises(StreamFailed, match="may last"):
                async for _ in session.events():
                    pass

    run(work)


def test_a_shutdown_hands_back_what_was_heard_and_lets_files_finish() -> None:
    audio = sounds(6)

    async def work() -> None:
        async with engine() as made:
            live, file = await made.open("live"), await made.open("file", live=False)
            half = len(audio) // 2
            await live.feed(RATE, audio[:half])
            await file.feed(RATE, audio[:half])
            draining = asyncio.create_task(made.drain(20))
            found: list[Event] = []
            with pytest.raises(StreamFailed, match="shutting down") as failed:
                async for event in live.events():
                    found.append(event)
            assert failed.value.code == "shutting_down"
            assert failed.value.heard == pytest.approx(half / RATE, abs=0.2)
            assert found == alone(audio[:half])
            await live.close()
            with pytest.raises(Refused, match="shutting down"):
                await made.open("late")
            await file.feed(RATE, audio[half:])
            await file.finish()
            assert [event async for event in file.events()] == alone(audio)
            await file.close()
            assert await draining == 0

    run(work)


def test_a_shutdown_does_not_wait_for_ever() -> None:
    async def work() -> None:
        async with engine() as made:
            file = await made.open("file", live=False)
            assert await made.drain(0.1) == 1
            with pytest.raises(StreamFailed, match="shutting down"):
                await file.finish()

    run(work)


def test_a_stream_that_breaks_does_not_take_the_others_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    audio = sounds(8)

    async def work() -> list[Event]:
        async with engine() as made:
            broken = await made.open("broken")
            broken._stream.events = lambda: 1 / 0  # type: ignore[method-assign,assignment]
            await broken.feed(RATE, audio[:4000])
            with pytest.raises(StreamFailed, match="fault of the server"):
                async for _ in broken.events():
                    pass
            await broken.close()
            return await speak(made, audio, 9)

    assert run(work) == alone(audio)
    assert "decoding a stream failed" in caplog.text


def test_many_tiny_pieces_wait_for_room() -> None:
    audio = sounds(1)[:3000]

    async def work() -> None:
        async with engine(queue_pieces=8) as made:
            session = await made.open("one")
            for sample in audio:
                await session.feed(RATE, [float(sample)])
                assert len(session.queue) <= 9
            await session.settle()
            assert session.heard > 0.1

    run(work)
