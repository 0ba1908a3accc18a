"""What the decoder returns: a view of the moment, and the result with its N-best list."""

import dataclasses
from typing import TYPE_CHECKING

from solomonic.speech.words import Word

if TYPE_CHECKING:
    from solomonic.speech.lattice.graph import Lattice


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One possible reading.

    Attributes:
        text: the words, separated by blanks.
        tokens: word pieces.
        frames: the encoder frame in which each was emitted.
        log_probs: the model's log-probability of each.
        words: with times and confidence.
        acoustic: log-probability of the tokens, summed over the alignments that the search
            followed, the bonus of labels included; for one that path merging had ended, as far
            behind as it was then. The acoustic score of its path in the lattice.
        bias: what biasing paid in all; that of its path in the lattice.
        log_prob: `acoustic` once more, without the rounding of a path's sum.
    """

    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    log_probs: tuple[float, ...]
    words: tuple[Word, ...]
    acoustic: float
    bias: float
    log_prob: float

    @property
    def score(self) -> float:
        """What hypotheses are ranked by: `log_prob + bias`."""
        return self.log_prob + self.bias


@dataclasses.dataclass(frozen=True)
class Partial:
    """The best hypothesis at this moment.

    Attributes:
        text, tokens, frames, words, log_prob: of the best hypothesis; confidences are from token
            probabilities.
        stable_words: how many leading words will not be taken back.
        pause_frames: expected number of frames since the last label, over all hypotheses.
        blank_frames: frames since the last label of the best hypothesis.
        blank_probability: of the last frame, for the best hypothesis; 1 before the first frame.
    """

    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    words: list[Word]
    stable_words: int
    log_prob: float
    pause_frames: float
    blank_frames: int
    blank_probability: float


@dataclasses.dataclass(frozen=True)
class DecodeResult:
    """What was recognised.

    Attributes:
        nbest: different texts, the best first; never empty (silence is the text "").
        lattice: all alternatives, of pieces; None if it was not recorded.
        end_frame: number of frames decoded, those before the search's first included.
    """

    nbest: list[Hypothesis]
    lattice: "Lattice | None"
    end_frame: int

    @property
    def best(self) -> Hypothesis:
        """nbest[0]."""
        return self.nbest[0]
