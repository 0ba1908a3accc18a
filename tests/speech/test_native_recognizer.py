"""`speech.native_recognizer`: what Python says and what C++ says are the same events and lattices.

Python's side has its own search, voice detector, end-pointers, protocol and lattices, and asks the
native networks and features for numbers, so that equal means equal to the last bit. How near those
numbers are to torch's is tested in test_native_net.py.
"""

import dataclasses
import io
import itertools
import json
import random
import shutil
import subprocess
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from needs import needs_recognizer
from solomonic.core import CheckpointError, ConfigError, DataError, ShapeError
from solomonic.kernels import native as native_core
from solomonic.speech.biasing import Biasing
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import (
    read_device_model,
    read_device_settings,
    write_device_model,
)
from solomonic.speech.endpoint import EndpointConfig, check_events
from solomonic.speech.events import Event, Final
from solomonic.speech.files import audio_blocks
from solomonic.speech.lattice import LatticeMessage, decode_message, encode_message, limit_for
from solomonic.speech.native import NativeFeatures, NativeTransducer
from solomonic.speech.native_recognizer import NativeRecognizer, PersonalWords
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import load_speech_model
from solomonic.speech.recognizer import Recognizer
from solomonic.speech.result import Result
from speech_tiny import RATE, command, silence, speech

CORE = native_core.load()
pytestmark = needs_recognizer

ROOT = Path(__file__).parents[2]
TINY = ROOT / "native/tests/data/speech.solo"
SAMPLES = sorted((SHIPPED / "samples").glob("*.opus"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as a device file."""
    path = tmp_path_factory.mktemp("device") / "english.solo"
    write_device_model(path, load_speech_model(SHIPPED))
    return path


def reference(path: Path, **options: Any) -> Recognizer:
    """Python's recogniser over the device file's networks."""
    model, settings = read_device_model(path), read_device_settings(path)
    net = NativeTransducer.open(path, model.transducer)
    model = dataclasses.replace(model, transducer=cast(Any, net))
    given = {"decode": settings.decode, "endpoint": settings.endpoint, "voice": settings.voice}
    return Recognizer(model, **given | options)


def heard(
    recognizer: Recognizer | NativeRecognizer,
    pieces: Sequence[np.ndarray],
    rate: int = RATE,
    every: int = 1,
    **options: Any,
) -> tuple[list[Event], Result]:
    """Events and result of audio handed over in those pieces."""
    stream = recognizer.create_stream(**options)
    if isinstance(recognizer, Recognizer):
        cast(Any, stream)._features = NativeFeatures(recognizer.features)
    events: list[Event] = []
    for index, samples in enumerate(pieces):
        stream.accept_waveform(rate, samples)
        if index % every == 0:
            events += stream.events()
    stream.input_finished()
    events += stream.events()
    check_events(events)
    return events, stream.result()


def cut(samples: np.ndarray, seed: int) -> list[np.ndarray]:
    draw = random.Random(seed)
    edges = sorted(draw.choices(range(len(samples) + 1), k=draw.randint(1, 60)))
    return [samples[a:b] for a, b in itertools.pairwise([0, *edges, len(samples)])]


def samples_of(path: Path) -> np.ndarray:
    blocks = list(audio_blocks(path))
    assert {rate for rate, _ in blocks} == {RATE}
    return np.concatenate([samples for _, samples in blocks])


def words_said(events: Sequence[Event]) -> list[str]:
    return [event.result.text for event in events if isinstance(event, Final)]


def test_shipped_samples_are_heard_the_same(shipped: Path) -> None:
    """All that the package has, in one stream, and what was meant is what is said."""
    texts = [
        entry["text"] for entry in json.loads((SAMPLES[0].parent / "samples.json").read_text())
    ]
    audio = np.concatenate(
        [np.concatenate((samples_of(path), silence(1.5, 1e-4))) for path in SAMPLES]
    )
    expected = heard(reference(shipped), [audio])
    ours = heard(NativeRecognizer(shipped), cut(audio, 1))
    assert ours == expected
    assert " ".join(words_said(ours[0])).split() == " ".join(texts).split()
    lattices = [part.lattice for part in ours[1].utterances]
    assert all(lattice is not None and lattice.arcs > 1 for lattice in lattices)


@pytest.mark.parametrize(
    ("folder", "seed"), [("librispeech_small", 1), ("an4", 2), ("wuw2_telephone", 3)]
)
def test_recordings_of_people_are_heard_the_same(
    folder: str, seed: int, shipped: Path, shared_data: Path
) -> None:
    lines = (shared_data / folder / "manifest.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "test" and row["duration"] < 9]
    ours, theirs = NativeRecognizer(shipped), reference(shipped)
    for row in random.Random(seed).sample(rows, 2):
        audio = samples_of(shared_data / folder / row["audio"])
        assert heard(ours, cut(audio, seed)) == heard(theirs, [audio]), row["audio"]


@pytest.mark.parametrize("seed", range(6))
def test_the_toy_is_heard_the_same_whatever_the_settings(seed: int) -> None:
    draw = random.Random(seed)
    decode = DecodeConfig(
        method="greedy" if seed == 5 else "beam",
        beam=draw.choice([1, 2, 4, 8]),
        max_symbols=draw.choice([2, 5]),
        label_context=draw.choice([0, 2, 4]),
        label_bonus=draw.choice([0.0, 0.2]),
        nbest=draw.choice([1, 8]),
        lattice=seed != 4,
    )
    endpoint = EndpointConfig(
        speculate=draw.random() < 0.7, silence_ms=draw.choice([400, 900]), utterance_limit_ms=1500
    )
    audio = np.concatenate([silence(0.3 * seed, 1e-3), *(command(seed=i) for i in range(3))])
    settings: dict[str, Any] = {"decode": decode, "endpoint": endpoint}
    options: dict[str, Any] = {"endpointing": seed != 3}
    if seed == 2:
        settings["decode"] = decode.replace(beam=4, method="beam")
    expected = heard(reference(TINY, **settings), [audio], **options)
    ours = heard(NativeRecognizer(TINY, **settings), cut(audio, seed), **options)
    assert ours == expected
    assert expected[1].text


def test_personal_words_are_heard_the_same() -> None:
    recognizer = reference(TINY)
    text = ("stop\t8", "volume up")
    classes, carriers = {"contact": ("brother", "go back :3")}, ("call my @contact",)
    biasing = Biasing(text, classes, carriers, pieces=recognizer.model.pieces)
    words = PersonalWords(phrases=text, classes=classes, carriers=carriers)
    audio = command(seed=1)
    ours = heard(NativeRecognizer(TINY), cut(audio, 3), bias=words)
    assert ours == heard(recognizer, [audio], bias=biasing)
    assert "stop" in ours[1].text.split()
    assert any(other.bias for other in ours[1].nbest)


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_any_cut_at_any_rate_says_the_same(rate: int) -> None:
    recognizer = NativeRecognizer(TINY)
    audio = command(rate, seed=1)
    expected = heard(recognizer, [audio], rate)
    assert expected[1].text
    for seed in range(3):
        assert heard(recognizer, cut(audio, seed), rate, every=seed + 1) == expected


def test_pieces_of_one_sample() -> None:
    recognizer = NativeRecognizer(TINY)
    audio = np.concatenate((silence(0.1, 1e-3), speech(0.4)))
    expected = heard(recognizer, [audio])
    assert expected[1].text
    assert heard(recognizer, [audio[i : i + 1] for i in range(len(audio))], every=7) == expected
    assert heard(recognizer, [np.round(audio * 32768).astype(np.int16)])[1].text


def test_streams_together_say_what_each_says_alone() -> None:
    recognizer = NativeRecognizer(TINY, threads=2)
    sounds = [command(seed=seed, before=0.2 * seed) for seed in (1, 2, 4)]
    alone = [heard(recognizer, [sound]) for sound in sounds]
    streams = [recognizer.create_stream() for _ in sounds]
    for start in range(0, max(map(len, sounds)), 5000):
        for stream, sound in zip(streams, sounds, strict=True):
            stream.accept_waveform(RATE, sound[start : start + 5000])
        recognizer.decode_streams(streams)
    for stream in streams:
        stream.input_finished()
    recognizer.decode_streams(streams)
    for stream, (events, result) in zip(streams, alone, strict=True):
        assert stream.events() == events
        assert stream.result() == result
    with pytest.raises(ConfigError, match="a stream is in the call twice"):
        recognizer.decode_streams([streams[0], streams[0]])


def test_results_may_be_asked_for_at_any_time() -> None:
    recognizer = NativeRecognizer(TINY)
    stream = recognizer.create_stream()
    assert stream.result() == Result(text="")
    audio = command(seed=1)
    seen = []
    for start in range(0, len(audio), 3000):
        stream.accept_waveform(RATE, audio[start : start + 3000])
        seen.append(stream.result())
    stream.input_finished()
    assert stream.events() == heard(recognizer, [audio])[0]
    assert any(result.reason == "not finished" and result.words for result in seen)
    assert stream.result().text == recognizer.transcribe(audio).text
    counted = stream.counters
    assert counted["blocks"] >= counted["encoded"] > 0 and counted["beam"] == 8
    assert stream.nbytes > 10_000 and recognizer.nbytes > 10_000


def test_silence_is_not_decoded() -> None:
    stream = NativeRecognizer(TINY).create_stream()
    for seed in range(6):
        stream.accept_waveform(RATE, silence(10, 1e-4, seed=seed))
        assert stream.events() == []
    assert stream.counters["encoded"] == 0
    assert stream.time == pytest.approx(60, abs=0.1)


def test_what_runs_is_told(shipped: Path) -> None:
    about = NativeRecognizer(shipped, DecodeConfig(beam=3), threads=2, budget=0.5).describe()
    assert about["kernels"] == cast(Any, CORE).isa()
    assert about["settings"]["decode.beam"] == 3 and about["settings"]["budget"] == 0.5
    assert about["parameters"] > 5e6 and about["end_pointer"] == "model and rules"
    assert about["memory_bytes"] < 1.2 * about["file_bytes"]


# What is refused -----------------------------------------------------------------------------


def test_files_that_are_no_recogniser(tmp_path: Path) -> None:
    data = TINY.read_bytes()

    def refused(name: str, content: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            NativeRecognizer(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    with pytest.raises(CheckpointError, match="none.solo"):
        NativeRecognizer(tmp_path / "none.solo")
    assert "byte" in refused("audio.solo", b"RIFF" + bytes(500))
    refused("empty.solo", b"")
    for size in (10, 200, 5000, len(data) - 1):
        refused("cut.solo", data[:size])
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    refused("flipped.solo", bytes(flipped))
    newer = bytearray(data)
    newer[8] += 1  # FORMAT.md: the version stands behind the eight bytes that name the format
    assert "version" in refused("newer.solo", bytes(newer))
    other = (ROOT / "native/fuzz/corpus/all.solo").read_bytes()
    assert "no recogniser" in refused("other.solo", other)


def test_a_language_model_is_no_recogniser(tmp_path: Path) -> None:
    from solomonic.compress.pack import Pack, settings, write_pack

    path = tmp_path / "lm.solo"
    config = settings("model", {"type": "solomonic-language-model", "version": 1})
    write_pack(path, Pack(config, {"x": np.zeros(3, np.float32)}, None))
    with pytest.raises(CheckpointError, match=r"'solomonic-language-model', no recogniser"):
        NativeRecognizer(path)


def test_bad_audio_leaves_the_stream_as_it_was() -> None:
    recognizer = NativeRecognizer(TINY)
    audio = command(seed=1)
    expected = heard(recognizer, [audio])
    stream = recognizer.create_stream()
    for rate in (0, -16000, 900, 10**7):
        with pytest.raises(ConfigError, match="sample rates"):
            stream.accept_waveform(rate, audio)
    stream.accept_waveform(RATE, audio[:9000])
    bad = audio[9000:10000].copy()
    bad[7] = np.nan
    with pytest.raises(DataError, match="not finite"):
        stream.accept_waveform(RATE, bad)
    with pytest.raises(ConfigError, match="16000 samples a second, not 8000"):
        stream.accept_waveform(8000, audio)
    with pytest.raises(ShapeError, match="one channel"):
        stream.accept_waveform(RATE, np.zeros((7, 100), np.float32))
    stream.accept_waveform(RATE, np.zeros(0, np.float32))
    stream.accept_waveform(RATE, audio[9000:])
    stream.input_finished()
    assert (stream.events(), stream.result()) == expected
    with pytest.raises(DataError, match="finished"):
        stream.accept_waveform(RATE, audio)


def test_settings_and_words_are_checked() -> None:
    recognizer = NativeRecognizer(TINY)
    with pytest.raises(ConfigError, match=r"decode\.bean"):
        recognizer.set(**{"decode.bean": 3})
    with pytest.raises(ConfigError, match="budget"):
        NativeRecognizer(TINY, budget=2)
    with pytest.raises(ConfigError, match="one string"):
        recognizer.create_stream("stop")
    with pytest.raises(ConfigError, match="native recogniser compiles"):
        recognizer.create_stream(cast(Any, 3))
    with pytest.raises(DataError):
        recognizer.create_stream(["\u4f60\u597d"])


# The command, and other processors ------------------------------------------------------------


def built(name: str) -> Path:
    """A command that `make` has built from these sources; skips where there is none."""
    path = ROOT / "build" / name / "solomonic-recognize"
    if not path.is_file():
        pytest.skip(f"{path} is not built; `make {name}`")
    sources = [p for p in (ROOT / "native/src").rglob("*") if p.suffix in (".h", ".cpp")]
    if path.stat().st_mtime < max(p.stat().st_mtime for p in sources):
        pytest.skip(f"{path} is older than its sources; `make {name}`")
    return path


def emulated() -> list[str]:
    if not shutil.which("qemu-aarch64-static"):
        pytest.skip("qemu-aarch64-static is not installed")
    return ["qemu-aarch64-static", str(built("native-arm64"))]


def wav(path: Path, audio: np.ndarray, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, len(audio), "NONE", ""))
        file.writeframes(np.round(audio * 32767).astype("<i2").tobytes())
    return path


def messages(events: Sequence[Event]) -> bytes:
    """What --lattice writes of them."""
    out = io.BytesIO()
    for event in events:
        if isinstance(event, Final):
            result = event.result
            message = LatticeMessage(
                lattice=result.lattice,
                utterance=event.utterance,
                revision=event.revision,
                kind="commit" if event.commit else "final",
                reason=result.reason,
                duration=result.end - result.start,
            )
            out.write(encode_message(message, limit_for(message.duration)))
    return out.getvalue()


def test_the_command_says_what_python_says(shipped: Path, tmp_path: Path) -> None:
    start = str(built("native-plain"))
    for index, sample in enumerate(SAMPLES):
        audio = wav(tmp_path / f"{index}.wav", samples_of(sample))
        lattice = tmp_path / f"{index}.slm"
        run = [start, str(shipped), str(audio), "--lattice", str(lattice)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        events, result = heard(NativeRecognizer(shipped), [samples_of(audio)])
        assert done.stdout == f"{result.text}\n"
        assert lattice.read_bytes() == messages(events)
        done = subprocess.run([*run, "--json"], capture_output=True, text=True, check=True)
        assert list(map(json.loads, done.stdout.splitlines())) == [
            json.loads(json.dumps(event.to_json())) for event in events
        ]


@pytest.mark.parametrize("bits", [32, 8])
def test_arm64_says_the_same(bits: int, shipped: Path, tmp_path: Path) -> None:
    """Weights in float32: text and bytes of lattices. In int8 a sum of floats that another
    instruction set rounds in its last bit may move an activation by one level of 255: the same
    text and graph, and scores of arcs that were nearly not kept."""
    start, path = emulated(), shipped
    if bits == 32:
        path = tmp_path / "float.solo"
        write_device_model(path, load_speech_model(SHIPPED), bits=32)
    for index in (0, 2):
        audio = wav(tmp_path / f"{index}.wav", samples_of(SAMPLES[index]))
        lattice = tmp_path / f"{index}.slm"
        run = [*start, str(path), str(audio), "--lattice", str(lattice)]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        events, result = heard(NativeRecognizer(path), [samples_of(audio)])
        assert done.stdout == f"{result.text}\n" and result.text
        here, there = messages(events), lattice.read_bytes()
        if bits == 32:
            assert there == here
        ours, theirs = decode_message(here).lattice, decode_message(there).lattice
        assert ours is not None and theirs is not None
        assert theirs.symbols == ours.symbols
        assert np.array_equal(theirs.labels, ours.labels)
        assert np.array_equal(theirs.targets, ours.targets)


def test_the_command_refuses_in_one_sentence(tmp_path: Path) -> None:
    start = str(built("native-plain"))
    audio = wav(tmp_path / "a.wav", command(seed=1))
    silent = wav(tmp_path / "empty.wav", np.zeros(0))
    cut = tmp_path / "cut.wav"
    cut.write_bytes(audio.read_bytes()[:30])
    for arguments in (
        [],
        [TINY],
        ["none.solo", audio],
        [audio, audio],
        [TINY, "none.wav"],
        [TINY, TINY],
        [TINY, silent],
        [TINY, cut],
        [TINY, audio, "--beam"],
        [TINY, audio, "--set", "decode.beam=0"],
        [TINY, audio, "--set", "decode.beam"],
        [TINY, audio, "--budget", "2"],
        [TINY, audio, "--phrases", "none.txt"],
        [TINY, audio, "--lattice", "/nowhere/it.slm"],
        [TINY, "-", "-"],
    ):
        run = subprocess.run([start, *map(str, arguments)], capture_output=True, text=True)
        assert run.returncode == 2, arguments
        assert run.stdout == ""
        assert run.stderr.startswith("error: ") and len(run.stderr.splitlines()) == 1, run.stderr
        assert run.stderr.endswith((".\n", ".`\n", "see --help.\n", "`.\n")), run.stderr
    run = subprocess.run([start, str(TINY), "none.wav", str(audio)], capture_output=True, text=True)
    assert run.returncode == 2  # the other recording still counts
    assert run.stdout.startswith(f"{audio}: ") and "none.wav" in run.stderr
    raw = audio.read_bytes()[44:]
    done = subprocess.run([start, str(TINY), "-"], input=raw, capture_output=True)
    assert done.returncode == 0 and done.stdout.strip()
