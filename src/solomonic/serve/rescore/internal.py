"""What the recogniser expects by itself: its internal language model, to be subtracted.

A transducer learns its training sentences along with their sound; a second model of sentences then
counts them twice. Without any sound, an encoder output of zero, prediction and joint network alone
say how likely the next piece is; the blank, which says nothing about words, is left out
(internal language model estimation, Meng et al. 2020, arXiv 2011.01991).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from solomonic.state import concatenate, gather

if TYPE_CHECKING:
    from solomonic.speech.pretrained import SpeechModel

_BLANK = 0


class Expected(NamedTuple):
    """What has been said: the predictor's vector (1, J) and its state, one row."""

    vector: Tensor
    state: Any


class InternalLM:
    """Log-probabilities of words by a recogniser that hears nothing.

    Args:
        model: the recogniser whose lattices are rescored, `load_speech_model(...)`.
    """

    def __init__(self, model: "SpeechModel") -> None:
        self.pieces = model.pieces
        net = model.transducer
        self._predictor, self._joint = net.predictor, net.joint
        device = net.joint.bias.device
        with torch.no_grad():
            silence = torch.zeros(1, net.config.hidden_size, device=device)
            self._acoustic = net.to_joint(silence)
            vector, state = net.predictor.start(1)
        self._start = Expected(vector, state)

    def start(self) -> Expected:
        """Before the first word."""
        return self._start

    @torch.no_grad()
    def read(
        self, before: Sequence[Expected], words: Sequence[str]
    ) -> tuple[list[float], list[Expected]]:
        """Log-probability in nats of a further word in each row, and the rows after it."""
        tokens = [self.pieces.encode(word) for word in words]
        totals = [0.0] * len(words)
        after = list(before)
        for place in range(max((len(line) for line in tokens), default=0)):
            rows = [row for row, line in enumerate(tokens) if place < len(line)]
            vectors = torch.cat([after[row].vector for row in rows])
            label = torch.tensor([tokens[row][place] for row in rows], device=vectors.device)
            scores = self._joint(self._acoustic, vectors)
            scores[:, _BLANK] = float("-inf")
            picked = scores.log_softmax(dim=-1).gather(1, label[:, None])[:, 0].tolist()
            state = concatenate([after[row].state for row in rows])
            vectors, state = self._predictor.step(label, state)
            for at, row in enumerate(rows):
                one = torch.tensor([at], device=vectors.device)
                totals[row] += picked[at]
                after[row] = Expected(vectors[at : at + 1], gather(state, one))
        return totals, after
