"""/v1/audio/transcriptions, with OpenAI's own package as the client."""

import io
import struct
import threading
import time
import wave
from collections.abc import Iterator

import numpy as np
import openai
import pytest
import requests
import soundfile

from needs import needs_recognizer
from solomonic.serve.speech.personal import prompt_phrases
from solomonic.speech.events import Final
from speech_served import Served, alone, serving, sounds
from speech_tiny import RATE

pytestmark = needs_recognizer


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(max_seconds=30.0) as one:
        yield one


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as one:
        yield one


def packed(
    audio: np.ndarray, kind: str = "WAV", rate: int = RATE, subtype: str | None = None
) -> bytes:
    """A file with the samples."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=kind, subtype=subtype)
    return file.getvalue()


def texts(audio: np.ndarray, rate: int = RATE, **options: object) -> list[str]:
    events = alone(audio, rate, **options)
    return [e.result.text for e in events if isinstance(e, Final) and e.result.text]


def test_json_and_text(client: openai.OpenAI) -> None:
    audio = sounds(2)
    file = ("speech.wav", packed(audio))
    right = " ".join(texts(audio))
    made = client.audio.transcriptions
    assert made.create(file=file, model="whisper-1").text == right
    assert made.create(file=file, model="speech", temperature=0.2, language="en").text == right
    assert made.create(file=file, model="speech", response_format="text") == right + "\n"


def test_verbose_json_has_words_and_segments(client: openai.OpenAI) -> None:
    audio = sounds(2)
    made = client.audio.transcriptions.create(
        file=("speech.wav", packed(audio)),
        model="speech",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    finals = [e.result for e in alone(audio) if isinstance(e, Final) and e.result.text]
    assert made.duration == pytest.approx(len(audio) / RATE, abs=0.2)
    assert made.words is not None
    assert made.segments is not None
    words = [word for result in finals for word in result.words]
    assert [(w.word, w.start, w.end) for w in made.words] == [
        (w.text, round(w.start, 3), round(w.end, 3)) for w in words
    ]
    assert [segment.text for segment in made.segments] == [result.text for result in finals]
    only = client.audio.transcriptions.create(
        file=("a.wav", packed(audio)), model="speech", response_format="verbose_json"
    )
    assert only.words is None
    assert only.segments is not None


def test_subtitles(client: openai.OpenAI) -> None:
    audio = sounds(2)
    file = ("speech.wav", packed(audio))
    srt = client.audio.transcriptions.create(file=file, model="speech", response_format="srt")
    vtt = client.audio.transcriptions.create(file=file, model="speech", response_format="vtt")
    assert srt.startswith("1\n00:00:0")
    assert vtt.startswith("WEBVTT\n\n00:00:0")
    assert srt.count("-->") == vtt.count("-->") >= 2
    said = [line for line in vtt.splitlines() if line and "-->" not in line][1:]
    assert " ".join(said) == " ".join(texts(audio))


def test_streaming_gives_a_delta_an_utterance(client: openai.OpenAI) -> None:
    audio = sounds(2)
    events = list(
        client.audio.transcriptions.create(
            file=("speech.wav", packed(audio)), model="speech", stream=True
        )
    )
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) == len(texts(audio)) >= 2
    assert events[-1].type == "transcript.text.done"
    assert "".join(deltas) == events[-1].text == " ".join(texts(audio))


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("FLAC", None), ("OGG", "OPUS"), ("MP3", None), ("AIFF", None), ("AU", None),
     ("WAV", "FLOAT")],
)  # fmt: skip
def test_any_format_that_libsndfile_reads(
    client: openai.OpenAI, kind: str, subtype: str | None
) -> None:
    data = packed(sounds(2), kind, subtype=subtype)
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    made = client.audio.transcriptions.create(file=("x." + kind.lower(), data), model="speech")
    assert made.text == " ".join(texts(samples, rate))


def test_two_channels_at_another_rate(client: openai.OpenAI) -> None:
    mono = sounds(2)[::2]
    data = packed(np.stack([mono, mono], 1), rate=8000)
    made = client.audio.transcriptions.create(file=("x.wav", data), model="speech")
    assert made.text == " ".join(texts(mono, 8000))


def test_a_prompt_is_personal_words(client: openai.OpenAI) -> None:
    audio = sounds(2)
    made = client.audio.transcriptions.create(
        file=("x.wav", packed(audio)), model="speech", prompt="Kitchen lights, щука."
    )
    assert made.text == " ".join(texts(audio, bias=["Kitchen lights"]))


def test_what_becomes_of_prompts() -> None:
    assert prompt_phrases("") == []
    assert prompt_phrases("Siobhan Nguyen, kettle; x\nkettle") == ["Siobhan Nguyen", "kettle"]
    sentence = "Today the weekly call with Siobhan Nguyen and Zoltan in our office"
    assert prompt_phrases(sentence) == ["Siobhan Nguyen", "Zoltan"]
    many = ", ".join(f"word {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(500))
    assert len(prompt_phrases(many)) == 100


def silence_bomb() -> bytes:
    """Kilobytes that unpack to an hour."""
    return packed(np.zeros(3600 * 8000, np.int16), "FLAC", 8000)


def lying_wav() -> bytes:
    """A header that announces two gigabytes and a second that is there."""
    data = bytearray(packed(np.zeros(RATE, np.int16)))
    data[4:8] = data[40:44] = struct.pack("<I", 0x7FFFFFF0)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "invalid_audio"),
        (b"this is no audio at all" * 10, 400, "invalid_audio"),
        (packed(sounds(1))[:30], 400, "invalid_audio"),
        (packed(np.zeros(0, np.int16)), 400, "invalid_audio"),
        (silence_bomb, 413, "audio_too_long"),
        (packed(np.array([0.0, np.nan], np.float32), subtype="FLOAT"), 400, "invalid_value"),
        (packed(np.zeros((100, 40), np.int16)), 400, "unsupported_audio"),
        (packed(np.zeros(100, np.int16), rate=500), 400, "unsupported_audio"),
    ],
    # Not the bytes: the header of a file of floats says at which second it was made.
    ids=["empty", "text", "cut", "silent", "bomb", "nan", "channels", "rate"],
)
def test_files_that_cannot_be_are_refused(
    served: Served, client: openai.OpenAI, data: object, status: int, code: str
) -> None:
    content = data() if callable(data) else data
    assert isinstance(content, bytes)
    with pytest.raises(openai.APIStatusError) as failed:
        client.audio.transcriptions.create(file=("../../etc/passwd", content), model="speech")
    assert (failed.value.status_code, failed.value.code) == (status, code)
    assert served.services.speech.streams == 0


def test_a_header_that_lies_about_the_length_is_no_problem(client: openai.OpenAI) -> None:
    made = client.audio.transcriptions
    try:
        assert isinstance(made.create(file=("x.wav", lying_wav()), model="speech").text, str)
    except openai.APIStatusError as error:
        assert error.status_code in (400, 413)


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": "gpt-9"}, 404, "model"),
        ({"language": "e"}, 400, "language"),
        ({"temperature": "7"}, 400, "temperature"),
        ({"response_format": "pdf"}, 400, "response_format"),
        ({"timestamp_granularities[]": "word"}, 400, "timestamp_granularities"),
    ],
)
def test_fields_that_cannot_be(
    served: Served, fields: dict[str, str], status: int, param: str
) -> None:
    answer = requests.post(
        f"{served.url}/v1/audio/transcriptions",
        files={"file": ("x.wav", packed(sounds(1)))},
        data={"model": "speech", **fields},
        timeout=30,
    )
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


def test_a_client_that_goes_away_leaves_nothing_behind(served: Served) -> None:
    data = packed(np.tile(sounds(1), 6)[: 29 * RATE])

    def hurry() -> None:
        with pytest.raises(requests.Timeout):
            requests.post(
                f"{served.url}/v1/audio/transcriptions",
                files={"file": ("x.wav", data)},
                data={"model": "speech"},
                timeout=(5, 0.01),
            )

    threads = [threading.Thread(target=hurry) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until = time.monotonic() + 20
    while served.services.speech.streams and time.monotonic() < until:
        time.sleep(0.01)
    assert served.services.speech.streams == 0


def test_local_only_refuses_recordings() -> None:
    with serving(local_only=True) as served:
        answer = requests.post(
            f"{served.url}/v1/audio/transcriptions",
            files={"file": ("x.wav", packed(sounds(1)))},
            data={"model": "speech"},
            timeout=30,
        )
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "audio_refused"


def test_wave_files_of_the_standard_library(client: openai.OpenAI) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(sounds(3).tobytes())
    file.seek(0)
    file.name = "speech.wav"
    made = client.audio.transcriptions.create(file=file, model="speech")
    assert made.text == " ".join(texts(sounds(3)))
