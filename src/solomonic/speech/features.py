"""Log-mel features by kaldi-native-fbank: one code for training and for the device.

A frame every 10 ms, centred (no edge is cut off): n samples give round(n / 160) frames at 16 kHz,
so audio under half a shift gives none. Streamed features are the offline ones bit for bit, however
the audio is cut, because each frame is computed from its own samples alone.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.core import Config, DataError, ShapeError
from solomonic.core.config import require

if TYPE_CHECKING:
    import kaldi_native_fbank

_BLOCK = 16000  # samples handed over at once; bounds the memory of long recordings


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig(Config):
    """Kaldi's log-mel filter bank.

    Attributes:
        sample_rate: of the audio, Hz.
        bins: mel bins.
        frame_ms, shift_ms: length and distance of frames.
        low, high: edges of the bank in Hz; `high` <= 0 counts from half the sample rate down.
        dither: noise added to each sample, of a 16-bit scale's 1/32768; above 0 features are
            random, which streaming cannot match, so only 0 is allowed.
    """

    sample_rate: int = 16000
    bins: int = 80
    frame_ms: float = 25.0
    shift_ms: float = 10.0
    low: float = 20.0
    high: float = -400.0
    dither: float = 0.0

    def __post_init__(self) -> None:
        require(self.sample_rate >= 1000, f"sample_rate = {self.sample_rate} is below 1000 Hz.")
        require(1 <= self.bins <= 256, f"bins = {self.bins} must lie between 1 and 256.")
        require(
            0 < self.shift_ms <= self.frame_ms,
            f"shift_ms = {self.shift_ms} must lie between 0 and frame_ms = {self.frame_ms}.",
        )
        top = self.high if self.high > 0 else self.sample_rate / 2 + self.high
        require(
            0 <= self.low < top <= self.sample_rate / 2,
            f"low = {self.low} and high = {self.high} leave no band below half of "
            f"{self.sample_rate} Hz.",
        )
        require(self.dither == 0, "dither must be 0: streamed features could not be repeated.")

    @property
    def shift_seconds(self) -> float:
        """Seconds from one frame to the next."""
        return self.shift_ms / 1000

    def frames(self, samples: int) -> int:
        """How many frames `samples` samples give."""
        shift = int(self.sample_rate * 0.001 * self.shift_ms)
        return (samples + shift // 2) // shift


def features(samples: np.ndarray, config: FeatureConfig | None = None) -> np.ndarray:
    """Features (T, bins) float32 of a whole recording, (n,) in [-1, 1]; see `FeatureStream`."""
    stream = FeatureStream(config)
    parts = [stream.accept(samples), stream.finish()]
    return np.concatenate(parts)


class FeatureStream:
    """Features of one recording that arrives in pieces of any size.

    Memory does not grow with the length. A frame comes out once its last sample is in; `finish`
    gives the last two, whose windows reach beyond the end (the audio is mirrored there).

    Digital silence gives log(2^-23) = -15.94 in every bin, never minus infinity.
    """

    def __init__(self, config: FeatureConfig | None = None) -> None:
        self.config = config or FeatureConfig()
        self._bank: kaldi_native_fbank.OnlineFbank = _filter_bank(self.config)
        self._given = 0
        self._finished = False

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take (n,) samples, give the (T, bins) float32 frames that are complete now.

        Raises:
            ShapeError: `samples` is not one row.
            DataError: a sample is not finite, or the stream was finished.
        """
        if self._finished:
            raise DataError("this feature stream is finished; begin another for more audio.")
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1:
            raise ShapeError(
                f"samples have shape {samples.shape}; give one channel as a row (n,) of numbers."
            )
        if not np.isfinite(samples).all():
            raise DataError("the audio holds samples that are not finite; record it again.")
        parts = []
        for start in range(0, len(samples), _BLOCK):
            block: Any = samples[start : start + _BLOCK]
            self._bank.accept_waveform(self.config.sample_rate, block)
            parts.append(self._take())
        return np.concatenate(parts) if parts else self._empty()

    def finish(self) -> np.ndarray:
        """The frames that were waiting for more audio, (T, bins); none the second time."""
        if self._finished:
            return self._empty()
        self._finished = True
        self._bank.input_finished()
        return self._take()

    def _take(self) -> np.ndarray:
        ready = self._bank.num_frames_ready
        if ready == self._given:
            return self._empty()
        frames = np.stack([self._bank.get_frame(i) for i in range(self._given, ready)])
        self._bank.pop(ready - self._given)
        self._given = ready
        return frames

    def _empty(self) -> np.ndarray:
        return np.empty((0, self.config.bins), np.float32)


def _filter_bank(config: FeatureConfig) -> kaldi_native_fbank.OnlineFbank:
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq = float(config.sample_rate)
    frame.frame_length_ms = config.frame_ms
    frame.frame_shift_ms = config.shift_ms
    frame.dither = config.dither
    frame.snip_edges = False
    frame.window_type = "povey"
    mel.num_bins = config.bins
    mel.low_freq = config.low
    mel.high_freq = config.high
    return kaldi_native_fbank.OnlineFbank(options)
