"""Augmentation does what it says: ratios to 0.1 dB, times kept, masks within bounds, repeatable."""

from pathlib import Path

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError
from solomonic.speech.data.augment import (
    NOISES,
    AugmentConfig,
    add_noise,
    augment,
    change_speed,
    change_volume,
    reverberate,
    room_response,
    synthetic_noise,
)

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(count: int, hertz: float = 500.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(count) / 16000)).astype(np.float32)


def db(signal: np.ndarray, noise: np.ndarray) -> float:
    return float(
        10 * np.log10((signal.astype(float) ** 2).mean() / (noise.astype(float) ** 2).mean())
    )


@pytest.mark.parametrize("snr", [-5.0, 0.0, 10.0, 30.0])
@pytest.mark.parametrize("count", [700, 16000, 50000])  # noise longer, as long, and repeated
def test_noise_is_at_the_ratio_asked_for(snr: float, count: int) -> None:
    speech, noise = tone(count), synthetic_noise("pink", 16000, rng())
    mixed = add_noise(speech, noise, snr, rng(1))
    assert mixed.dtype == np.float32 and db(speech, mixed - speech) == pytest.approx(snr, abs=0.1)


def test_noise_is_drawn_from_everywhere_in_the_recording() -> None:
    ramp = np.linspace(0.1, 1, 1000).astype(np.float32)
    draw = rng()
    firsts = [add_noise(tone(10, 4000.0), ramp, 0, draw)[0] for _ in range(50)]
    assert len(set(firsts)) > 40


def test_silence_has_no_ratio() -> None:
    silent = np.zeros(100, np.float32)
    assert np.array_equal(add_noise(silent, tone(100), 10, rng()), silent)
    assert np.array_equal(add_noise(tone(100), silent, 10, rng()), tone(100))
    with pytest.raises(DataError, match="noise is empty"):
        add_noise(tone(10), np.empty(0, np.float32), 10, rng())


@pytest.mark.parametrize("kind", NOISES)
def test_synthetic_noise(kind: str) -> None:
    made = synthetic_noise(kind, 32000, rng())
    assert made.dtype == np.float32 and (made**2).mean() == pytest.approx(0.01, rel=1e-4)
    assert np.array_equal(made, synthetic_noise(kind, 32000, rng()))
    power = np.abs(np.fft.rfft(made)) ** 2
    low, high = power[200:2000].mean(), power[8000:].mean()  # 100 to 1000 Hz, 4 kHz and up
    ratio = 10 * np.log10(low / high)
    expected = {"white": (-1, 1), "pink": (8, 16), "brown": (20, 40), "hum": (10, 60)}[kind]
    assert expected[0] < ratio < expected[1]
    assert len(synthetic_noise(kind, 1, rng())) == 1 and len(synthetic_noise(kind, 0, rng())) == 0


def test_unknown_noise() -> None:
    with pytest.raises(ConfigError, match="white, pink, brown, hum"):
        synthetic_noise("babble", 10, rng())


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    fast = change_speed(tone(16000), factor)
    assert abs(len(fast) - 16000 / factor) <= 1
    peak = np.abs(np.fft.rfft(fast, 16000)).argmax()
    assert peak == pytest.approx(500 * factor, abs=2)
    with pytest.raises(ConfigError, match=r"between 0\.5 and 2"):
        change_speed(tone(10), 3)


def test_volume() -> None:
    assert db(change_volume(tone(1000), -6), tone(1000)) == pytest.approx(-6, abs=1e-3)


@pytest.mark.parametrize("seconds", [0.1, 0.5])
def test_rooms_decay_by_sixty_decibels_and_have_their_direct_sound(seconds: float) -> None:
    response = room_response(rng(), seconds, 5.0).astype(float)
    tail = response[1:]
    assert response[0] == 1 and 10 * np.log10((tail**2).sum()) == pytest.approx(-5, abs=0.01)
    parts = np.array_split(tail, 10)
    level = [10 * np.log10((part**2).mean()) for part in parts[1:]]
    slope = np.polyfit(np.arange(9) / 10, level, 1)[0]
    assert slope == pytest.approx(-60, abs=4)


def test_reverberation_keeps_length_level_and_times() -> None:
    speech = np.zeros(16000, np.float32)
    speech[5000:9000] = tone(4000)
    wet = reverberate(speech, room_response(rng(), 0.3, 0.0))
    assert len(wet) == 16000 and db(wet, speech) == pytest.approx(0, abs=0.01)
    assert np.abs(wet[:5000]).max() < 1e-5 and np.abs(wet[9000:10000]).max() > 0.01
    assert np.allclose(reverberate(speech, np.ones(1, np.float32)), speech, atol=1e-6)
    assert not reverberate(np.zeros(10, np.float32), room_response(rng(), 0.1, 0.0)).any()
    assert len(reverberate(np.empty(0, np.float32), np.ones(3, np.float32))) == 0


def test_a_recording_is_changed_as_drawn_and_the_same_again(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", 0.01 * rng(5).standard_normal(4000), 16000)
    config = AugmentConfig(
        speeds=(0.9, 1.0, 1.1), reverberation=0.5, noise=0.7, gain_db=(-10, 5),
        noise_files=(str(tmp_path / "noise.wav"),), synthetic=0.5,
    )  # fmt: skip
    speech = tone(8000)
    made = [augment(speech, config, rng(seed)) for seed in range(12)]
    again = [augment(speech, config, rng(seed)) for seed in range(12)]
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    assert {len(m) for m in made} == {7273, 8000, 8889} and np.isfinite(np.concatenate(made)).all()
    assert np.array_equal(augment(speech, AugmentConfig(), rng()), speech)
    assert AugmentConfig().changes_nothing and not config.changes_nothing
    assert AugmentConfig.from_json(config.to_json()) == config
    with pytest.raises(DataError, match="there is no recording"):
        missing = AugmentConfig(noise=1.0, noise_files=("none.wav",), synthetic=0.0)
        augment(speech, missing, rng())


def test_settings_are_checked() -> None:
    for bad in ({"speeds": ()}, {"speeds": (3.0,)}, {"noise": 1.5}, {"snr_db": (9.0, 1.0)},
                {"gain_db": (1.0,)}, {"reverberation_seconds": (0.0, 1.0)}):  # fmt: skip
        with pytest.raises(ConfigError):
            AugmentConfig(**bad)  # pyright: ignore[reportArgumentType]
