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

from solomonic.core import Config, ShapeError
from solomonic.memory.reader.gate import Gate, GateConfig
from solomonic.memory.reader.history import History, Place
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
        keys: states a model had while reading them, or None. A `TokenMemory` may grow.
        places: position in `match.history` of the token after each key, (n,); None: the same.
    log_weights: log omega of each source of `match`, at most 0; None: all 0.
    boost: how much more than other matches these are believed at first, in nats: passages that
        were found because they resemble the present are seldom there by accident.
    """

    match: MatchMemory | None = None
    keys: Datastore | TokenMemory | None = None
    places: np.ndarray | None = None
    log_weights: np.ndarray | None = None
    boost: float = 0.0


class Reference(NamedTuple):
    """Where a token came from: which token of which history, how much of its probability is from
    there, and by which expert."""

    history: History
    position: int
    weight: float
    expert: str

    @property
    def place(self) -> Place:
        """Source and index in it."""
        return self.history.place(self.position)

    def before(self) -> np.ndarray:
        """The tokens of the source before this one."""
        return self.history.tokens[self.history.start_of(self.position) : self.position]


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
        self._expect()
        self.bits = 0.0
        """Cost of all tokens that were predicted."""
        self._key: np.ndarray | None = None
        self._log_probs = np.zeros(0)
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
        self._log_probs = log_probs
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

    def skim(self, tokens: Sequence[int]) -> int:
        """Read tokens without having predicted them: they can be matched from now on. Returns the
        position of the first."""
        first = len(self.match)
        self._key = None
        self.match.extend(tokens)
        self._recent = [*self._recent, *tokens][-self.config.match.longest :]
        return first

    def remember(self, keys: np.ndarray, tokens: Sequence[int], position: int) -> None:
        """States (n, dim) and the tokens that came after them, the first at `position`."""
        if self.config.cache:
            for at, (key, token) in enumerate(zip(keys, tokens, strict=True), start=position):
                self.cache.add(key, token, at)

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
        return self._reference(*best)

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

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that this stream remembers and has learned, and what the prediction that is open was
        made from; shelves are not in it."""
        arrays = {f"cache.{name}": a for name, a in self.cache.to_arrays().items()}
        arrays |= {f"gate.{name}": a for name, a in self.gate.to_arrays().items()}
        odds = [(one.odds.tries, one.odds.hits) for one in self._opinions if one.odds is not None]
        arrays["odds"] = np.array(odds).reshape(-1, 2, GROUPS)
        arrays["tokens"] = self.match.history.tokens[1:].copy()
        arrays["bits"] = np.array([self.bits])
        if self._key is not None:
            arrays["open.key"], arrays["open.log_probs"] = self._key, self._log_probs
        return arrays

    def load_arrays(self, stored: Mapping[str, np.ndarray]) -> None:
        """Become what `to_arrays` of a stream with the same settings and shelves was.

        Raises:
            ShapeError: it had other settings.
        """
        self.gate.load_arrays(_under(stored, "gate"))
        self.cache.load_arrays(_under(stored, "cache"))
        mine = [one for one in self._opinions if one.odds is not None]
        if len(mine) != len(stored["odds"]):
            raise ShapeError(
                f"a memory with {len(stored['odds'])} matches does not fit {len(mine)}."
            )
        for opinion, (tries, hits) in zip(mine, stored["odds"], strict=True):
            assert opinion.odds is not None
            opinion.odds.tries, opinion.odds.hits = tries.copy(), hits.copy()
        self.match = MatchMemory(self.config.match)
        self.match.begin(THIS)
        self.match.extend(stored["tokens"])
        self._recent = stored["tokens"][-self.config.match.longest :].tolist()
        self.bits = float(stored["bits"][0])
        self._key = None
        if "open.key" in stored:
            self.predict(stored["open.log_probs"], stored["open.key"])

    def _expect(self) -> None:
        """Before anything is learned, matches are believed by the odds that they begin with."""
        at = 4
        for row, opinion in enumerate(self._opinions, start=1):
            at += 2
            if opinion.odds is not None:
                chances = opinion.odds.chances()
                believed = np.log(chances / (1 - chances))
                if opinion.shelf >= 0:
                    believed = believed + self.shelves[opinion.shelf].boost
                self.gate.weights[row, at : at + GROUPS] = believed
                at += GROUPS

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
            given = None
            known = None if opinion.shelf < 0 else self.shelves[opinion.shelf].log_weights
            if known is not None:
                given = known[memory.history.source_of(found.positions)]
            opinion.hits, opinion.weights = found, opinion.odds.weights(found, given)

    def _reference(self, weight: float, opinion: _Opinion, hit: int) -> Reference | None:
        assert opinion.hits is not None
        position = int(opinion.hits.positions[hit])
        memory = self.match
        if opinion.shelf >= 0:
            shelf = self.shelves[opinion.shelf]
            if shelf.match is None:
                return None
            memory = shelf.match
            if isinstance(opinion.hits, Neighbours) and shelf.places is not None:
                position = int(shelf.places[position])
        return Reference(memory.history, position, weight, opinion.name)


def _under(stored: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        k.removeprefix(f"{prefix}."): v for k, v in stored.items() if k.startswith(f"{prefix}.")
    }
