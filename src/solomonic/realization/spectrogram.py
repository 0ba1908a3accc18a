"""Sound textures: a log spectrogram is a row of frames like any other, and can be heard again."""

from __future__ import annotations

import numpy as np
import scipy.signal
from numpy.typing import ArrayLike

from solomonic.core.errors import ConfigError
from solomonic.realization.errors import TooFewSamplesError
from solomonic.realization.matrices import Array, positive_int, series

FLOOR = 1e-6
"""Amplitude below which a band counts as silent, relative to full scale."""


def spectrogram(sound: ArrayLike, window: int = 512) -> Array:
    """Logarithm of the magnitudes of a sound (T,), frames (F, window/2 + 1) a quarter window apart.

    Raises:
        TooFewSamplesError: the sound is shorter than one window.
    """
    samples = series("sound", sound, channels=1)[:, 0]
    if len(samples) < _window(window):
        raise TooFewSamplesError(f"{len(samples)} samples are less than a window of {window}.")
    return np.log(np.abs(_transform(samples, window)).T + FLOOR)


def sound_of(frames: ArrayLike, *, iterations: int = 32, seed: int = 0) -> Array:
    """A sound whose spectrogram is close to `frames` (F, window/2 + 1); phases by Griffin and Lim.

    Every iteration keeps the magnitudes asked for and takes the phases of the nearest real sound.
    """
    logs = series("frames", frames)
    window = 2 * (logs.shape[1] - 1)
    _window(window)
    magnitudes = np.maximum(np.exp(logs.T) - FLOOR, 0.0)
    random = np.random.default_rng(seed)
    phases = np.exp(2j * np.pi * random.random(magnitudes.shape))
    samples = _inverse(magnitudes * phases, window)
    for _ in range(positive_int("iterations", iterations, least=0)):
        phases = np.exp(1j * np.angle(_transform(samples, window)[:, : logs.shape[0]]))
        samples = _inverse(magnitudes * phases, window)
    return samples


def _window(window: int) -> int:
    if window < 8 or window % 4:
        raise ConfigError(f"window must be a multiple of 4, at least 8; it is {window}.")
    return window


def _transform(samples: Array, window: int) -> np.ndarray:
    """(bands, frames), complex."""
    return scipy.signal.stft(samples, window="hann", nperseg=window, noverlap=window * 3 // 4)[2]


def _inverse(spectrum: np.ndarray, window: int) -> Array:
    """(samples,) of (bands, frames)."""
    options = {"window": "hann", "nperseg": window, "noverlap": window * 3 // 4}
    return np.asarray(scipy.signal.istft(spectrum, **options)[1], np.float64)
