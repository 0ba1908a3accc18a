"""What an end-pointer is told about one encoder frame."""

import dataclasses
from collections.abc import Hashable


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One encoder frame, as voice detector, search and end head saw it.

    Attributes:
        time: where the frame ends (s of audio); grows from frame to frame.
        speech_probability: voice activity in 0..1; None: there is no voice detector.
        pause_frames: encoder frames since the last label, expected over the beam.
        blank_probability: of the best hypothesis at this frame.
        n_tokens: labels of the best hypothesis in this utterance; 0 again after "final", since
            a new utterance has a new search.
        end_probability: of the end head; None: the model has none.
        hypothesis: anything that changes when the best hypothesis changes, such as its tuple of
            tokens; None: `n_tokens` stands for it.
    """

    time: float
    speech_probability: float | None = None
    pause_frames: float = 0.0
    blank_probability: float = 0.0
    n_tokens: int = 0
    end_probability: float | None = None
    hypothesis: Hashable = None
