"""Commands with pauses put inside, and where their speech truly ends: data for end-pointing.

A sentence is given as pieces (spoken one by one, or cut from one recording with `split`), which
are trimmed and joined with pauses of 100 to 900 ms whose background is that of the speech.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from solomonic.core import DataError

_BLOCK = 0.01  # seconds over which energy is measured
_FADE = 0.005  # seconds of fade at every joint, against clicks

QUIETER = 0.01
"""Highest level of a background that had to be taken from speech, against it: 40 dB below."""


@dataclasses.dataclass(frozen=True, eq=False)
class PausedSpeech:
    """A sentence with pauses inside.

    Attributes:
        audio: (n,) float32.
        speech_start, speech_end: where speech truly begins and ends (s).
        pauses: (start, end) of the pauses inside the sentence (s), between pieces.
    """

    audio: np.ndarray
    speech_start: float
    speech_end: float
    pauses: tuple[tuple[float, float], ...]


def make_paused(
    pieces: Sequence[np.ndarray],
    rng: np.random.Generator,
    sample_rate: int = 16_000,
    pause_ms: tuple[float, float] = (100.0, 900.0),
    lead_ms: float = 300.0,
    tail_ms: float = 1500.0,
    background: np.ndarray | None = None,
) -> PausedSpeech:
    """Join pieces of a sentence with a random pause between any two.

    Args:
        pieces: each (n,) float32 with some speech; what is silent around it is cut off. One piece
            gives a sentence without a pause.
        pause_ms: shortest and longest pause, drawn evenly.
        lead_ms, tail_ms: background before and after the sentence.
        background: (n,) some of what sounds where nobody speaks, for noisy recordings; None: what
            is cut off the pieces or, where that is less than 100 ms, the quietest part of them.

    Raises:
        DataError: there is no piece, or one holds no speech.
    """
    if not pieces:
        raise DataError("a sentence needs at least one piece of speech.")
    arrays = [np.asarray(piece, dtype=np.float32) for piece in pieces]
    trimmed = [_trimmed(piece, sample_rate) for piece in arrays]
    room = _Background(_quiet_part(arrays, background, sample_rate), rng, sample_rate)
    parts, pauses = [room.make(lead_ms / 1000)], []
    length = len(parts[0])
    start = length / sample_rate
    for index, piece in enumerate(trimmed):
        if index:
            pause = room.make(float(rng.uniform(*pause_ms)) / 1000)
            pauses.append((length / sample_rate, (length + len(pause)) / sample_rate))
            parts.append(pause)
            length += len(pause)
        parts.append(piece)
        length += len(piece)
    end = length / sample_rate
    parts.append(room.make(tail_ms / 1000))
    return PausedSpeech(np.concatenate(parts), start, end, tuple(pauses))


def split(
    audio: np.ndarray, boundaries: Sequence[float], sample_rate: int = 16_000, within: float = 0.08
) -> list[np.ndarray]:
    """Cut a recording at its quietest point near each word boundary.

    Args:
        boundaries: times (s), growing; `within` is how far (s) the cut may be from them.

    Raises:
        DataError: a boundary lies outside the recording or they do not grow.
    """
    seconds = len(audio) / sample_rate
    cuts = [0]
    for boundary in boundaries:
        if not 0 < boundary < seconds:
            raise DataError(f"a boundary at {boundary} s is outside the {seconds:.2f} s of audio.")
        cut = _quietest(audio, boundary - within, boundary + within, sample_rate)
        if cut <= cuts[-1]:
            raise DataError(f"the boundary at {boundary} s is not after the one before it.")
        cuts.append(cut)
    return [audio[a:b] for a, b in zip(cuts, [*cuts[1:], len(audio)], strict=True)]


def speech_bounds(
    audio: np.ndarray, sample_rate: int = 16_000, below_db: float = 35.0
) -> tuple[float, float]:
    """Where the first and the last sound less than `below_db` under the loudest lie (s).

    For clean (synthetic) speech: the loudest is a block of 10 ms.

    Raises:
        DataError: nothing sounds.
    """
    energy = _energy(audio, sample_rate)
    if not len(energy) or energy.max() <= 0:
        raise DataError("there is no sound in this piece of speech.")
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-below_db / 10))
    end = min((int(loud[-1]) + 1) * _BLOCK, len(audio) / sample_rate)
    return int(loud[0]) * _BLOCK, end


class _Background:
    """Noise that sounds like the quietest tenth of a second of some audio, without end."""

    def __init__(self, audio: np.ndarray, rng: np.random.Generator, sample_rate: int) -> None:
        self.rng, self.rate = rng, sample_rate
        size = min(int(0.1 * sample_rate), len(audio))
        energy = _energy(audio, sample_rate)
        blocks = max(size // int(_BLOCK * sample_rate), 1)
        sums = np.convolve(energy, np.ones(blocks), "valid")
        first = int(sums.argmin()) * int(_BLOCK * sample_rate) if len(sums) else 0
        self.sample = audio[first : first + size].astype(np.float64)
        self.window = np.hanning(len(self.sample) + 1)[:-1]

    def make(self, seconds: float) -> np.ndarray:
        """The quiet sample turned round at random places and laid over itself."""
        count, size = round(seconds * self.rate), len(self.sample)
        out = np.zeros(count + 2 * size)
        hop = max(size // 4, 1)
        for first in range(0, count + size, hop):
            turned = np.roll(self.sample, int(self.rng.integers(size)))
            sign = 1 if self.rng.random() < 0.5 else -1
            # Squares of four overlapping Hann windows add up to 1.5.
            out[first : first + size] += sign * turned * self.window / np.sqrt(1.5)
        return out[size : size + count].astype(np.float32)


def _quiet_part(
    pieces: Sequence[np.ndarray], background: np.ndarray | None, sample_rate: int
) -> np.ndarray:
    """What is heard where nobody speaks, at least 100 ms of it."""
    if background is not None and len(background):
        return np.asarray(background, dtype=np.float32)
    bounds = [speech_bounds(piece, sample_rate) for piece in pieces]
    cut = [
        part
        for piece, (start, end) in zip(pieces, bounds, strict=True)
        for part in (piece[: round(start * sample_rate)], piece[round(end * sample_rate) :])
    ]
    margins = np.concatenate(cut)
    if len(margins) >= 0.1 * sample_rate:
        return margins
    # Pieces cut close hold no background: what is quietest in them is soft speech, which must not
    # go on in the pauses.
    whole = np.concatenate(pieces)
    quiet = _Background(whole, np.random.default_rng(0), sample_rate).sample
    level, loud = (float(np.sqrt((x.astype(np.float64) ** 2).mean())) for x in (quiet, whole))
    return (quiet * min(1.0, loud * QUIETER / max(level, 1e-12))).astype(np.float32)


def _trimmed(piece: np.ndarray, sample_rate: int) -> np.ndarray:
    start, end = speech_bounds(piece, sample_rate)
    cut = piece[round(start * sample_rate) : round(end * sample_rate)].copy()
    fade = min(int(_FADE * sample_rate), len(cut) // 2)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    cut[:fade] *= ramp
    cut[len(cut) - fade :] *= ramp[::-1]
    return cut


def _quietest(audio: np.ndarray, low: float, high: float, sample_rate: int) -> int:
    """Sample in the middle of the quietest block between two times."""
    block = int(_BLOCK * sample_rate)
    first = max(int(low * sample_rate), 0)
    energy = _energy(audio[first : int(high * sample_rate)], sample_rate)
    return first + (int(energy.argmin()) * block + block // 2 if len(energy) else 0)


def _energy(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mean square of each whole block of 10 ms."""
    block = int(_BLOCK * sample_rate)
    count = len(audio) // block
    return (audio[: count * block].astype(np.float64).reshape(count, block) ** 2).mean(axis=1)
