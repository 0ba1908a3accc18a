"""Features streamed are features whole, bit for bit; bad samples are refused."""

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError, ShapeError
from solomonic.speech.features import FeatureConfig, FeatureStream, features

pytest.importorskip("kaldi_native_fbank")


def noise(count: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(count) * 0.1).astype(np.float32)


def streamed(samples: np.ndarray, rng: np.random.Generator, most: int) -> np.ndarray:
    stream, parts, start = FeatureStream(), [], 0
    while start < len(samples):
        size = int(rng.integers(0, most + 1))
        parts.append(stream.accept(samples[start : start + size]))
        start += size
    return np.concatenate([*parts, stream.finish()])


@pytest.mark.parametrize("count", [0, 1, 79, 80, 239, 240, 399, 400, 401, 8000, 33217])
def test_any_cut_gives_the_same_bits(count: int) -> None:
    rng, samples = np.random.default_rng(count), noise(count)
    whole = features(samples)
    assert whole.shape == (FeatureConfig().frames(count), 80) and whole.dtype == np.float32
    for most in (1, 7, 399, 5000) if count < 9000 else (300, 20000):
        assert np.array_equal(streamed(samples, rng, most), whole)


def test_frames_come_out_as_soon_as_their_last_sample_is_in() -> None:
    stream, out = FeatureStream(), []
    for sample in noise(1600):
        out.append(len(stream.accept(sample[None])))
    # Frame t is centred on (t + 0.5) * 10 ms and 25 ms long.
    expected = [n for n in range(1600) if (n + 1 - 280) % 160 == 0 and n + 1 >= 280]
    assert [i for i, n in enumerate(out) if n] == expected


def test_silence_and_full_scale_are_finite() -> None:
    silence = features(np.zeros(4000, np.float32))
    assert np.allclose(silence, np.log(2.0**-23))
    assert np.isfinite(features(np.sign(noise(4000)))).all()


def test_a_tone_lights_up_its_bin() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000).astype(np.float32)
    peak = int(features(tone)[20].argmax())
    mel = 1127 * np.log1p(np.array([20, 1000, 7600]) / 700)
    assert abs(peak - ((mel[1] - mel[0]) / (mel[2] - mel[0]) * 81 - 1)) < 1


def test_memory_stays_flat() -> None:
    stream, block = FeatureStream(), noise(16000)
    got = sum(len(stream.accept(block)) for _ in range(60))
    assert got + len(stream.finish()) == 6000
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        stream._bank.get_frame(0)  # it was let go


def test_a_finished_stream_takes_no_more() -> None:
    stream = FeatureStream()
    stream.accept(noise(500))
    assert len(stream.finish()) and len(stream.finish()) == 0
    with pytest.raises(DataError, match="finished"):
        stream.accept(noise(1))


def test_bad_samples() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DataError, match="not finite"):
            features(np.array([0.0, bad], np.float32))
    with pytest.raises(ShapeError, match="one channel"):
        features(np.zeros((2, 100), np.float32))


def test_configuration() -> None:
    config = FeatureConfig(bins=40, low=50.0, high=7000.0)
    assert FeatureConfig.from_json(config.to_json()) == config
    assert features(noise(1600), config).shape == (10, 40)
    for bad in (
        {"dither": 1.0},
        {"bins": 0},
        {"low": 9000.0},
        {"shift_ms": 30.0},
        {"sample_rate": 1},
    ):
        with pytest.raises(ConfigError):
            FeatureConfig(**bad)  # pyright: ignore[reportArgumentType]
