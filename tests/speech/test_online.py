"""Augmentation on frames: silence around, level, noise at its ratio, masks; all of it drawn."""

import numpy as np
import pytest

from solomonic.core import ConfigError
from solomonic.speech.data.online import (
    SILENCE,
    OnlineConfig,
    change,
    draw_noise,
    equalise,
    hiss,
    mask,
    mix,
    narrow,
    pad,
    steady_noise,
    warp,
)
from solomonic.speech.features import features

NOTHING = OnlineConfig(
    lead_ms=0,
    tail_ms=0,
    tail_min_ms=0,
    volume_db=(0, 0),
    noise=0,
    floor=0,
    time_masks=0,
    bin_masks=0,
    warp=0,
    narrow=0,
)
DECIBEL = np.log(10) / 10


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def frames(steps: int = 90, bins: int = 80) -> np.ndarray:
    return rng(7).normal(-6, 2, (steps, bins)).astype(np.float32)


def test_digital_silence_is_what_the_filter_bank_gives() -> None:
    pytest.importorskip("kaldi_native_fbank")
    np.testing.assert_allclose(features(np.zeros(8000, np.float32)), SILENCE, atol=1e-4)


def test_nothing_asked_for_changes_nothing() -> None:
    given = frames()
    before = given.copy()
    np.testing.assert_allclose(change(given, NOTHING, [], rng()), given, atol=1e-6)
    change(given, OnlineConfig(), [], rng())
    np.testing.assert_array_equal(given, before)  # the input is left alone


def test_padding() -> None:
    padded = pad(frames(5), 2, 3)
    assert padded.shape == (10, 80)
    assert (padded[:2] == np.float32(SILENCE)).all() and (padded[-3:] == np.float32(SILENCE)).all()
    np.testing.assert_array_equal(padded[2:7], frames(5))


def test_lead_tail_and_level_are_uniform_within_their_ranges() -> None:
    config = NOTHING.replace(lead_ms=200, tail_ms=300, tail_min_ms=100, volume_db=(-10, 5))
    generator = rng()
    leads, tails, levels = [], [], []
    given = frames(40)
    for _ in range(600):
        changed = change(given, config, [], generator)
        loud = np.flatnonzero((changed > SILENCE + 6).any(axis=1))
        leads.append(loud[0])
        tails.append(len(changed) - 1 - loud[-1])
        levels.append((changed[loud[0] + 20] - given[20]).max() / DECIBEL)
    for found, low, high in ((leads, 0, 20), (tails, 10, 30), (levels, -10, 5)):
        assert min(found) >= low - 1e-3 and max(found) <= high + 1e-3
        assert min(found) < low + 0.1 * (high - low) and max(found) > high - 0.1 * (high - low)
        spread = (high - low) / np.sqrt(12 * 600)
        assert np.mean(found) == pytest.approx((low + high) / 2, abs=5 * spread)


def test_as_many_are_noisy_as_the_share_says() -> None:
    config = NOTHING.replace(noise=0.3, snr_db=(0, 0))
    generator, given = rng(), frames(20)
    count = sum(
        not np.allclose(change(given, config, [], generator), given, atol=1e-5) for _ in range(500)
    )
    assert count / 500 == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / 500))


@pytest.mark.parametrize("level", [-70.0, -50.0, -20.0])
def test_hiss_has_the_level_of_white_noise_of_that_level(level: float) -> None:
    """Mean power over bins, against the features of real samples; and it buries what is softer."""
    samples = rng().standard_normal(32_000) * 10 ** (level / 20)
    real = np.exp(features(samples.astype(np.float32))).mean()
    silent = np.full((400, 80), SILENCE, dtype=np.float32)
    for seed in range(5):
        made = np.exp(hiss(silent, level, rng(seed)))
        assert 10 * np.log10(made.mean() / real) == pytest.approx(0, abs=0.5)
    loud = silent + 20
    np.testing.assert_allclose(hiss(loud, -70.0, rng()), loud, atol=0.1)


def test_steady_noise_is_of_every_colour_from_brown_to_white() -> None:
    """White noise, in samples, rises within the range that is drawn."""
    white = features(rng().standard_normal(32_000).astype(np.float32) * 0.1).mean(axis=0)
    rises = [float(np.ptp(steady_noise(50, 80, rng(seed)).mean(axis=0))) for seed in range(200)]
    assert min(rises) < 2 < white[79] - white[10] < max(rises)


@pytest.mark.parametrize("snr", [-5.0, 0.0, 10.0, 20.0])
def test_noise_is_mixed_at_its_ratio(snr: float) -> None:
    speech, noise = frames(60), rng(1).normal(0, 1, (60, 80)).astype(np.float32)
    mixed = mix(speech, noise, snr)
    added = np.exp(mixed.astype(np.float64)) - np.exp(speech.astype(np.float64))
    assert (added >= -1e-9).all()
    loud = np.sort(np.exp(speech.astype(np.float64)).mean(axis=1))[30:].mean()
    assert 10 * np.log10(loud / added.mean()) == pytest.approx(snr, abs=0.02)


def test_silence_around_speech_does_not_change_the_ratio_much() -> None:
    """The louder half of the frames counts, so a padded utterance is not drowned."""
    speech = frames(60)
    padded = mix(pad(speech, 0, 60), np.zeros((120, 80), np.float32), 10.0)
    expected = np.log(np.exp(speech).mean()) - 10 * DECIBEL
    assert padded[-1].mean() == pytest.approx(expected, abs=0.05)


def test_recorded_noise_is_repeated_to_the_length() -> None:
    recorded = np.arange(7 * 80, dtype=np.float16).reshape(7, 80)
    for seed in range(20):
        noise = draw_noise(30, 80, [recorded], rng(seed))
        assert noise.shape == (30, 80) and noise.dtype == np.float32
        if noise[0].max() > 40:  # recorded, not drawn
            first = int(noise[0, 0] // 80)
            np.testing.assert_array_equal(noise, recorded[(first + np.arange(30)) % 7])
            break
    else:
        pytest.fail("recorded noise was never used")


def test_stationary_noise_scatters_as_gaussian_noise_does() -> None:
    pytest.importorskip("kaldi_native_fbank")
    real = features(rng().normal(0, 0.1, 16000 * 10).astype(np.float32))
    for seed in range(3):
        made = draw_noise(1000, 80, [], rng(seed))
        for bins in (slice(10, 20), slice(60, 80)):
            ratio = made[:, bins].std(axis=0).mean() / real[:, bins].std(axis=0).mean()
            assert 0.5 < ratio < 2


def test_masks_are_bounded_and_fill_with_the_mean() -> None:
    config = OnlineConfig(time_masks=3, time_mask_frames=10, bin_masks=2, bin_mask_bins=15)
    given = frames(300)
    most = 0
    for seed in range(50):
        masked = mask(given, config, rng(seed))
        hidden = masked != given
        assert np.allclose(masked[hidden], given.mean())
        rows, bands = hidden.all(axis=1).sum(), hidden.all(axis=0).sum()
        assert rows <= 30 and bands <= 30
        most = max(most, rows)
    assert most > 15
    np.testing.assert_array_equal(frames(300), given)


def test_short_commands_keep_their_words() -> None:
    """No mask in time below 30 frames, one up to 59."""
    config = OnlineConfig(bin_masks=0, time_mask_frames=20)
    np.testing.assert_array_equal(mask(frames(29), config, rng()), frames(29))
    for seed in range(20):
        assert (mask(frames(59), config, rng(seed)) != frames(59)).all(axis=1).sum() <= 20


def test_equal_generators_draw_equal_versions() -> None:
    noises = [frames(13)]
    first, again, other = (change(frames(), OnlineConfig(), noises, rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert first.dtype == np.float32 and first.min() >= np.float32(SILENCE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"volume_db": (3, -3)}, "volume_db = "),
        ({"snr_db": (3, -3)}, "snr_db = "),
        ({"noise": 1.5}, "noise = 1.5 must lie in"),
        ({"tail_min_ms": 700}, "tail_min_ms = 700 must lie between 0 and tail_ms"),
        ({"time_masks": -1}, "time_masks must not be negative"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OnlineConfig(**changes)


def test_warping_moves_a_peak_and_leaves_a_slope_a_slope() -> None:
    slope = np.tile(np.arange(80, dtype=np.float32), (3, 1))
    np.testing.assert_allclose(warp(slope, 0.9), slope * 0.9, rtol=1e-6)
    np.testing.assert_allclose(warp(slope, 1.1), np.minimum(slope * 1.1, 79), rtol=1e-6)
    peak = np.zeros((1, 80), np.float32)
    peak[0, 44] = 1
    assert warp(peak, 1.1).argmax() == 40
    np.testing.assert_array_equal(warp(frames(), 1.0), frames())


def test_a_narrow_band_keeps_what_a_telephone_keeps() -> None:
    given = frames()
    kept = narrow(given, rng())
    np.testing.assert_array_equal(kept[:, :57], given[:, :57])
    assert (kept[:, 64:].mean(1) < given.max(1) - 24 * DECIBEL).all() and (kept <= given).all()
    assert min(narrow(given, rng(seed))[:, 64:].mean() for seed in range(20)) < SILENCE + 4
    shares = [
        (change(given, NOTHING.replace(narrow=0.3), [], generator) != given).any()
        for generator in [rng(1)]
        for _ in range(400)
    ]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.1)


def test_above_a_narrow_band_speech_is_mirrored() -> None:
    """What is left there follows how loud the frame is, 25 to 80 dB below it."""
    loud = frames(steps=400)
    loud[::2] += 12
    followed = []
    for seed in range(40):
        rest = narrow(loud, rng(seed))[:, 66:].mean(1)
        followed.append(rest[::2].mean() - rest[1::2].mean())
    assert min(followed) > -0.2, "at 80 dB below, rounding hides it"
    assert 6 < max(followed) < 12.5


def test_another_microphone_lifts_and_lowers_bands_of_a_whole_recording() -> None:
    given = frames()
    generator = rng(2)
    curves = [equalise(given, 8.0, generator) - given for _ in range(200)]
    for curve in curves:
        np.testing.assert_allclose(curve, np.broadcast_to(curve[0], curve.shape), atol=1e-5)
    gains = np.array([curve[0] for curve in curves]) / DECIBEL
    assert np.abs(gains).max() <= 8.001 and np.abs(gains.mean(0)).max() < 1.5
    assert gains.std(0).min() > 2.5
    assert np.abs(np.diff(gains, axis=1)).mean() < 1.2, "neighbours are alike"
    shares = [
        (change(given, NOTHING.replace(equalise=0.3), [], one) != given).any()
        for one in [rng(1)]
        for _ in range(400)
    ]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.1)
    assert OnlineConfig().equalise == 0, "what trainings drew before, they still draw"


@pytest.mark.parametrize(
    "bad", [{"warp": 0.5}, {"warp": -0.1}, {"narrow": 1.5}, {"equalise": 2}, {"equalise_db": -1}]
)
def test_what_changes_the_spectrum_out_of_range_are_refused(bad: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        OnlineConfig(**bad)
