"""The decoder: many streams at once, each with its own `Search`, in step frame by frame."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from solomonic.core import DataError, ShapeError, VocabularyError
from solomonic.speech.biasing.protocol import Bias
from solomonic.speech.decode.config import DecodeConfig
from solomonic.speech.decode.graph import Path, Record, log_posterior
from solomonic.speech.decode.record import Node
from solomonic.speech.decode.result import DecodeResult, Hypothesis, Partial
from solomonic.speech.decode.scorer import Scorer
from solomonic.speech.decode.search import Search, Spoken
from solomonic.speech.words import WORD_START, words_of

if TYPE_CHECKING:
    from solomonic.speech.biasing.pointer import Listed
    from solomonic.text.pieces import WordPieces

_MOST_PATHS = 256  # looked at for an N-best list of different texts


class Decoder:
    """A function of model and settings; it holds no stream's state and serves any number.

    The joint network's weights are copied: make a new decoder when the model has changed.

    Args:
        model: a `Transducer`, or anything with its `config.frame_seconds`, `predictor.start`,
            `predictor.step` and `joint`.
        pieces: the vocabulary, blank first.
    """

    def __init__(
        self, model: Any, pieces: "WordPieces", config: DecodeConfig | None = None
    ) -> None:
        self.config = config or DecodeConfig()
        self.pieces = pieces
        self.frame_seconds = float(model.config.frame_seconds)
        self._scorer = Scorer(model)
        if len(pieces.pieces) != self._scorer.vocab_size:
            raise VocabularyError(
                f"the vocabulary has {len(pieces.pieces)} pieces and the model "
                f"{self._scorer.vocab_size}; use the word pieces it was trained with."
            )
        self._starts = [piece.startswith(WORD_START) for piece in pieces.pieces]

    def start(
        self, bias: Bias | None = None, first_frame: int = 0, listed: "Listed | None" = None
    ) -> Search:
        """A search for one utterance of one stream.

        Args:
            bias: personal words; None: none.
            first_frame: number of the first frame in the stream, from which times are counted.
            listed: phrases for the model's attention (`PointerBiasing.embed`); None: none.
        """
        return Search(self.config, bias, self._starts, first_frame, listed)

    @torch.inference_mode()
    def advance(
        self,
        searches: Sequence[Search],
        acoustic: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> None:
        """Decode the next frames of every search, in place.

        A stream's result does not depend on who shares the call or on how frames are cut into
        calls.

        Args:
            acoustic: (B, T, J), one row a search.
            lengths: how many frames of each row count; None: all.

        Raises:
            ShapeError: sizes do not fit. DataError: a frame holds NaN or infinity. In both cases
                no search has been changed.
        """
        rows = self._scorer.rows(acoustic)
        counts = self._counts(searches, rows, lengths)
        for row, count in zip(rows, counts, strict=True):
            if not np.isfinite(row[:count]).all():
                raise DataError(
                    "the model gave NaN or infinity for a frame; check the audio for samples that "
                    "are not numbers, and the model."
                )
        for frame in range(max(counts, default=0)):
            here = [i for i, count in enumerate(counts) if frame < count]
            self._frame([searches[i] for i in here], [rows[i, frame] for i in here])

    def _frame(self, searches: list[Search], rows: list[np.ndarray]) -> None:
        """One frame of each search, in rounds: everything that is asked for is computed at once."""
        running = [(s, steps := s.steps(), next(steps)) for s in searches]
        while running:
            self._scorer.predict([prefix for _, _, asked in running for prefix in asked])
            answers = self._scorer.log_probs(rows, [asked for _, _, asked in running])
            still, still_rows = [], []
            for (search, steps, asked), answer, row in zip(running, answers, rows, strict=True):
                try:
                    heard = search.attended(answer, row, asked)
                    still.append((search, steps, steps.send(heard)))
                    still_rows.append(row)
                except StopIteration:
                    continue
            running, rows = still, still_rows

    def _counts(
        self, searches: Sequence[Search], rows: np.ndarray, lengths: Tensor | Sequence[int] | None
    ) -> list[int]:
        if len(searches) != len(rows):
            raise ShapeError(f"{len(searches)} searches got acoustic vectors of {len(rows)}.")
        if len({id(search) for search in searches}) < len(searches):
            raise ShapeError("a search is in the call twice; give each of them one row.")
        if lengths is None:
            return [rows.shape[1]] * len(searches)
        counts = [int(count) for count in lengths]
        if len(counts) != len(rows) or any(not 0 <= n <= rows.shape[1] for n in counts):
            raise ShapeError(
                f"lengths {counts} do not fit acoustic vectors of {len(rows)} streams and "
                f"{rows.shape[1]} frames."
            )
        return counts

    def partial(self, search: Search) -> Partial:
        """The best hypothesis now; the search is not changed."""
        best = search.best
        spoken = self._spoken(search, best.node)
        return Partial(
            text=spoken.text,
            tokens=spoken.tokens,
            frames=spoken.frames,
            words=list(spoken.words),
            stable_words=spoken.stable_words,
            log_prob=best.mass,
            pause_frames=search.pause_frames(),
            blank_frames=search.frames_since_label(best),
            blank_probability=math.exp(best.blank),
        )

    def _spoken(self, search: Search, node: Node) -> Spoken:
        """What the path to `node` says, kept by the search until it says something else."""
        stable = search.stability.prefix
        known = search.spoken
        if known is not None and known.node is node and known.stable is stable:
            return known
        emissions = _emissions(node)
        tokens = tuple(emission.token for emission in emissions)
        frames = tuple(emission.frame for emission in emissions)
        surely = [emission.surely for emission in emissions]
        words = words_of(tokens, frames, surely, self.pieces, self.frame_seconds)
        head = words_of(tokens[: stable.depth], frames, surely, self.pieces, self.frame_seconds)
        text = " ".join(word.text for word in words)
        search.spoken = Spoken(node, stable, text, tokens, frames, tuple(words), len(head))
        return search.spoken

    @torch.inference_mode()
    def label(self, search: Search) -> np.ndarray:
        """The prediction network's vector (J,) for the best hypothesis now: what its words say
        about the next one. The search is not changed."""
        prefix = search.best.prefix
        self._scorer.predict([prefix])
        assert prefix.label is not None
        return prefix.label

    def finish(self, search: Search) -> DecodeResult:
        """The result if the utterance ended here; the search is not changed and may go on."""
        record = Record(search)
        posteriors = None
        lattice = None
        if self.config.lattice:
            if self.config.method == "beam":  # greedy has no alternatives to be unsure between
                posteriors = record.posteriors(self.config.confidence_scale)
            lattice = record.lattice(tuple(self.pieces.pieces), self.frame_seconds)
        nbest: dict[str, Hypothesis] = {}
        for count, path in enumerate(record.paths()):
            text = self._text(path)
            if text not in nbest:
                nbest[text] = self._hypothesis(text, path, posteriors)
            if len(nbest) == self.config.nbest or count == _MOST_PATHS:
                break
        return DecodeResult(list(nbest.values()), lattice, search.frame)

    def _text(self, path: Path) -> str:
        spelled = "".join(self.pieces.pieces[node.token] for node in path.emissions)
        return " ".join(spelled.replace(WORD_START, " ").split())

    def _hypothesis(
        self, text: str, path: Path, posteriors: dict[int, list[tuple[int, float]]] | None
    ) -> Hypothesis:
        tokens = tuple(node.token for node in path.emissions)
        frames = tuple(node.frame for node in path.emissions)
        surely = [node.surely for node in path.emissions]
        if posteriors is not None:
            surely = [
                log_posterior(posteriors, token, frame)
                for token, frame in zip(tokens, frames, strict=True)
            ]
        words = words_of(tokens, frames, surely, self.pieces, self.frame_seconds)
        return Hypothesis(
            text=text,
            tokens=tokens,
            frames=frames,
            log_probs=tuple(node.log_prob for node in path.emissions),
            words=tuple(words),
            acoustic=path.acoustic,
            bias=path.bias,
            log_prob=path.score - path.bias,
        )


def _emissions(node: Node) -> list[Node]:
    """The emissions up to and including `node`, along the path that stayed."""
    found: list[Node] = []
    while node.ways:
        if node.token:
            found.append(node)
        node = node.ways[0].source
    return found[::-1]
