"""One stream's memory in the autoregressive step: predict, charge, then learn.

    recall = Recall(vocabulary, dim, [shelf])
    chances = recall.predict(log_probs, key)   # the model's opinion and its hidden state
    bits = recall.update(token)                # what came: cost, citation, learning

Experts behind one gate: the model; the tokens of this stream after states like the present one
(`TokenMemory`, one expert for each sharpness); the verbatim matches in this stream; and for each
shelf (stored texts) the same two.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from solomonic.core import Config
from solomonic.memory.reader.gate import Gate, GateConfig
from solomonic.memory.reader.history import Place
from solomonic.memory.reader.match import MatchConfig, Matches, MatchMemory
from solomonic.memory.reader.neighbours import (
    Datastore,
    NeighbourConfig,
    Neighbours,
    TokenMemory,
)
from solomonic.memory.reader.odds import GROUPS, MatchOdds, group

THIS = "(this text)"
"""Source of what stands in the stream itself."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecallConfig(Config):
    """Which memories are read."""

    PARTS: ClassVar[Mapping[str, type[Config]]] = {
        "neighbours": NeighbourConfig,
        "match": MatchConfig,
        "gate": GateConfig,
    }

    neighbours: NeighbourConfig = dataclasses.field(default_factory=NeighbourConfig)
    match: MatchConfig = dataclasses.field(default_factory=MatchConfig)
    gate: GateConfig = dataclasses.field(default_factory=GateConfig)
    cache: bool = True
    """States of this stream."""
    own_match: bool = True
    """Verbatim matches in this stream."""
    cite_above: float = 0.5
    """A token is cited when the memories hold more than this share of its probability."""


@dataclasses.dataclass
class Shelf:
    """Stored texts, shared by streams and not changed by them.

    Attributes:
        match: their tokens, or None.
        keys: states a model had while reading them, or None.
        places: position in `match.history` of the token after each key, (n,); None: the same.
    """

    match: MatchMemory | None = None
    keys: Datastore | None = None
    places: np.ndarray | None = None


class Reference(NamedTuple):
    """Where a token came from: its place, how much of its probability is from there, by which
    expert."""

    place: Place
    weight: float
    expert: str


@dataclasses.dataclass
class _Opinion:
    """What an expert said before the next token, and from which hits."""

    name: str
    shelf: int  # -1: this stream
    hits: Neighbours | Matches | None = None
    weights: np.ndarray | None = None
    odds: MatchOdds | None = None
    theta: float = 0.0


class Recall:
    """See the module. Not shared between streams.

    Args:
        vocabulary: tokens.
        dim: of the model's hidden states.
        shelves: stored texts; the caller may fill an empty one later, none may be added.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        shelves: Sequence[Shelf] = (),
        config: RecallConfig | None = None,
    ) -> None:
        self.config = config or RecallConfig()
        self.vocabulary, self.dim, self.shelves = vocabulary, dim, list(shelves)
        self.cache = TokenMemory(dim, self.config.neighbours.capacity)
        self.match = MatchMemory(self.config.match)
        self.match.begin(THIS)
        self._opinions = self._experts()
        self.names = ["model", *(one.name for one in self._opinions)]
        matching = sum(one.odds is not None for one in self._opinions)
        # Entropy and peak of the model, the stream's length; confidence and the model's agreement
        # of each memory; the groups of lengths of each match.
        features = 3 + 2 * len(self._opinions) + GROUPS * matching
        self.gate = Gate(len(self.names), features, self.config.gate)
        self.bits = 0.0
        """Cost of all tokens that were predicted."""
        self._key: np.ndarray | None = None
        self._recent: list[int] = []

    @property
    def nbytes(self) -> int:
        """Bytes of what this stream remembers; shelves are not counted."""
        return self.cache.nbytes + self.match.nbytes + self.gate.weights.nbytes

    def predict(self, log_probs: np.ndarray, key: np.ndarray) -> np.ndarray:
        """Distribution (V,) float64 of the next token.

        Args:
            log_probs: (V,) of the model alone, in nats.
            key: (dim,) the hidden state it had.
        """
        model = np.exp(log_probs.astype(np.float64))
        model /= model.sum()
        experts = np.zeros((len(self.names), self.vocabulary))
        experts[0] = model
        present = np.zeros(len(self.names), dtype=bool)
        present[0] = True
        peak = int(model.argmax())
        entropy = -float(model @ np.log(np.maximum(model, 1e-300)))
        features = [
            entropy / math.log(self.vocabulary),
            math.log(model[peak]) / 4,
            math.log1p(len(self.match)) / 10,
        ]
        self._key = np.asarray(key, dtype=np.float32)
        searched: dict[int, Neighbours | None] = {}
        for row, opinion in enumerate(self._opinions, start=1):
            if opinion.odds is None:
                self._ask_neighbours(opinion, searched)
            else:
                self._ask_match(opinion)
            if opinion.hits is None or opinion.weights is None:
                features += [0.0] * (2 if opinion.odds is None else 2 + GROUPS)
                continue
            experts[row] = np.bincount(opinion.hits.tokens, opinion.weights, self.vocabulary)
            present[row] = True
            top = int(experts[row].argmax())
            features += [math.log(experts[row, top]) / 4, math.log(model[top] + 1e-9) / 4]
            if opinion.odds is not None:
                lengths = np.zeros(GROUPS)
                assert isinstance(opinion.hits, Matches)
                lengths[group(opinion.hits.lengths.max())] = 1
                features += lengths.tolist()
        return self.gate.mix(experts, features, present)

    def update(self, token: int) -> float:
        """Read the token that came; what it cost in bits, 0 if it was not predicted."""
        paid = 0.0
        if self._key is not None:
            paid = self.gate.update(token)
            for opinion in self._opinions:
                if opinion.odds is not None and isinstance(opinion.hits, Matches):
                    opinion.odds.learn(opinion.hits, token)
            if self.config.cache:
                self.cache.add(self._key, token, len(self.match))
            self._key = None
        self.match.append(token)
        self._recent.append(token)
        if len(self._recent) > 2 * self.config.match.longest:
            del self._recent[: self.config.match.longest]
        self.bits += paid
        return paid

    def refer(self, token: int) -> Reference | None:
        """Where the prediction just made had `token` from, if mostly from a memory; ask before
        `update`."""
        if self._key is None:
            return None
        believed = self.gate.believed(token)
        if 1 - believed[0] <= self.config.cite_above:
            return None
        best: tuple[float, _Opinion, int] | None = None
        for share, opinion in zip(believed[1:], self._opinions, strict=True):
            if opinion.hits is None or opinion.weights is None or share <= 0:
                continue
            right = np.flatnonzero(opinion.hits.tokens == token)
            weights = opinion.weights[right]
            if not len(right):
                continue
            which = int(weights.argmax())
            weight = float(share * weights[which] / weights.sum())
            if best is None or weight > best[0]:
                best = weight, opinion, int(right[which])
        if best is None:
            return None
        place = self._place(best[1], best[2])
        return None if place is None else Reference(place, best[0], best[1].name)

    def copy(self) -> "Recall":
        """A stream of its own with the same past and the same shelves."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.cache, other.match = self.cache.copy(), self.match.copy()
        other.gate = self.gate.copy()
        other._opinions = [
            dataclasses.replace(one, odds=None if one.odds is None else one.odds.copy())
            for one in self._opinions
        ]
        other._recent = list(self._recent)
        return other

    def _experts(self) -> list[_Opinion]:
        """One opinion for every memory there is."""
        found = []
        scales = self.config.neighbours.sharpness
        if self.config.cache:
            found += [_Opinion(f"cache {scale:g}", -1, theta=scale) for scale in scales]
        if self.config.own_match:
            found.append(_Opinion("match", -1, odds=MatchOdds()))
        for index, shelf in enumerate(self.shelves):
            mark = "" if len(self.shelves) == 1 else f" {index}"
            if shelf.keys is not None:
                found += [
                    _Opinion(f"neighbours{mark} {scale:g}", index, theta=scale) for scale in scales
                ]
            if shelf.match is not None:
                found.append(_Opinion(f"stored match{mark}", index, odds=MatchOdds()))
        return found

    def _ask_neighbours(self, opinion: _Opinion, searched: dict[int, Neighbours | None]) -> None:
        assert self._key is not None
        where = opinion.shelf
        if where not in searched:
            memory = self.cache if where < 0 else self.shelves[where].keys
            searched[where] = memory.search(self._key) if memory is not None and memory else None
        found = searched[where]
        opinion.hits = opinion.weights = None
        if found is not None and len(found.tokens):
            memory = self.cache if where < 0 else self.shelves[where].keys
            assert memory is not None
            opinion.hits = found
            opinion.weights = found.weights(opinion.theta / memory.mean_square)

    def _ask_match(self, opinion: _Opinion) -> None:
        memory = self.match if opinion.shelf < 0 else self.shelves[opinion.shelf].match
        assert memory is not None and opinion.odds is not None
        found = memory.find(self._recent)
        opinion.hits = opinion.weights = None
        if len(found.tokens):
            opinion.hits, opinion.weights = found, opinion.odds.weights(found)

    def _place(self, opinion: _Opinion, hit: int) -> Place | None:
        assert opinion.hits is not None
        position = int(opinion.hits.positions[hit])
        if opinion.shelf < 0:
            return self.match.history.place(position)
        shelf = self.shelves[opinion.shelf]
        if shelf.match is None:
            return None
        if isinstance(opinion.hits, Neighbours) and shelf.places is not None:
            position = int(shelf.places[position])
        return shelf.match.history.place(position)
