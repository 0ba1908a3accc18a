"""/v1/stream: the events of a stream over a real socket, in order, and what happens otherwise."""

import asyncio
import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import websockets
from websockets.asyncio.client import connect

from needs import needs_recognizer
from solomonic.speech.events import Final, SpeculativeEnd
from solomonic.speech.lattice import LatticeMessage, decode_message, encode_message
from speech_served import FakeReranker, Served, alone, plain, run, serving, sounds
from speech_tiny import RATE

pytestmark = needs_recognizer


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(reranker=FakeReranker()) as one:
        yield one


async def gather(socket: Any) -> tuple[list[Any], int]:
    """Every message until the server closes, and its close code."""
    found: list[Any] = []
    try:
        async for message in socket:
            found.append(json.loads(message) if isinstance(message, str) else message)
    except websockets.ConnectionClosed:
        pass
    return found, socket.close_code


async def talk(
    served: Served, audio: np.ndarray, seed: int = 0, path: str = "/v1/stream", **start: Any
) -> tuple[list[Any], int]:
    """Speak a recording in pieces cut anywhere, also inside samples."""
    async with connect(served.ws + path) as socket:
        await socket.send(json.dumps({"type": "start", **start}))
        gathering = asyncio.create_task(gather(socket))
        data, at, sizes = audio.tobytes(), 0, random.Random(seed)
        while at < len(data):
            size = sizes.randint(1, 20_000)
            await socket.send(data[at : at + size])
            at += size
        await socket.send('{"type": "finish"}')
        return await gathering


def test_events_are_those_of_the_recogniser_however_many_speak(served: Served) -> None:
    audios = [sounds(seed) for seed in range(6)]

    async def work() -> list[Any]:
        talking = [talk(served, audio, seed) for seed, audio in enumerate(audios)]
        return await asyncio.gather(*talking)

    for audio, (messages, code) in zip(audios, run(work()), strict=True):
        assert code == 1000
        assert messages[0]["type"] == "ready"
        assert messages[0]["version"] == 1
        assert messages[-1] == {"type": "done"}
        assert messages[1:-1] == plain(alone(audio))


def test_floats_at_another_rate_with_personal_words(served: Served) -> None:
    audio = (sounds(1)[::2] / 32768).astype("<f4")
    start = {"encoding": "pcm_f32le", "sample_rate": 8000, "phrases": ["kitchen lights"],
             "endpointing": False}  # fmt: skip
    messages, code = run(talk(served, audio, **start))
    expected = alone(audio, 8000, bias=["kitchen lights"], endpointing=False)
    assert (messages[1:-1], code) == (plain(expected), 1000)


def test_lattices_come_after_the_events_they_belong_to(served: Served) -> None:
    audio = sounds(2)
    messages, _ = run(talk(served, audio, lattices="json"))
    results = {
        (event.utterance, event.revision): event.result
        for event in alone(audio)
        if isinstance(event, SpeculativeEnd | Final)
    }
    seen = set()
    for before, message in itertools.pairwise(messages):
        if message["type"] != "lattice":
            continue
        key = message["utterance"], message["revision"]
        assert before["type"] in ("speculative_end", "final")
        assert (before["utterance"], before["revision"]) == key
        lattice, arcs = results[key].lattice, message["lattice"]["arcs"]
        assert len(arcs) == lattice.arcs
        assert len(message["lattice"]["nodes"]) == lattice.nodes
        words = " ".join(arcs[arc]["word"] for arc in message["best"]).split()
        assert " ".join(words) == results[key].text
        assert all(0 <= arc["posterior"] <= 1 for arc in arcs)
        seen.add(key)
    assert seen == set(results)


def test_binary_lattices_are_lattice_messages(served: Served) -> None:
    audio = sounds(2)
    messages, _ = run(talk(served, audio, lattices="binary"))
    binary = [decode_message(message) for message in messages if isinstance(message, bytes)]
    new = [e for e in alone(audio) if isinstance(e, SpeculativeEnd | Final)]
    keys = [(e.utterance, e.revision) for e in new if not getattr(e, "commit", False)]
    assert [(one.utterance, one.revision) for one in binary] == keys
    assert keys


def test_reranking_follows_the_revisions_and_is_remembered(served: Served) -> None:
    audio = sounds(3)
    path = "/v1/stream?user=somebody"
    messages, _ = run(talk(served, audio, path=path, rerank=True, source="kitchen"))
    finals = [m for m in messages if m["type"] == "final" and m["result"]["text"]]
    reranked = {(m["utterance"], m["revision"]): m for m in messages if m["type"] == "reranked"}
    remembered = [m for m in messages if m["type"] == "remembered"]
    assert finals
    keys = [(final["utterance"], final["revision"]) for final in finals]
    assert [(one["utterance"], one["revision"]) for one in remembered] == keys
    kept = served.services.store.memory("somebody").utterances
    assert [said.text for said in kept] == [reranked[key]["text"] for key in keys]
    assert [said.heard for said in kept] == [final["result"]["text"] for final in finals]
    assert {said.source for said in kept} == {"kitchen"}
    assert messages[-1] == {"type": "done"}


def device_messages() -> list[LatticeMessage]:
    """What a device sends that recognises the first utterance of a recording by itself."""
    event = next(e for e in alone(sounds(3)) if isinstance(e, Final) and e.result.text)
    flags = {"speaker": "anna", "speaker_score": 2.5, "whisper": 1.0, "language": "en"}
    lattice = event.result.lattice
    return [
        LatticeMessage(lattice=lattice, revision=1, kind="speculative_end", **flags),
        LatticeMessage(lattice=None, revision=1, kind="reset"),
        LatticeMessage(lattice=lattice, revision=2, kind="speculative_end"),
        LatticeMessage(lattice=None, revision=2, kind="commit"),
        LatticeMessage(lattice=lattice, utterance=1, revision=1, kind="final", reason="model"),
    ]


def test_a_device_sends_lattices_and_gets_the_same_events(served: Served) -> None:
    sent = device_messages()

    async def work() -> tuple[list[Any], int]:
        async with connect(served.ws + "/v1/stream?user=device") as socket:
            start = {"type": "start", "encoding": "lattice", "rerank": True, "lattices": "json"}
            await socket.send(json.dumps(start))
            for message in sent:
                await socket.send(encode_message(message))
                await socket.send(encode_message(message))  # repeated: nothing happens twice
            await socket.send('{"type": "finish"}')
            return await gather(socket)

    messages, code = run(work())
    events = [m for m in messages if "result" in m or m["type"] == "reset"]
    said = [(m["type"], m["utterance"], m["revision"]) for m in events]
    assert said == [
        ("speculative_end", 0, 1), ("reset", 0, 1), ("speculative_end", 0, 2), ("final", 0, 2),
        ("final", 1, 1),
    ]  # fmt: skip
    assert [m["commit"] for m in events if m["type"] == "final"] == [True, False]
    first = events[0]
    assert (first["speaker"], first["speaker_score"]) == ("anna", 2.5)
    assert (first["whisper"], first["language"]) == (1.0, "en")
    reranked = [(m["utterance"], m["revision"]) for m in messages if m["type"] == "reranked"]
    assert (0, 2) in reranked
    assert (1, 1) in reranked
    assert len(served.services.store.memory("device").utterances) == 2
    assert (messages[-1], code) == ({"type": "done"}, 1000)


def test_malformed_lattices_cost_one_error_each_and_many_the_connection(served: Served) -> None:
    good = encode_message(device_messages()[-1])

    async def work() -> tuple[list[Any], int]:
        async with connect(served.ws + "/v1/stream") as socket:
            await socket.send('{"type": "start", "encoding": "lattice"}')
            for data in (b"", b"SL", good[:-1], good[:20] + b"?" + good[21:], bytes(20_000)):
                await socket.send(data)
            await socket.send("{")
            await socket.send(good)
            for _ in range(20):
                await socket.send(b"?")
            return await gather(socket)

    messages, code = run(work())
    kinds = [m["type"] for m in messages]
    assert kinds == ["ready", *["error"] * 6, "final", *["error"] * 20]
    assert messages[-1]["error"]["code"] == "too_many_errors"
    assert code == 1008


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (b"\0\0", "start_expected"),
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ("[" * 50_000, "invalid_json"),
        ('{"type": "begin"}', "start_expected"),
        ('{"type": "start", "sample_rte": 8000}', "unsupported_parameter"),
        ('{"type": "start", "sample_rate": 16000.5}', "invalid_value"),
        ('{"type": "start", "sample_rate": NaN}', "invalid_value"),
        ('{"type": "start", "sample_rate": 0}', "invalid_value"),
        ('{"type": "start", "sample_rate": true}', "invalid_value"),
        ('{"type": "start", "encoding": "mp3"}', "invalid_value"),
        ('{"type": "start", "encoding": []}', "invalid_value"),
        ('{"type": "start", "phrases": ["щука"]}', "invalid_value"),
        ('{"type": "start", "phrases": "siobhan"}', "invalid_value"),
        ('{"type": "start", "version": 2}', "invalid_value"),
        ('{"type": "start", "phrases": ["' + "a" * 300_000 + '"]}', "too_large"),
    ],
)
def test_a_wrong_start_is_one_error(served: Served, first: Any, code: str) -> None:
    async def work() -> tuple[list[Any], int]:
        async with connect(served.ws + "/v1/stream") as socket:
            await socket.send(first)
            return await gather(socket)

    messages, closed = run(work())
    assert [message["type"] for message in messages] == ["error"]
    error = messages[0]["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "code", "param"}
    assert closed == (1009 if code == "too_large" else 1008)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ('{"type": "stop"}', "unknown_message"),
        (np.array([np.nan], "<f4").tobytes(), "invalid_value"),
        (bytes(2**19 + 1), "too_large"),
    ],
)
def test_nonsense_in_the_middle_is_one_error(served: Served, message: Any, code: str) -> None:
    async def work() -> tuple[list[Any], int]:
        async with connect(served.ws + "/v1/stream") as socket:
            await socket.send('{"type": "start", "encoding": "pcm_f32le"}')
            await socket.send(np.zeros(100, "<f4").tobytes())
            await socket.send(message)
            return await gather(socket)

    messages, closed = run(work())
    assert [one["type"] for one in messages] == ["ready", "error"]
    assert messages[1]["error"]["code"] == code
    assert closed == (1009 if code == "too_large" else 1008)


def test_half_a_sample_at_the_end_is_told_and_the_words_come(served: Served) -> None:
    audio = sounds(1)

    async def work() -> tuple[list[Any], int]:
        async with connect(served.ws + "/v1/stream") as socket:
            await socket.send('{"type": "start"}')
            await socket.send(audio.tobytes() + b"\1")
            await socket.send('{"type": "finish"}')
            return await gather(socket)

    messages, closed = run(work())
    errors = [message for message in messages if message["type"] == "error"]
    assert [error["error"]["code"] for error in errors] == ["half_sample"]
    rest = [message for message in messages if message["type"] != "error"]
    assert rest[1:-1] == plain(alone(audio))
    assert closed == 1000


def test_clients_that_vanish_leave_nothing_behind(served: Served) -> None:
    async def work() -> None:
        for how in range(4):
            socket = await connect(served.ws + "/v1/stream")
            if how > 0:
                await socket.send('{"type": "start"}')
                await socket.recv()
            if how > 1:
                await socket.send(sounds(1).tobytes()[: 50_001 * how])
            socket.transport.abort()
        for _ in range(500):
            if not served.services.speech.streams:
                return
            await asyncio.sleep(0.01)

    run(work())
    assert served.services.speech.streams == 0


def test_places_are_limited_over_the_socket() -> None:
    async def work(served: Served) -> tuple[list[Any], int]:
        async with connect(served.ws + "/v1/stream") as first:
            await first.send('{"type": "start"}')
            await first.recv()
            async with connect(served.ws + "/v1/stream") as second:
                await second.send('{"type": "start"}')
                return await gather(second)

    with serving(max_streams=1) as served:
        messages, code = run(work(served))
    assert [one["error"]["code"] for one in messages] == ["engine_full"]
    assert messages[0]["retry_after"] > 0
    assert code == 1013


def test_local_only_takes_no_audio_but_lattices() -> None:
    async def work(served: Served) -> list[Any]:
        found = []
        for start in ({"encoding": "pcm_s16le"}, {"encoding": "lattice"}):
            async with connect(served.ws + "/v1/stream") as socket:
                await socket.send(json.dumps({"type": "start", **start}))
                await socket.send('{"type": "finish"}')
                found.append(await gather(socket))
        for path in ("/vosk", "/"):  # refused before or after the handshake
            with pytest.raises((websockets.InvalidStatus, websockets.ConnectionClosedError)):
                async with connect(served.ws + path) as socket:
                    while True:
                        assert "audio_refused" in str(await socket.recv())
        assert served.services.speech.streams == 0
        return found

    with serving(local_only=True) as served:
        audio, lattice = run(work(served))
    assert [one["error"]["code"] for one in audio[0]] == ["audio_refused"]
    assert audio[1] == 4403
    assert [one["type"] for one in lattice[0]] == ["ready", "done"]


def test_a_shutdown_waits_for_reranking_and_tells_where_to_go_on() -> None:
    audio = sounds(2)

    async def work(served: Served) -> Any:
        async with (
            connect(served.ws + "/v1/stream") as socket,
            connect(served.ws + "/v1/stream") as silent,
        ):
            await socket.send('{"type": "start", "rerank": true}')
            await socket.send(audio.tobytes())
            while not served.services.recall.reranker.asked:
                await asyncio.sleep(0.01)
            served.stop()
            return await asyncio.gather(gather(socket), gather(silent))

    slow = FakeReranker()
    slow.delay = 0.3
    with serving(reranker=slow) as served:
        (messages, code), silent = run(work(served))
    kinds = [one["type"] for one in messages]
    assert kinds.count("remembered") == kinds.count("final") > 0
    assert (messages[-1]["error"]["code"], code) == ("shutting_down", 1012)
    assert messages[-1]["heard"] == pytest.approx(len(audio) / RATE, abs=0.2)
    assert ([one["error"]["code"] for one in silent[0]], silent[1]) == (["shutting_down"], 1012)


def test_a_shutdown_hands_every_stream_back() -> None:
    audio = sounds(2)
    half = len(audio) // 2

    async def work(served: Served) -> Any:
        async with (
            connect(served.ws + "/v1/stream") as socket,
            connect(served.ws + "/v1/stream") as device,
            connect(served.ws + "/vosk") as vosk,
        ):
            await socket.send('{"type": "start"}')
            await device.send('{"type": "start", "encoding": "lattice"}')
            await vosk.send('{"config": {"sample_rate": 16000}}')
            await vosk.send(audio[:half].tobytes())
            reply = json.loads(await vosk.recv())
            await socket.send(audio[:half].tobytes())
            ready = [json.loads(await one.recv()) for one in (socket, device)]
            assert [one["type"] for one in ready] == ["ready", "ready"]
            streams = served.services.speech._sessions
            while len(streams) < 2 or any(one.heard < half / RATE - 0.2 for one in streams):
                await asyncio.sleep(0.01)
            served.stop()
            return reply, *await asyncio.gather(gather(socket), gather(device), gather(vosk))

    with serving() as served:
        reply, (messages, code), device, vosk = run(work(served))
    assert messages[-1]["error"]["code"] == "shutting_down"
    assert messages[-1]["heard"] == pytest.approx(half / RATE, abs=0.2)
    assert messages[:-1] == plain(alone(audio[:half]))
    assert code == 1012
    assert ([m["type"] for m in device[0]], device[1]) == (["error"], 1012)
    assert vosk[0][-1]["error"]["code"] == "shutting_down"
    said = [e.result.text for e in alone(audio[:half]) if isinstance(e, Final)]
    assert [one["text"] for one in (reply, *vosk[0][:-1])] == said
