"""The Vosk WebSocket protocol: vosk-server's own clients, as they are, against our server.

`vosk_client` is websocket/test.py of vosk-server (Apache-2.0) with its prints gathered; the
variants of config are those of its test_words.py, test_alternatives.py and test_srt.py.
"""

import asyncio
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets

from needs import needs_recognizer
from solomonic.speech.events import Final, Partial
from solomonic.speech.lattice import n_best
from speech_served import Served, alone, run, serving, sounds
from speech_tiny import RATE

pytestmark = needs_recognizer


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


@pytest.fixture
def recording(tmp_path: Path) -> tuple[Path, np.ndarray]:
    audio = sounds(2)
    path = tmp_path / "test.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(audio.tobytes())
    return path, audio


async def vosk_client(uri: str, path: Path, config: str = "") -> list[str]:
    async with websockets.connect(uri) as websocket:
        wf = wave.open(str(path), "rb")  # noqa: SIM115
        replies = []
        await websocket.send(
            config or '{ "config" : { "sample_rate" : %d } }' % (wf.getframerate())  # noqa: UP031
        )
        buffer_size = int(wf.getframerate() * 0.2)  # 0.2 seconds of audio
        while True:
            data = wf.readframes(buffer_size)

            if len(data) == 0:
                break

            await websocket.send(data)
            replies.append(await websocket.recv())

        await websocket.send('{"eof" : 1}')
        replies.append(await websocket.recv())
        # (not in test.py: the server closes behind the last reply)
        with pytest.raises(websockets.ConnectionClosedOK):
            await websocket.recv()
        return replies


def finals_of(audio: np.ndarray, **options: Any) -> list[Final]:
    """What has words in it: at eof Vosk answers with a result in any case."""
    events = alone(audio, **options)
    return [event for event in events if isinstance(event, Final) and event.result.text]


def results_of(replies: list[str]) -> list[dict[str, Any]]:
    """The results with words among the replies; what comes behind eof is always a result."""
    plain = [json.loads(reply) for reply in replies]
    assert "partial" not in plain[-1]
    return [one for one in plain if one.get("text") or one.get("alternatives", [{}])[0].get("text")]


@pytest.mark.parametrize("path", ["/vosk", "", "/"])
def test_the_client_of_vosk_server_works_as_it_is(
    served: Served, recording: tuple[Path, np.ndarray], path: str
) -> None:
    file, audio = recording
    received = run(vosk_client(served.ws + path, file))
    replies, said = [json.loads(reply) for reply in received], results_of(received)
    assert len(replies) == -(-len(audio) // 3200) + 1
    assert all(set(reply) in ({"partial"}, {"text"}, {"text", "result"}) for reply in replies)
    right = finals_of(audio)
    assert [reply["text"] for reply in said] == [final.result.text for final in right]
    for reply, final in zip(said, right, strict=True):
        words = [(w["word"], w["start"], w["end"], w["conf"]) for w in reply.get("result", [])]
        expected = [
            (w.text, round(w.start, 6), round(w.end, 6), round(w.confidence, 6))
            for w in final.result.words
        ]
        assert words == expected
    partials = {reply["partial"] for reply in replies if "partial" in reply}
    assert partials <= {""} | {e.text for e in alone(audio) if isinstance(e, Partial)}
    assert len(partials) > 2


def test_replies_look_like_vosks(served: Served, recording: tuple[Path, np.ndarray]) -> None:
    replies = run(vosk_client(served.ws, recording[0]))
    assert replies[0] == '{\n  "partial" : ""\n}'


def test_without_words(served: Served, recording: tuple[Path, np.ndarray]) -> None:
    config = '{"config" : {"sample_rate": 16000.0, "words": 0}}'
    said = results_of(run(vosk_client(served.ws, recording[0], config)))
    assert [set(one) for one in said] == [{"text"}] * len(finals_of(recording[1]))


def test_alternatives(served: Served, recording: tuple[Path, np.ndarray]) -> None:
    config = '{ "config" : { "sample_rate" : 16000, "max_alternatives" : 3, "words": true } }'
    replies = results_of(run(vosk_client(served.ws, recording[0], config)))
    said = [reply["alternatives"] for reply in replies]
    right = finals_of(recording[1])
    assert len(said) == len(right)
    for alternatives, final in zip(said, right, strict=True):
        paths = n_best(final.result.lattice, 3)
        assert [one["text"] for one in alternatives] == [path.text for path in paths]
        scores = [one["confidence"] for one in alternatives]
        assert scores == sorted(scores, reverse=True)
        for one in alternatives:
            words = one.get("result", [])
            assert " ".join(word["word"] for word in words) == one["text"]
            assert all(set(word) == {"word", "start", "end"} for word in words)


def test_a_phrase_list_favours(served: Served, recording: tuple[Path, np.ndarray]) -> None:
    config = {"sample_rate": RATE, "phrase_list": ["kitchen lights", "[unk]"]}
    replies = run(vosk_client(served.ws, recording[0], json.dumps({"config": config})))
    right = finals_of(recording[1], bias=["kitchen lights", "unk"])
    assert [one["text"] for one in results_of(replies)] == [final.result.text for final in right]


def test_a_reset_ends_the_utterance_and_times_go_on(served: Served) -> None:
    audio = sounds(1, utterances=1)

    async def work() -> list[Any]:
        async with websockets.connect(served.ws) as socket:
            await socket.send('{"config": {"sample_rate": 16000}}')
            found = []
            for _ in range(2):
                await socket.send(audio[: 2 * RATE].tobytes())
                found.append(json.loads(await socket.recv()))
                await socket.send('{"reset" : 1}')
                found.append(json.loads(await socket.recv()))
            return found

    first, one, second, two = run(work())
    assert ("partial" in first) and ("partial" in second)
    assert one["text"] == two["text"] != ""
    shift = two["result"][0]["start"] - one["result"][0]["start"]
    assert shift == pytest.approx(2.0, abs=0.2)


def test_an_eof_without_audio_and_the_default_rate(served: Served) -> None:
    async def work() -> list[Any]:
        found = []
        async with websockets.connect(served.ws) as socket:
            await socket.send('{"eof" : 1}')
            found.append(json.loads(await socket.recv()))
        async with websockets.connect(served.ws) as socket:
            await socket.send(sounds(1)[::2].tobytes())
            found.append(json.loads(await socket.recv()))
            await socket.send('{"eof" : 1}')
            found.append(json.loads(await socket.recv()))
        return found

    empty, *rest = run(work())
    assert empty == {"text": ""}
    events = alone(sounds(1)[::2], 8000)
    right = [event.result.text for event in events if isinstance(event, Final)]
    said = " ".join(reply["text"] for reply in rest if reply.get("text"))
    assert said == " ".join(text for text in right if text)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[1]", "invalid_json"),
        ("{}", "unknown_message"),
        ('{"eof": 2}', "unknown_message"),
        ('{"config": 1}', "unknown_message"),
        ('{"config": {"sample_rate": "fast"}}', "invalid_value"),
        ('{"config": {"sample_rate": -1}}', "invalid_value"),
        ('{"config": {"max_alternatives": 1e9}}', "invalid_value"),
        ('{"config": {"model": "/etc/passwd"}}', "model_not_found"),
        ('{"config": {"rate": 8000}}', "unsupported_parameter"),
        (bytes(2**19 + 2), "too_large"),
    ],
)
def test_nonsense_is_one_error(served: Served, message: Any, code: str) -> None:
    async def work() -> tuple[list[Any], int | None]:
        async with websockets.connect(served.ws) as socket:
            await socket.send(b"\0\0" * 100)
            await socket.recv()
            await socket.send(message)
            found = []
            try:
                while True:
                    found.append(json.loads(await socket.recv()))
            except websockets.ConnectionClosed:
                return found, socket.close_code

    found, closed = run(work())
    assert [one["error"]["code"] for one in found] == [code]
    assert closed == (1009 if code == "too_large" else 1008)


def test_bytes_may_be_cut_anywhere(served: Served) -> None:
    audio = sounds(1)

    async def work() -> list[Any]:
        async with websockets.connect(served.ws) as socket:
            await socket.send('{"config": {"sample_rate": 16000}}')
            data, found = audio.tobytes(), []
            for start in range(0, len(data), 6401):
                await socket.send(data[start : start + 6401])
                found.append(json.loads(await socket.recv()))
            await socket.send('{"eof" : 1}')
            return [*found, json.loads(await socket.recv())]

    said = [reply["text"] for reply in run(work()) if reply.get("text")]
    assert said == [final.result.text for final in finals_of(audio)]


def test_many_vosk_clients_at_once(served: Served, recording: tuple[Path, np.ndarray]) -> None:
    async def work() -> list[list[str]]:
        return await asyncio.gather(*(vosk_client(served.ws, recording[0]) for _ in range(8)))

    replies = run(work())
    assert all(one == replies[0] for one in replies)
