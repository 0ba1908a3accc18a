"""What the end head reads of a frame: sound, words so far, and how long nothing has come."""

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

PAUSE_FEATURES = 5
"""Entries of the vector of `pause_vector`."""

LONGEST_PAUSE = 3.0
"""Seconds beyond which a pause makes no difference any more."""


class EndFeatures(NamedTuple):
    """The head's input for B streams and T encoder frames.

    Attributes:
        hidden: (B, T, D) the encoder's frames; the head does not train the encoder.
        label: (B, T, J) the predictor's output for the best hypothesis at each frame: whether the
            words so far make a whole command.
        pauses: (B, T, PAUSE_FEATURES) of `pause_vector`.
    """

    hidden: Tensor
    label: Tensor
    pauses: Tensor


def pause_vector(
    best: float,
    expected: float,
    blank_probability: float,
    silence: float,
    n_tokens: int,
    frame_seconds: float,
) -> np.ndarray:
    """Pause features of one frame, all in 0..1.

    Args:
        best: encoder frames since the last label of the best hypothesis.
        expected: the same, expected over the beam (D_t of Maas et al. 2018).
        blank_probability: of the best hypothesis at this frame.
        silence: encoder frames since the voice detector heard speech; 0 without a detector.
        n_tokens: labels so far; before the first there is nothing that could be complete.

    Returns:
        (PAUSE_FEATURES,) float32.
    """
    return np.array(
        [
            _scaled(best * frame_seconds),
            _scaled(expected * frame_seconds),
            min(max(blank_probability, 0.0), 1.0),
            _scaled(silence * frame_seconds),
            float(n_tokens > 0),
        ],
        dtype=np.float32,
    )


def _scaled(seconds: float) -> float:
    """Capped and logarithmic: 100 ms more matter after 100 ms, not after 2 s. 0..1."""
    return math.log1p(min(max(seconds, 0.0), LONGEST_PAUSE) / 0.1) / math.log1p(LONGEST_PAUSE / 0.1)


def trailing_silence(
    speech_probabilities: np.ndarray, before: int = 0, threshold: float = 0.5
) -> tuple[np.ndarray, int]:
    """Encoder frames since speech was heard, at every frame.

    Args:
        speech_probabilities: (T,) voice activity, one an encoder frame.
        before: the count at the frame before.

    Returns:
        (T,) int64 counts, 0 where there is speech, and the last one.
    """
    counts = np.empty(len(speech_probabilities), dtype=np.int64)
    count = before
    for t, p in enumerate(speech_probabilities):
        count = 0 if p >= threshold else count + 1
        counts[t] = count
    return counts, count
