"""Augmentation on log-mel frames, drawn anew each time an utterance is read.

Powers add, so noise is mixed in by the logarithm of a sum of exponentials; a change of volume is a
constant. What has to be done on samples (speed, reverberation) is in `augment`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from solomonic.core import Config, require

SILENCE = -15.942385  # a bin of digital silence: log(2^-23), the floor of kaldi-native-fbank
_DECIBEL = np.log(10.0) / 10.0  # nats of power
_FULL_SCALE = 6.77  # log of the mean power of a bin for white noise whose samples have deviation 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineConfig(Config):
    """How frames are changed in training. All draws are uniform.

    Raises:
        ConfigError: a value out of range.
    """

    lead_ms: float = 400.0
    """Most silence put before an utterance."""
    tail_ms: float = 600.0
    """Most silence put after it; the least is `tail_min_ms`."""
    tail_min_ms: float = 240.0
    volume_db: tuple[float, float] = (-14.0, 8.0)
    noise: float = 0.5
    """Share of utterances with noise."""
    snr_db: tuple[float, float] = (3.0, 30.0)
    floor: float = 0.7
    """Share of utterances on the hiss of a microphone: steady noise at a level of its own, however
    loud the speech is. Many corpora are digitally silent between words, and no microphone is."""
    floor_db: tuple[float, float] = (-80.0, -45.0)
    """Level of the hiss below full scale."""
    time_masks: int = 6
    """Masks an utterance, at most one for each 60 frames: a command is short, and a mask may take
    the only sound by which its word is known."""
    time_mask_frames: int = 15
    bin_masks: int = 2
    bin_mask_bins: int = 14
    warp: float = 0.1
    """Most by which the axis of frequencies is stretched or shortened: other throats, from the
    same few speakers."""
    narrow: float = 0.15
    """Share of utterances that lose what lies above the band of a telephone."""
    equalise: float = 0.0
    """Share of utterances that are heard through another microphone, see `equalise`."""
    equalise_db: float = 8.0
    """Most by which it lifts or lowers a part of the spectrum."""

    def __post_init__(self) -> None:
        for name in ("volume_db", "snr_db", "floor_db"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has only lists
            low, high = getattr(self, name)
            require(low <= high, f"{name} = {low, high} must be a low and a high number.")
        for name in ("noise", "floor", "narrow", "equalise"):
            share = getattr(self, name)
            require(0 <= share <= 1, f"{name} = {share} must lie in [0, 1].")
        require(0 <= self.warp < 0.5, f"warp = {self.warp} must lie in [0, 0.5).")
        require(
            0 <= self.tail_min_ms <= self.tail_ms,
            f"tail_min_ms = {self.tail_min_ms} must lie between 0 and tail_ms = {self.tail_ms}.",
        )
        amounts = ("lead_ms", "equalise_db")
        for name in (*amounts, "time_masks", "time_mask_frames", "bin_masks", "bin_mask_bins"):
            require(getattr(self, name) >= 0, f"{name} must not be negative.")


def pad(frames: np.ndarray, lead: int, tail: int) -> np.ndarray:
    """(T, bins) with `lead` and `tail` frames of digital silence around it."""
    return np.pad(frames, ((lead, tail), (0, 0)), constant_values=SILENCE)


def change(
    frames: np.ndarray,
    config: OnlineConfig,
    noises: Sequence[np.ndarray],
    generator: np.random.Generator,
) -> np.ndarray:
    """One drawn version of an utterance's frames (T, bins) at 10 ms: warped, through another
    microphone, padded, louder or softer, noisy, hissing, cut to a narrow band, masked. The input
    is left alone.

    Args:
        noises: frames (n, bins) of recorded noise to draw from; may be empty.
    """
    lead = int(generator.integers(0, int(config.lead_ms / 10) + 1))
    tail = int(generator.integers(int(config.tail_min_ms / 10), int(config.tail_ms / 10) + 1))
    if config.warp:
        frames = warp(frames, 1 + generator.uniform(-config.warp, config.warp))
    if config.equalise and generator.random() < config.equalise:
        frames = equalise(frames, config.equalise_db, generator)
    frames = pad(frames.astype(np.float32), lead, tail)
    frames = frames + np.float32(generator.uniform(*config.volume_db) * _DECIBEL)
    if generator.random() < config.noise:
        noise = draw_noise(len(frames), frames.shape[1], noises, generator)
        frames = mix(frames, noise, generator.uniform(*config.snr_db))
    if generator.random() < config.floor:
        frames = hiss(frames, generator.uniform(*config.floor_db), generator)
    if generator.random() < config.narrow:
        frames = narrow(frames, generator)
    frames = np.maximum(frames, np.float32(SILENCE))
    return mask(frames, config, generator)


def warp(frames: np.ndarray, factor: float) -> np.ndarray:
    """Vocal tract length perturbation (Jaitly and Hinton, 2013) on the mel axis: bin `b` of the
    result is what stood at `b * factor`, between two bins by interpolation; beyond the last bin
    the last one repeats. (T, bins) -> (T, bins) float32."""
    bins = frames.shape[1]
    place = np.minimum(np.arange(bins) * factor, bins - 1)
    low = np.minimum(place.astype(np.int64), max(bins - 2, 0))
    part = (place - low).astype(np.float32)
    high = np.minimum(low + 1, bins - 1)
    return frames[:, low] * (1 - part) + frames[:, high] * part


def equalise(frames: np.ndarray, most_db: float, generator: np.random.Generator) -> np.ndarray:
    """Frames (T, bins) as another microphone passes them on: three to seven places of the mel axis
    are lifted or lowered by up to `most_db`, and what lies between them in proportion
    (FilterAugment, linear: Nam et al., arXiv 2110.03282)."""
    bins = frames.shape[1]
    inner = np.sort(generator.uniform(0, bins - 1, size=int(generator.integers(1, 6))))
    places = np.concatenate(([0.0], inner, [bins - 1.0]))
    gains = generator.uniform(-most_db, most_db, size=len(places)) * _DECIBEL
    return frames + np.interp(np.arange(bins), places, gains).astype(np.float32)


def narrow(frames: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(T, bins) of a 16 kHz recording as one at 8 kHz would have them: above about 4 kHz, three
    quarters up the mel axis, only the rounding noise of the samples is left, and what the change
    of rate mirrors there, 25 to 80 dB below the frame's loudest bin."""
    frames = frames.copy()
    bins = frames.shape[1]
    cut = round(generator.uniform(0.72, 0.79) * bins)
    level = SILENCE + generator.uniform(0.5, 3.5)
    rest = generator.normal(level, 1.0, size=(len(frames), bins - cut))
    mirrored = generator.uniform(25, 80) * _DECIBEL
    rest = np.logaddexp(rest, frames.max(axis=1, keepdims=True) - mirrored)
    frames[:, cut:] = np.minimum(frames[:, cut:], rest.astype(np.float32))
    return frames


def mix(frames: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise (T, bins) at a signal-to-noise ratio in decibels, by the mean powers of the louder
    half of the frames and of the noise."""
    power = np.sort(np.exp(frames).mean(axis=1))[len(frames) // 2 :].mean()
    level = np.log(power) - np.log(np.exp(noise).mean()) - snr_db * _DECIBEL
    return np.logaddexp(frames, noise + np.float32(level))


def draw_noise(
    steps: int, bins: int, noises: Sequence[np.ndarray], generator: np.random.Generator
) -> np.ndarray:
    """(steps, bins) log-mel frames of noise: a recorded one, repeated to the length, or a steady
    one (`steady_noise`)."""
    if len(noises) and generator.random() < 0.6:
        noise = noises[int(generator.integers(len(noises)))].astype(np.float32)
        start = int(generator.integers(len(noise)))
        return noise[(start + np.arange(steps)) % len(noise)]
    return steady_noise(steps, bins, generator)


def steady_noise(steps: int, bins: int, generator: np.random.Generator) -> np.ndarray:
    """(steps, bins) of stationary noise of a drawn colour, whose frames scatter as those of
    Gaussian noise do. In log-mel bins of equal width on that axis white noise rises by 7 to 9
    nats from the lowest to the highest, pink noise by 4, brown noise by 1."""
    place = np.linspace(0, 1, bins)
    tilt = generator.uniform(-4, 9) * place + generator.uniform(-1, 1) * np.cos(np.pi * place)
    # A bin of width k spectral lines has a power with about 2k degrees of freedom.
    lines = 1 + 6 * place
    scatter = generator.gamma(lines, 1 / lines, size=(steps, bins))
    return (tilt + np.log(scatter + 1e-6)).astype(np.float32)


def hiss(frames: np.ndarray, level_db: float, generator: np.random.Generator) -> np.ndarray:
    """Frames (T, bins) with steady noise added that has `level_db` decibels to full scale."""
    noise = steady_noise(len(frames), frames.shape[1], generator)
    level = _FULL_SCALE + level_db * _DECIBEL - np.log(np.exp(noise).mean())
    return np.logaddexp(frames, noise + np.float32(level))


def mask(frames: np.ndarray, config: OnlineConfig, generator: np.random.Generator) -> np.ndarray:
    """SpecAugment without warping (Park et al., arXiv 1904.08779): stretches of time and bands of
    bins become the utterance's mean. Returns a new array."""
    frames = frames.copy()
    steps, bins = frames.shape
    fill = frames.mean()
    for _ in range(min(config.time_masks, steps // 60)):
        size = int(generator.integers(0, config.time_mask_frames + 1))
        start = int(generator.integers(0, max(steps - size, 1)))
        frames[start : start + size] = fill
    for _ in range(config.bin_masks):
        size = int(generator.integers(0, config.bin_mask_bins + 1))
        start = int(generator.integers(0, max(bins - size, 1)))
        frames[:, start : start + size] = fill
    return frames
