"""Augmentation of samples: speed, level, noise, reverberation. That of frames is in `online`.

Everything random comes from the `numpy.random.Generator` that is passed in, so the same generator
state gives the same audio. Samples are (n,) float32 at 16 kHz in [-1, 1]; results may exceed it.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from solomonic.core import Config, ConfigError, DataError
from solomonic.core.config import require
from solomonic.speech.audio import RATE, read_audio, resample

_COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}  # power falls as 1 / f^colour
NOISES = (*_COLOURS, "hum")


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """`factor` times as fast, the pitch with it; n / factor samples (Ko et al. 2015).

    Raises:
        ConfigError: the factor is not between 0.5 and 2.
    """
    if not 0.5 <= factor <= 2:
        raise ConfigError(f"a speed of {factor} is not between 0.5 and 2.")
    return resample(samples, RATE * factor, RATE)


def change_volume(samples: np.ndarray, gain_db: float) -> np.ndarray:
    """Louder by `gain_db` decibels."""
    return samples * np.float32(10 ** (gain_db / 20))


def add_noise(
    samples: np.ndarray, noise: np.ndarray, snr_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Mix in a random stretch of `noise`, repeated when it is short, at `snr_db`.

    The ratio is of mean powers over all of `samples` and the stretch that is used. Silent speech
    or a silent stretch has no ratio: then the samples come back as they are.
    """
    stretch = _stretch(noise, len(samples), rng)
    speech_power, noise_power = _power(samples), _power(stretch)
    if speech_power == 0 or noise_power == 0:
        return samples
    scale = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    return samples + stretch * np.float32(scale)


def synthetic_noise(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` samples of mean power 0.01: "white", "pink", "brown", or mains "hum".

    Raises:
        ConfigError: another kind.
    """
    if kind not in NOISES:
        raise ConfigError(f"there is no noise '{kind}'; give one of {', '.join(NOISES)}.")
    if not count:
        return np.empty(0, np.float32)
    if kind == "hum":
        base = rng.choice([50.0, 60.0]) * rng.uniform(0.99, 1.01)
        t = np.arange(count) / RATE
        waves = [
            rng.uniform(0.1, 1) / k * np.sin(2 * np.pi * (k * base * t + rng.random()))
            for k in range(1, 12)
        ]
        made = np.sum(waves, axis=0) + 0.02 * rng.standard_normal(count)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(count))
        frequency = np.fft.rfftfreq(count, 1 / RATE)
        # Below 20 Hz brown noise would be all rumble that no microphone passes on.
        made = np.fft.irfft(spectrum / np.maximum(frequency, 20.0) ** (_COLOURS[kind] / 2), n=count)
    power = _power(made)
    return (made * np.sqrt(0.01 / power) if power else made).astype(np.float32)


def room_response(rng: np.random.Generator, seconds: float, direct_db: float) -> np.ndarray:
    """An impulse response: the direct sound, then noise that decays by 60 dB in `seconds`.

    No room is modelled; this is Polack's statistical model of the diffuse tail. `direct_db` is the
    energy of the direct sound over that of the tail. The direct sound is the first sample, so
    reverberated speech keeps its times.
    """
    count = max(int(seconds * RATE), 1)
    t = np.arange(1, count + 1) / RATE
    delay = rng.uniform(0.001, 0.01)  # of the first reflection
    tail = rng.standard_normal(count) * 10 ** (-3 * t / seconds) * (t >= delay)
    power = float((tail**2).sum())
    if power:
        tail *= np.sqrt(10 ** (-direct_db / 10) / power)
    return np.concatenate([[1.0], tail]).astype(np.float32)


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolved with `response`, as long and as loud as before; the tail after the end is cut."""
    size = 1 << max(len(samples) + len(response) - 2, 1).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    wet = np.fft.irfft(spectrum, size)[: len(samples)]
    power = _power(wet)
    scale = np.sqrt(_power(samples) / power) if power else 0.0
    return (wet * scale).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig(Config):
    """What may happen to a recording, in this order: speed, room, noise, level.

    Attributes:
        speeds: one is drawn.
        reverberation: probability of a room.
        reverberation_seconds: range of its decay time.
        direct_db: range of direct over reverberant energy.
        noise: probability of noise.
        snr_db: range of its signal-to-noise ratio.
        noise_files: recordings to draw from; none: synthetic noise only.
        synthetic: probability that noise is synthetic although there are recordings.
        gain_db: range of the change of level.
    """

    speeds: tuple[float, ...] = (1.0,)
    reverberation: float = 0.0
    reverberation_seconds: tuple[float, float] = (0.1, 0.6)
    direct_db: tuple[float, float] = (0.0, 15.0)
    noise: float = 0.0
    snr_db: tuple[float, float] = (5.0, 30.0)
    noise_files: tuple[str, ...] = ()
    synthetic: float = 0.3
    gain_db: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("speeds", "reverberation_seconds", "direct_db", "snr_db", "noise_files"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "gain_db", tuple(self.gain_db))
        require(bool(self.speeds), "speeds is empty; give at least 1.0.")
        require(all(0.5 <= s <= 2 for s in self.speeds), "speeds must lie between 0.5 and 2.")
        for name in ("reverberation", "noise", "synthetic"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} = {value} is a probability, between 0 and 1.")
        for name in ("reverberation_seconds", "direct_db", "snr_db", "gain_db"):
            value = getattr(self, name)
            require(
                len(value) == 2 and value[0] <= value[1],
                f"{name} = {value} is no range (low, high).",
            )
        require(self.reverberation_seconds[0] > 0, "reverberation_seconds must be above 0.")

    @property
    def changes_nothing(self) -> bool:
        """Whether every recording comes through as it is."""
        return (
            set(self.speeds) == {1.0}
            and not self.reverberation
            and not self.noise
            and self.gain_db == (0.0, 0.0)
        )


def augment(samples: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """A random variant of the recording.

    Raises:
        DataError: a noise recording cannot be read.
    """
    speed = float(rng.choice(config.speeds))
    if speed != 1:
        samples = change_speed(samples, speed)
    if rng.random() < config.reverberation:
        seconds = rng.uniform(*config.reverberation_seconds)
        samples = reverberate(samples, room_response(rng, seconds, rng.uniform(*config.direct_db)))
    if rng.random() < config.noise:
        snr = rng.uniform(*config.snr_db)
        samples = add_noise(samples, _noise(config, len(samples), rng), snr, rng)
    gain = rng.uniform(*config.gain_db)
    return change_volume(samples, gain) if gain else samples


def _noise(config: AugmentConfig, count: int, rng: np.random.Generator) -> np.ndarray:
    if not config.noise_files or rng.random() < config.synthetic:
        return synthetic_noise(str(rng.choice(NOISES)), count, rng)
    return _recording(config.noise_files[int(rng.integers(len(config.noise_files)))])


@functools.lru_cache(maxsize=512)
def _recording(path: str) -> np.ndarray:
    samples = read_audio(path)
    samples.setflags(write=False)
    return samples


def _stretch(noise: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    if not len(noise):
        raise DataError("the noise is empty; give a recording that is longer than nothing.")
    start = int(
        rng.integers(0, max(len(noise) - count, 0) + 1 if len(noise) > count else len(noise))
    )
    return np.take(noise, np.arange(start, start + count), mode="wrap")


def _power(samples: np.ndarray) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
