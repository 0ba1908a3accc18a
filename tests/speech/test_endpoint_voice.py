"""Voice activity: silent in silence and noise, awake to speech, whatever the level and the cuts."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from solomonic.core import ConfigError, ShapeError
from solomonic.speech.audio import read_audio
from solomonic.speech.endpoint.voice import VoiceConfig, VoiceDetector, VoiceState, pool
from solomonic.speech.features import features

RATE = 16_000


def noise(seconds: float, db: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=int(seconds * RATE)) * 10 ** (db / 20)


def babble(seconds: float, db: float) -> np.ndarray:
    """Speech-like: a buzz of 120 Hz with moving formants, four syllables a second."""
    t = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(
        np.sin(2 * np.pi * 120 * k * t) / (1 + ((120 * k - 600 - 300 * np.sin(9 * t)) / 250) ** 2)
        for k in range(1, 40)
    )
    audio = buzz * np.clip(np.sin(2 * np.pi * 2 * t) ** 2, 0.02, None)
    return audio / np.sqrt((audio**2).mean()) * 10 ** (db / 20)


def heard(audio: np.ndarray) -> np.ndarray:
    """Speech or not for each frame of 10 ms."""
    return VoiceDetector().step(features(audio.astype(np.float32)))[0] >= 0.5


def longest(frames: np.ndarray) -> int:
    return max(
        (sum(1 for _ in run) for value, run in itertools.groupby(frames) if value), default=0
    )


@pytest.mark.parametrize("db", [-np.inf, -90, -60, -40, -20, -3])
def test_stationary_noise_is_never_speech(db: float) -> None:
    assert not heard(noise(30, db)).any()
    hum = noise(30, db) + 10 ** (db / 20) * np.sin(2 * np.pi * 100 * np.arange(30 * RATE) / RATE)
    assert not heard(hum).any()


def test_an_hour_of_noise_is_silent_and_memory_flat() -> None:
    """A minute of noise sixty times over, turned each time, the state carried on."""
    detector = VoiceDetector()
    frames = features(noise(60, -40).astype(np.float32))
    frames = frames[np.random.default_rng(0).permutation(len(frames))]  # no frame knows its place
    state, size = detector.init_state(), 0
    for minute in range(60):
        probabilities, state = detector.step(np.roll(frames, 977 * minute, axis=0), state)
        assert (probabilities < 0.5).all()
        size = size or state.nbytes
        assert state.nbytes == size


@pytest.mark.parametrize("snr", [30, 20, 10])
@pytest.mark.parametrize("db", [-10, -25, -40])
def test_speech_is_found_and_its_end_too(db: float, snr: float) -> None:
    speech = np.concatenate([np.zeros(RATE), babble(3, db), np.zeros(2 * RATE)])
    frames = heard(speech + noise(6, db - snr))
    assert not frames[:95].any(), "nothing before it begins"
    assert longest(frames[100:130]) >= 10, "the start is found within 300 ms"
    assert longest(~frames[100:390]) < 40, "syllables are no ends"
    assert not frames[412:].any(), "and it ends within 120 ms"


def test_clipped_speech_is_speech() -> None:
    speech = np.concatenate([np.zeros(RATE), np.clip(babble(3, 5), -1, 1), np.zeros(RATE)])
    frames = heard(speech + noise(5, -60))
    assert longest(frames[100:130]) >= 10 and not frames[415:].any()


def test_a_new_noise_is_learnt_within_the_floor_window() -> None:
    frames = heard(np.concatenate([noise(4, -70), noise(8, -30, seed=1), noise(4, -70, seed=2)]))
    assert frames[400:420].any() and not frames[400 + 280 + 10 :].any()


def test_loud_speech_before_does_not_hide_the_end() -> None:
    """Breath 40 dB below the voice is not speech, though it is far above digital silence."""
    speech = np.concatenate([np.zeros(RATE), babble(2, -15)])
    frames = heard(np.concatenate([speech, babble(1, -60), np.zeros(RATE)]))
    assert frames[150:290].any() and not frames[315:].any()


def test_a_recording_that_is_one_word_is_announced_when_it_ends() -> None:
    """Speech from the first sample on: no floor was ever heard."""
    rng = np.random.default_rng(0)
    t = np.arange(int(0.35 * RATE)) / RATE
    word = 0.2 * np.sin(2 * np.pi * 300 * t) + 0.05 * rng.normal(size=len(t))
    silence = np.full((48, 80), -15.9, np.float32)
    mel = np.concatenate([features(word.astype(np.float32)), silence])
    probabilities, state = VoiceDetector().step(mel)
    assert longest(probabilities >= 0.5) >= 12 and state.opening is None
    # An unchanging sound that goes on is not announced.
    assert not heard(noise(2, -20)).any()


def equal(one: VoiceState, other: VoiceState) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("level", "minima", "minimum", "frames", "loudest", "held", "noticed")
    )


def test_cuts_do_not_matter_and_states_are_values() -> None:
    mel = features((np.concatenate([noise(1, -50), babble(2, -20)])).astype(np.float32))
    detector = VoiceDetector()
    whole, last = detector.step(mel)
    rng = np.random.default_rng(0)
    for count in (0, 1, 7, len(mel)):
        cuts = sorted({0, len(mel), *rng.integers(0, len(mel), size=count).tolist()})
        state, parts = detector.init_state(), []
        for low, high in itertools.pairwise(cuts):
            before = state
            part, state = detector.step(mel[low:high], state)
            again, _ = detector.step(mel[low:high], before)
            assert np.array_equal(part, again)
            parts.append(part)
        assert np.array_equal(np.concatenate(parts), whole) and equal(state, last)
    shuffled = detector.step(np.ascontiguousarray(mel[:, ::-1])[:, ::-1])[0]
    assert np.array_equal(shuffled, whole), "strides do not matter either"
    assert len(detector.step(mel[:0])[0]) == 0


def test_broken_features_do_not_last() -> None:
    mel = features((np.concatenate([noise(1, -50), babble(2, -20)])).astype(np.float32))
    broken = mel.copy()
    broken[20:30] = np.nan
    broken[30:32] = np.inf
    assert (VoiceDetector().step(broken)[0][-100:] >= 0.5).mean() > 0.5


@pytest.mark.parametrize("snr", [20, 10])
def test_real_speech_in_noise(shared_data: Path, snr: float) -> None:
    """Real commands with half a second of noise before and a second after."""
    folder = shared_data / "an4"
    lines = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row["split"] == "test"][::6][:12]
    ends = []
    for number, row in enumerate(rows):
        audio = read_audio(folder / row["audio"])
        level = 10 * np.log10(np.sort((audio**2).reshape(-1)[::7])[-len(audio) // 14 :].mean())
        whole = np.concatenate([np.zeros(RATE // 2), audio, np.zeros(RATE)])
        frames = heard(whole + noise(len(whole) / RATE, level - snr, seed=number))
        assert not frames[:45].any() and longest(frames) >= 10, row["audio"]
        assert not frames[len(frames) - 85 :].any(), row["audio"]
        ends.append(len(frames))
    assert len(ends) == 12


def test_pooling_and_bad_input() -> None:
    assert pool(np.arange(6.0), 3).tolist() == [1.0, 4.0]
    with pytest.raises(ShapeError, match="5 frames are no multiple of 3"):
        pool(np.zeros(5), 3)
    with pytest.raises(ShapeError, match=r"features must be \(T, F\) with F a multiple of 8"):
        VoiceDetector().step(np.zeros((3, 81), np.float32))
    with pytest.raises(ConfigError, match="highest"):
        VoiceConfig(highest=9)
    with pytest.raises(ConfigError, match="smoothing must be in"):
        VoiceConfig(smoothing=1.0)
    with pytest.raises(ConfigError, match="floor_frames must be at least 10"):
        VoiceConfig(floor_frames=3)
    with pytest.raises(ConfigError, match="hangover_frames must not be negative"):
        VoiceConfig(hangover_frames=-1)
