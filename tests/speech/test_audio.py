"""Audio input: every kind of file, every cut of a stream, every kind of bad input."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError, ShapeError
from solomonic.speech.audio import (
    PcmDecoder,
    StreamResampler,
    check_samples,
    clipping,
    decode_pcm,
    microphone,
    read_audio,
    resample,
)

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def noise(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * 0.1).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype", "tolerance"),
    [
        ("a.wav", 16000, 1, "PCM_16", 1e-4),
        ("a.wav", 16000, 1, "PCM_U8", 1e-2),
        ("a.wav", 16000, 1, "PCM_24", 1e-6),
        ("a.wav", 8000, 1, "ULAW", 2e-2),
        ("a.wav", 48000, 7, "FLOAT", 1e-3),
        ("a.flac", 44100, 2, "PCM_16", 1e-3),
        ("a.ogg", 22050, 1, "VORBIS", 5e-2),
        ("a.opus", 48000, 1, "OPUS", 5e-2),
        ("a.aiff", 11025, 1, "PCM_16", 1e-3),
    ],
)
def test_any_file(
    tmp_path: Path, name: str, rate: int, channels: int, subtype: str, tolerance: float
) -> None:
    samples = np.repeat(tone(1.0, rate)[:, None], channels, axis=1)
    kind = "OGG" if name.endswith("opus") else None
    soundfile.write(tmp_path / name, samples, rate, subtype=subtype, format=kind)
    read = read_audio(tmp_path / name)
    assert read.dtype == np.float32 and read.ndim == 1 and abs(len(read) - 16000) <= 1
    middle = slice(4000, 12000)  # filters and codecs need a moment at the edges
    assert np.abs(read[middle] - tone(1.0, 16000)[middle]).max() < tolerance


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = noise(800), noise(800, 1)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    assert np.allclose(read_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


def test_one_sample(tmp_path: Path) -> None:
    for rate in (8000, 16000, 48000):
        soundfile.write(tmp_path / "a.wav", np.array([0.5]), rate)
        assert len(read_audio(tmp_path / "a.wav")) <= 2


def test_clipped_audio_is_read_and_told(tmp_path: Path) -> None:
    loud = np.clip(tone(0.5, 16000) * 4, -1, 1)
    soundfile.write(tmp_path / "a.wav", loud, 16000)
    share = clipping(read_audio(tmp_path / "a.wav"))
    assert share == pytest.approx(float((np.abs(loud) >= 1).mean()), abs=0.01) and share > 0.5
    assert clipping(tone(0.5, 16000)) == 0 and clipping(np.empty(0, np.float32)) == 0


def test_what_is_no_audio(tmp_path: Path) -> None:
    files = {"empty.wav": b"", "text.wav": b"hello, this is text\n" * 100, "cut.wav": b"RIFF\x00"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name} as audio"):
            read_audio(tmp_path / name)
    with pytest.raises(DataError, match="it is empty"):
        read_audio(tmp_path / "empty.wav")
    with pytest.raises(DataError, match="there is no recording"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(DataError, match="there is no recording"):
        read_audio(tmp_path)
    soundfile.write(tmp_path / "nothing.wav", np.empty(0), 16000)
    with pytest.raises(DataError, match="no sample"):
        read_audio(tmp_path / "nothing.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_not_finite(tmp_path: Path, bad: float, rate: int) -> None:
    samples = noise(1000)
    samples[500] = bad
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    with pytest.raises(DataError, match="not finite"):
        read_audio(tmp_path / "a.wav")
    with pytest.raises(DataError, match="not finite"):
        check_samples(samples)


def test_checked_samples_are_scaled_by_their_type() -> None:
    for kind, scale in ((np.int16, 32768), (np.int32, 2**31), (np.int8, 128)):
        assert check_samples(np.array([-scale, 0, scale // 2], kind)).tolist() == [-1, 0, 0.5]
    assert check_samples(np.array([0, 128, 192], np.uint8)).tolist() == [-1, 0, 0.5]
    for kind in (np.uint16, np.int64):
        with pytest.raises(DataError, match="give int16, or floats"):
            check_samples(np.zeros(3, kind))
    assert check_samples([0.25, -1]).dtype == np.float32
    assert check_samples([]).shape == (0,)
    for bad in (np.zeros((2, 3)), 0.5, ["a"], np.zeros(3, complex)):
        with pytest.raises(ShapeError, match="one channel"):
            check_samples(bad)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_resampling_does_not_depend_on_the_cut(rate: int) -> None:
    rng, samples = np.random.default_rng(rate), noise(round(rate * 0.17))
    results = []
    for most in (1, 5, 700, len(samples)):
        stream, parts, start = StreamResampler(rate), [], 0
        while start < len(samples):
            size = 1 if most == 1 else int(rng.integers(0, most + 1))
            parts.append(stream.accept(samples[start : start + size]))
            start += size
        results.append(np.concatenate([*parts, stream.finish()]))
        assert len(stream.finish()) == 0
    assert all(np.array_equal(results[0], other) for other in results[1:])
    whole = resample(samples, rate, 16000)
    assert len(whole) == len(results[0]) == round(0.17 * 16000)
    assert np.allclose(results[0], whole, atol=1e-6)


def test_a_file_gives_what_its_stream_gives(tmp_path: Path) -> None:
    samples = noise(9000)
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    stream = StreamResampler(44100)
    parts = [stream.accept(samples[i : i + 331]) for i in range(0, 9000, 331)]
    assert np.array_equal(read_audio(tmp_path / "a.wav"), np.concatenate([*parts, stream.finish()]))
    soundfile.write(tmp_path / "slow.wav", samples, 100)
    with pytest.raises(DataError, match=r"slow\.wav: sample rates 100"):
        read_audio(tmp_path / "slow.wav")


def test_resampling_keeps_what_it_can_and_removes_what_it_must() -> None:
    stream = StreamResampler(48000)
    kept, gone = tone(0.5, 48000, 3000), tone(0.5, 48000, 11000)
    out = np.concatenate([stream.accept(kept + gone), stream.finish()])
    assert np.abs(out - tone(0.5, 16000, 3000))[1000:-1000].max() < 1e-3


def test_resampler_refuses() -> None:
    with pytest.raises(ConfigError, match="between"):
        StreamResampler(10)
    stream = StreamResampler(8000)
    stream.finish()
    with pytest.raises(DataError, match="finished"):
        stream.accept([0.0])
    assert StreamResampler(8000).finish().shape == (0,)


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
def test_raw_samples_cut_inside_a_sample(encoding: str) -> None:
    samples = noise(300)
    data = (samples * 32767).astype("<i2").tobytes() if encoding == "s16le" else samples.tobytes()
    whole = decode_pcm(data, encoding)
    assert np.allclose(whole, samples, atol=1e-4)
    for size in (1, 3, 7, 1000):
        decoder = PcmDecoder(encoding)
        parts = [decoder.accept(data[i : i + size]) for i in range(0, len(data), size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_raw_samples_refused() -> None:
    with pytest.raises(ConfigError, match="s16le, f32le"):
        PcmDecoder("u8")
    with pytest.raises(ConfigError):
        decode_pcm(b"", "u8")
    with pytest.raises(DataError, match="end inside a sample"):
        decode_pcm(b"abc")
    with pytest.raises(DataError, match="not finite"):
        decode_pcm(np.array([np.nan], "<f4").tobytes(), "f32le")


def test_microphone_without_sounddevice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ConfigError, match=r"solomonic\[microphone\]"):
        next(microphone())


def test_microphone_gives_its_blocks_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Stream:
        def __init__(self, callback: Any, blocksize: int, **settings: Any) -> None:
            assert settings["samplerate"] == 16000 and settings["channels"] == 1
            self.callback, self.size = callback, blocksize

        def start(self) -> None:
            self.callback(np.ones((self.size, 1), np.float32), self.size, None, None)

        def close(self) -> None:
            closed.append(True)

    fake = types.SimpleNamespace(InputStream=Stream, PortAudioError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    blocks = microphone(block_ms=10)
    assert next(blocks).tolist() == [1.0] * 160
    blocks.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert closed == [True]

    def refuse(**_: Any) -> None:
        raise RuntimeError("no device")

    fake.InputStream = refuse
    with pytest.raises(ConfigError, match="no device"):
        next(microphone())

    def unknown(**_: Any) -> None:  # what sounddevice says of several that fit
        raise ValueError("Multiple input devices found for 'usb':\n[1] usb a\n[2] usb b")

    fake.InputStream = unknown
    with pytest.raises(ConfigError, match=r"found for 'usb': \[1\] usb a \[2\] usb b\); give"):
        next(microphone(device="usb"))
