"""Voice activity from log-mel frames: how far bands stand above a noise floor that follows them.

    log-mel (80) -> mean of 8 bands -> smooth -> minus the floor -> mean of the 3 highest
                 -> sigmoid -> hang-over

The floor of a band is its smallest smoothed value of the last 2.5 s (minimum statistics: Martin
2001), so it follows any stationary noise up or down and never learns speech, which dips between
syllables. Nothing is trained, and nothing is known of the level of the microphone. Causal; a frame
costs the same whatever came before, and the result does not depend on how the frames are cut.
"""

import dataclasses
import math

import numpy as np

from solomonic.core import Config, ShapeError, require

SUB_WINDOWS = 10
"""The floor's window slides in tenths of its length."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoiceConfig(Config):
    """Settings of the voice detector. Levels are in nats of mel energy: 1 nat is 4.3 dB.

    Attributes:
        bands: equal groups of mel bins whose logarithms are averaged.
        highest: how many of the bands count, those furthest above the floor.
        smoothing: share of the old value kept from frame to frame (10 ms).
        floor_frames: window in which a band's minimum is its floor.
        lowest_floor: floor below which none is believed (digital silence, coding noise).
        range: no floor lies further below the loudest band of the recent past; keeps breath and
            the room's echo after loud speech from counting as speech.
        fade: how fast that loudest level is forgotten, per frame.
        margin: level above the floor at which speech and noise are equally likely.
        slope: steepness of the probability around it.
        cap: highest level a band can count; no single band decides alone.
        hangover_frames: frames for which speech is held after its last one.
    """

    bands: int = 8
    highest: int = 3
    smoothing: float = 0.7
    floor_frames: int = 250
    lowest_floor: float = -11.5
    range: float = 8.0
    fade: float = 0.01
    margin: float = 1.6
    slope: float = 4.0
    cap: float = 4.0
    hangover_frames: int = 5

    def __post_init__(self) -> None:
        require(
            0 < self.highest <= self.bands,
            f"highest ({self.highest}) must lie between 1 and bands ({self.bands}).",
        )
        require(0 <= self.smoothing < 1, f"smoothing must be in [0, 1), not {self.smoothing}.")
        require(
            self.floor_frames >= SUB_WINDOWS,
            f"floor_frames must be at least {SUB_WINDOWS}, not {self.floor_frames}.",
        )
        require(
            self.hangover_frames >= 0,
            f"hangover_frames must not be negative, but is {self.hangover_frames}.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class VoiceState:
    """What the detector remembers of a stream: a value, never written to.

    Attributes:
        level: (bands,) smoothed band levels.
        minima: (SUB_WINDOWS, bands) minimum of each past piece of the window, newest first.
        minimum: (bands,) minimum of the piece under way.
        frames: frames in that piece.
        loudest: level of the loudest band, fading.
        started: a frame has been read.
        held: the probability that the hang-over still holds, and for how many frames.
    """

    level: np.ndarray
    minima: np.ndarray
    minimum: np.ndarray
    frames: int = 0
    loudest: float = -math.inf
    started: bool = False
    held: tuple[float, int] = (0.0, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; constant."""
        return self.level.nbytes + self.minima.nbytes + self.minimum.nbytes


class VoiceDetector:
    """Probability of speech for every feature frame."""

    def __init__(self, config: VoiceConfig | None = None) -> None:
        self.config = VoiceConfig() if config is None else config

    def init_state(self) -> VoiceState:
        """A stream of which nothing has been heard."""
        bands = self.config.bands
        infinite = np.full((SUB_WINDOWS, bands), np.inf)
        return VoiceState(level=np.zeros(bands), minima=infinite, minimum=np.full(bands, np.inf))

    def step(
        self, features: np.ndarray, state: VoiceState | None = None
    ) -> tuple[np.ndarray, VoiceState]:
        """Voice activity of the next frames.

        Args:
            features: (T, F) log-mel frames of 10 ms; F a multiple of `bands`. T may be 0.

        Returns:
            (T,) float32 probabilities in 0..1, and the state after the last frame.

        Raises:
            ShapeError: the frames do not fit.
        """
        config = self.config
        state = self.init_state() if state is None else state
        if features.ndim != 2 or features.shape[1] % config.bands:
            raise ShapeError(
                f"features must be (T, F) with F a multiple of {config.bands}, not "
                f"{tuple(features.shape)}."
            )
        frames = np.ascontiguousarray(features, dtype=np.float64)
        bands = frames.reshape(len(frames), config.bands, -1).mean(axis=2)
        bands = np.nan_to_num(bands, nan=config.lowest_floor, posinf=20.0, neginf=-20.0)
        probabilities = np.empty(len(frames), dtype=np.float32)
        for t, levels in enumerate(bands):
            probabilities[t], state = self._frame(levels, state)
        return probabilities, state

    def _frame(self, levels: np.ndarray, old: VoiceState) -> tuple[float, VoiceState]:
        config = self.config
        keep = config.smoothing if old.started else 0.0
        level = keep * old.level + (1 - keep) * levels
        minimum = np.minimum(old.minimum, level)
        minima, frames = old.minima, old.frames + 1
        floor = np.minimum(minima.min(axis=0), minimum)
        if frames >= config.floor_frames // SUB_WINDOWS:
            minima = np.vstack((minimum, minima[:-1]))
            minimum, frames = np.full(config.bands, np.inf), 0
        loudest = max(float(level.max()), old.loudest - config.fade)
        lowest = max(config.lowest_floor, loudest - config.range)
        above = np.clip(level - np.maximum(floor, lowest), 0.0, config.cap)
        above.sort()
        score = float(above[-config.highest :].sum()) / config.highest
        now = 1.0 / (1.0 + float(np.exp(-config.slope * (score - config.margin))))
        held, left = old.held
        if now >= 0.5:
            held, left = now, config.hangover_frames
        elif left > 0:
            left -= 1
        probability = now if now >= 0.5 or not old.held[1] else max(now, held)
        return probability, VoiceState(
            level=level,
            minima=minima,
            minimum=minimum,
            frames=frames,
            loudest=loudest,
            started=True,
            held=(held, left),
        )


def pool(probabilities: np.ndarray, frames_per_step: int) -> np.ndarray:
    """Means over `frames_per_step` feature frames: one value an encoder frame.

    Args:
        probabilities: (T * frames_per_step,) in the order of time.
    """
    if len(probabilities) % frames_per_step:
        raise ShapeError(
            f"{len(probabilities)} frames are no multiple of {frames_per_step}; keep the rest for "
            "the next call."
        )
    return probabilities.reshape(-1, frames_per_step).mean(axis=1)
