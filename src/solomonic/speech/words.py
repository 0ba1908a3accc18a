"""Words of a hypothesis: text, times and confidence, joined from word pieces."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Protocol

WORD_START = "\u2581"  # what SentencePiece puts in front of a piece that starts a word


class Pieces(Protocol):
    """What is needed of `solomonic.text.pieces.WordPieces`."""

    @property
    def pieces(self) -> tuple[str, ...]:
        """Every piece by id; entry 0 is the blank."""
        ...


@dataclasses.dataclass(frozen=True)
class Word:
    """A recognised word.

    Attributes:
        text: the word as it is written, without blanks.
        start: when its first piece was emitted, s of audio.
        end: when the frame in which its last piece was emitted was over, s of audio.
        confidence: probability that the word is right, 0 to 1.

    Times are emission times: a transducer may speak a little after the speaker does.
    """

    text: str
    start: float
    end: float
    confidence: float


def words_of(
    tokens: Sequence[int],
    frames: Sequence[int],
    log_probs: Sequence[float],
    pieces: Pieces,
    frame_seconds: float,
) -> list[Word]:
    """The words that `tokens` (no blanks) spell.

    Args:
        frames: the encoder frame in which each token was emitted; `frame_seconds` s each.
        log_probs: logarithm of each token's probability. A word is as certain as the least certain
            of its pieces: what makes one piece wrong mostly makes its neighbours wrong too, and a
            product would count that several times.
    """
    words: list[Word] = []
    for first, last in spans(tokens, pieces.pieces):
        text = "".join(pieces.pieces[token] for token in tokens[first:last]).replace(WORD_START, "")
        if text:  # a lone word mark spells nothing
            start = round(frames[first] * frame_seconds, 6)
            end = round((frames[last - 1] + 1) * frame_seconds, 6)
            confidence = math.exp(min(0.0, min(log_probs[first:last])))
            words.append(Word(text, start, end, confidence))
    return words


def spans(tokens: Sequence[int], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """For each word the number of its first token and that of the one after its last."""
    firsts = [i for i, token in enumerate(tokens) if not i or pieces[token].startswith(WORD_START)]
    return list(itertools.pairwise([*firsts, len(tokens)]))
