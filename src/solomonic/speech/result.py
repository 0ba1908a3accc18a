"""What recognition gives: text, words with times, alternatives, lattice, confidence."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solomonic.speech.lattice import Lattice
    from solomonic.speech.words import Word


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alternative:
    """One of the best hypotheses.

    Attributes:
        text: its words.
        acoustic: log-probability of the transducer, nats.
        bias: what personal words added, nats.
    """

    text: str
    acoustic: float
    bias: float = 0.0

    @property
    def score(self) -> float:
        """What alternatives are ordered by: `acoustic + bias`."""
        return self.acoustic + self.bias


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """An utterance, or a whole recording of several.

    Attributes:
        text: the words, separated by blanks; empty when nothing was said.
        words: with start and end (s of audio) and confidence (0 to 1).
        nbest: alternatives with distinct texts, the best first.
        lattice: the word lattice with times from the start of the stream, or None.
        start, end: the stretch of audio that was decoded, s.
        reason: which end-pointer ended it, in plain words.
        utterances: the parts of a recording; empty for a single utterance.
    """

    text: str
    words: "tuple[Word, ...]" = ()
    nbest: tuple[Alternative, ...] = ()
    lattice: "Lattice | None" = None
    start: float = 0.0
    end: float = 0.0
    reason: str = ""
    utterances: "tuple[Result, ...]" = ()

    @property
    def confidence(self) -> float:
        """Mean confidence of the words, 0 to 1; 1 when there are none."""
        if not self.words:
            return 1.0
        return sum(word.confidence for word in self.words) / len(self.words)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; times in seconds, rounded to a millisecond, scores in nats. The lattice is
        not in it: it has formats of its own."""
        return {
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "start": round(self.start, 3),
            "end": round(self.end, 3),
            "words": [
                {
                    "word": word.text,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": round(word.confidence, 4),
                }
                for word in self.words
            ],
            "nbest": [
                {
                    "text": other.text,
                    "score": round(other.score, 4),
                    "acoustic": round(other.acoustic, 4),
                    "bias": round(other.bias, 4),
                }
                for other in self.nbest
            ],
            "reason": self.reason,
        } | ({"utterances": [u.to_json() for u in self.utterances]} if self.utterances else {})

    def to_srt(self, longest: float = 5.0, gap: float = 0.8) -> str:
        """SubRip subtitles: a caption ends after `longest` seconds or at a pause of `gap`."""
        captions: list[list[Word]] = []
        for word in self.words:
            fresh = not captions or word.end - captions[-1][0].start > longest
            if fresh or word.start - captions[-1][-1].end > gap:
                captions.append([])
            captions[-1].append(word)
        return "\n".join(
            f"{number}\n{_clock(words[0].start)} --> {_clock(words[-1].end)}\n"
            f"{' '.join(word.text for word in words)}\n"
            for number, words in enumerate(captions, 1)
        )


def join(results: Sequence[Result]) -> Result:
    """One result for a recording of several utterances; a single one is returned as it is.

    Alternatives and lattices stay with the utterances, which are kept in `utterances`.
    """
    spoken = [result for result in results if result.text]
    if len(spoken) == 1:
        return spoken[0]
    if not spoken:
        return results[-1] if results else Result(text="")
    best = Alternative(
        text=" ".join(result.text for result in spoken),
        acoustic=sum(result.nbest[0].acoustic for result in spoken if result.nbest),
        bias=sum(result.nbest[0].bias for result in spoken if result.nbest),
    )
    return Result(
        text=best.text,
        words=tuple(word for result in spoken for word in result.words),
        nbest=(best,),
        start=spoken[0].start,
        end=spoken[-1].end,
        reason=spoken[-1].reason,
        utterances=tuple(spoken),
    )


def _clock(seconds: float) -> str:
    """hh:mm:ss,mmm"""
    whole = max(round(seconds * 1000), 0)
    minutes, milliseconds = divmod(whole, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02},{milliseconds % 1000:03}"
