"""One stream's search: its hypotheses and everything that must be remembered from frame to frame.

A `Search` is a plain value of its stream: nothing of it depends on other streams, or on how the
audio is cut. Silence adds nothing to it; it grows with the words of the utterance only.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from solomonic.speech.biasing.protocol import Bias, Rows
from solomonic.speech.decode.beam import Steps, beam_frame, greedy_frame
from solomonic.speech.decode.config import DecodeConfig
from solomonic.speech.decode.graph import forget
from solomonic.speech.decode.prefix import Prefix, PrefixTree
from solomonic.speech.decode.record import Hyp, Node
from solomonic.speech.decode.stability import Stability
from solomonic.speech.words import Word

if TYPE_CHECKING:
    from solomonic.speech.biasing.pointer import Listed

_SWEEP = 32  # frames
_FORGET = 512  # emissions


class Spoken(NamedTuple):
    """What the path to a node says, and how many of its words are stable."""

    node: Node
    stable: Prefix
    text: str
    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    words: tuple[Word, ...]
    stable_words: int


class Search:
    """Made by `Decoder.start`, advanced by `Decoder.advance`.

    Attributes:
        frame: number of the next encoder frame.
        first_frame: number of the first one.
        hyps: the hypotheses; never empty.
        greedy: the prefix of the greedy path, which always is one of them.
        stability: what is stable of the words.
        spoken: what the decoder last read from the best hypothesis.
        emissions: labels tried since the record was last cleared up.
    """

    def __init__(
        self,
        config: DecodeConfig,
        bias: Bias | None,
        starts: list[bool],
        first_frame: int,
        listed: "Listed | None" = None,
    ) -> None:
        self.config, self.bias, self.listed = config, bias, listed
        self.frame = self.first_frame = first_frame
        self.tree = PrefixTree(bias, starts, config.label_context, listed)
        root = self.tree.root
        self.hyps = [Hyp(root, 0.0, 0.0, Node(first_frame, 0, 0.0, ()))]
        self.greedy = root
        self.stability = Stability(root, starts, config.stable_frames)
        self.spoken: Spoken | None = None
        self.emissions = 0
        self._forget_at = _FORGET
        self._size = len(starts)
        self._rows, self._open = Rows(256), Rows(256)

    def steps(self) -> Steps:
        """Decode the next frame; see `beam`."""
        if self.config.method == "greedy":
            yield from greedy_frame(self)
        else:
            yield from beam_frame(self)
        self._settle()
        self.frame += 1

    @property
    def best(self) -> Hyp:
        """The best hypothesis so far."""
        return max(self.hyps, key=lambda hyp: hyp.total)

    def frames_since_label(self, hyp: Hyp) -> int:
        """Frames since its last label, or since the start."""
        return self.frame - (hyp.node.frame + 1 if hyp.node.token else self.first_frame)

    def pause_frames(self) -> float:
        """Expected number of frames since the last label: over the hypotheses, by probability."""
        best = self.best.total
        weights = [math.exp(hyp.total - best) for hyp in self.hyps]
        pauses = [self.frames_since_label(hyp) for hyp in self.hyps]
        return sum(w * p for w, p in zip(weights, pauses, strict=True)) / sum(weights)

    def final(self, prefix: Prefix) -> float:
        """What biasing pays or takes back if the utterance ends here."""
        return 0.0 if self.bias is None else self.bias.final(prefix.bias_state)

    def attended(
        self, log_probs: np.ndarray, acoustic: np.ndarray, prefixes: Sequence[Prefix]
    ) -> np.ndarray:
        """Log-probabilities (n, V) of the next symbol with what the model's attention adds to the
        listed phrases at the frame `acoustic` (J,); the prefixes have a label vector. Entries of a
        class are heard where the search would pay them: behind their carriers."""
        if self.listed is None:
            return log_probs
        queries = []
        for prefix in prefixes:
            if prefix.query is None:
                assert prefix.label is not None
                prefix.query = self.listed.query(prefix.label)
            queries.append(prefix.query)
        states = [prefix.listed for prefix in prefixes]
        allowed = [self._allowed(prefix.bias_state) for prefix in prefixes]
        return self.listed.add(log_probs, acoustic, queries, states, allowed)

    def _allowed(self, state: int) -> np.ndarray | None:
        """(V,) bool: the pieces that begin or continue a phrase of the search here."""
        if self.bias is None:
            return None
        found = self._open.get(state)
        if found is None:
            found = np.zeros(self._size, bool)
            found[np.asarray(self.bias.next_tokens(state), np.int64)] = True
            self._open.put(state, found)
        return found

    def scored(self, log_probs: np.ndarray) -> np.ndarray:
        """Scores (n, V) of the next symbol: its log-probability, and the bonus of a label."""
        if self.config.label_bonus:
            log_probs[:, 1:] += self.config.label_bonus
        return log_probs

    def biased(self, log_probs: np.ndarray, prefixes: list[Prefix]) -> np.ndarray:
        """Scores of the next symbol (n, V) with what biasing would pay for it."""
        if self.bias is None:
            return log_probs
        return log_probs + np.array([self._paid(prefix.bias_state) for prefix in prefixes])

    def _paid(self, state: int) -> np.ndarray:
        assert self.bias is not None
        scores = getattr(self.bias, "scores", None)
        if scores is not None:
            return scores(state)
        row = self._rows.get(state)
        if row is None:
            paid = [self.bias.step(state, token)[1] for token in range(1, self._size)]
            row = self._rows.put(state, np.array([0.0, *paid]))
        return row

    def _settle(self) -> None:
        """After a frame: stable words, and forgetting."""
        best = self.hyps[0].total
        near = [h.prefix for h in self.hyps if h.total >= best - self.config.stable_beam]
        if self.stability.observe(near):
            self.hyps = [hyp for hyp in self.hyps if self.stability.allows(hyp.prefix)]
            if not self.stability.allows(self.greedy):
                self.greedy = self.hyps[0].prefix  # the greedy path goes on from the best
        for hyp in self.hyps:
            hyp.prefix.used = self.frame
        if self.frame % _SWEEP == 0:
            alive = [hyp.prefix for hyp in self.hyps]
            self.tree.sweep(alive, self.stability.prefix, self.frame - _SWEEP)
        if self.emissions >= self._forget_at:
            # Seldom enough that the time for it is in proportion to what has been recorded.
            self._forget_at = max(_FORGET, 2 * forget(self))
            self.emissions = 0
