"""Voice activity from log-mel frames: how far bands stand above a noise floor that follows them.

    log-mel (80) -> mean of 8 bands -> smooth -> minus the floor -> mean of the 3 highest
                 -> sigmoid -> hang-over

The floor of a band is its smallest smoothed value of the last 2.5 s (minimum statistics: Martin
2001), so it follows any stationary noise up or down and never learns speech, which dips between
syllables. Nothing is trained, and nothing is known of the level of the microphone. Causal; a frame
costs the same whatever came before, and the result does not depend on how the frames are cut.

A recording that begins in the middle of a word has no floor yet: its only word is known as speech
when it is over. The opening 0.6 s are therefore judged again by the floors found since, and speech
in them that went unnoticed is announced late, but announced.
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
        opening_frames: frames at the start of a stream that are judged again by later floors.
        announced_frames: how many of them must turn out to be speech, and for how many frames
            it is then announced.
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
    opening_frames: int = 60
    announced_frames: int = 12

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
        held: the probability that the hang-over still holds, and for how many frames.
        opening: (t, bands) levels since the start of the stream; None once it is judged.
        noticed: frames of speech since then.
        announce: frames for which late-noticed speech is still announced.
    """

    level: np.ndarray
    minima: np.ndarray
    minimum: np.ndarray
    frames: int = 0
    loudest: float = -math.inf
    held: tuple[float, int] = (0.0, 0)
    opening: np.ndarray | None
    noticed: int = 0
    announce: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; constant after the opening."""
        opening = 0 if self.opening is None else self.opening.nbytes
        return self.level.nbytes + self.minima.nbytes + self.minimum.nbytes + opening


class VoiceDetector:
    """Probability of speech for every feature frame."""

    def __init__(self, config: VoiceConfig | None = None) -> None:
        self.config = VoiceConfig() if config is None else config

    def init_state(self) -> VoiceState:
        """A stream of which nothing has been heard."""
        bands = self.config.bands
        infinite = np.full((SUB_WINDOWS, bands), np.inf)
        return VoiceState(
            level=np.full(bands, np.nan),
            minima=infinite,
            minimum=np.full(bands, np.inf),
            opening=np.empty((0, bands)),
        )

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
        if not len(features):
            return np.empty(0, np.float32), state
        bands = self._bands(features)
        levels = self._smooth(bands, state)
        floors, minima, minimum, frames = self._minima(levels, state)
        loudest = np.array(_faded(levels.max(axis=1).tolist(), state.loudest, config.fade))
        lowest = np.maximum(loudest - config.range, config.lowest_floor)
        floors = np.maximum(floors, lowest[:, None])
        scores = self._scores(levels, floors).tolist()
        state = dataclasses.replace(
            state,
            level=levels[-1].copy(),
            minima=minima,
            minimum=minimum,
            frames=frames,
            loudest=float(loudest[-1]),
        )
        probabilities = np.empty(len(scores), dtype=np.float32)
        for t, score in enumerate(scores):
            now = 1.0 / (1.0 + math.exp(-config.slope * (score - config.margin)))
            if state.opening is not None:
                opening = np.vstack((state.opening, levels[t]))
                state = self._judge_opening(state, opening, floors[t], now >= 0.5)
            (held, left), announce = state.held, state.announce
            probabilities[t] = 1.0 if announce else max(now, held) if left else now
            held, left = (now, config.hangover_frames) if now >= 0.5 else (held, max(left - 1, 0))
            if (held, left) != state.held or announce:
                state = dataclasses.replace(state, held=(held, left), announce=max(announce - 1, 0))
        return probabilities, state

    def _bands(self, features: np.ndarray) -> np.ndarray:
        """(T, bands) means of log-mel bins, finite."""
        config = self.config
        frames = np.ascontiguousarray(features, dtype=np.float64)
        frames = np.nan_to_num(frames, nan=config.lowest_floor, posinf=20.0, neginf=-20.0)
        return frames.reshape(len(frames), config.bands, -1).mean(axis=2)

    def _smooth(self, bands: np.ndarray, state: VoiceState) -> np.ndarray:
        """(T, bands) exponential averages; the first frame of a stream begins them."""
        keep = self.config.smoothing
        fresh = (1 - keep) * bands
        level = state.level if state.loudest > -math.inf else bands[0]
        levels = np.empty_like(bands)
        for t in range(len(bands)):
            level = np.add(keep * level, fresh[t], out=levels[t])
        return levels

    def _minima(
        self, levels: np.ndarray, state: VoiceState
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Smallest level of the window at each frame (T, bands); minima, minimum, frames after."""
        piece = self.config.floor_frames // SUB_WINDOWS
        minima, minimum, frames = state.minima, state.minimum, state.frames
        floors, t = np.empty_like(levels), 0
        while t < len(levels):
            stop = min(t + piece - frames, len(levels))
            running = np.minimum(np.minimum.accumulate(levels[t:stop], axis=0), minimum)
            floors[t:stop] = np.minimum(running, minima.min(axis=0))
            minimum, frames, t = running[-1], frames + stop - t, stop
            if frames == piece:
                minima = np.vstack((minimum, minima[:-1]))
                minimum, frames = np.full(self.config.bands, np.inf), 0
        return floors, minima, minimum.copy(), frames

    def _scores(self, levels: np.ndarray, floors: np.ndarray) -> np.ndarray:
        """(t,) mean of the highest bands above the floor, of levels (t, bands)."""
        above = np.sort(np.clip(levels - floors, 0.0, self.config.cap), axis=1)
        total = above[:, -1].copy()
        for band in range(2, self.config.highest + 1):  # in one order, whatever the shape
            total += above[:, -band]
        return total / self.config.highest

    def _judge_opening(
        self, state: VoiceState, opening: np.ndarray, floor: np.ndarray, speech: bool
    ) -> VoiceState:
        """Look for speech at the start that is only now known to stand above the floor."""
        config = self.config
        noticed = state.noticed + speech
        if noticed >= config.announced_frames or len(opening) >= config.opening_frames:
            return dataclasses.replace(state, opening=None, noticed=noticed)
        spoken = int((self._scores(opening, floor) >= config.margin).sum())
        if spoken - noticed >= config.announced_frames:
            return dataclasses.replace(
                state, opening=None, noticed=noticed, announce=config.announced_frames
            )
        return dataclasses.replace(state, opening=opening, noticed=noticed)


def _faded(levels: list[float], loudest: float, fade: float) -> list[float]:
    """The loudest level so far at each frame, falling by `fade` a frame."""
    kept = []
    for level in levels:
        loudest = max(level, loudest - fade)
        kept.append(loudest)
    return kept


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
