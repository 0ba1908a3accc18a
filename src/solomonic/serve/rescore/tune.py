"""Weights of reranking from lattices with references: those with the fewest word errors.

The sentences of every development lattice are scored once; from then on a setting costs a matrix
product. Random settings find the valley, steps along one weight after the other its bottom; of
equally good settings the middle one is taken, which is the safest on other data. A sentence's
errors, not its probability, are what is counted (Och 2003).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from solomonic.core import Config, ConfigError, DataError, require
from solomonic.serve.rescore.config import RerankConfig
from solomonic.serve.rescore.data import Example
from solomonic.serve.rescore.errors import SetErrors, memory_of, word_edits
from solomonic.serve.rescore.memory import Memory
from solomonic.serve.rescore.reranker import Reranker
from solomonic.speech.lattice import oracle

WEIGHTS = ("bias_scale", "lm_scale", "internal_scale", "memory_scale", "word_bonus")
RANGES = {
    "bias_scale": (0.0, 2.0),
    "lm_scale": (0.0, 1.5),
    "internal_scale": (0.0, 1.0),
    "memory_scale": (0.0, 1.5),
    "word_bonus": (-3.0, 5.0),
}
_POINTS = 121  # along one weight
_RADII = (0.15, 0.07, 0.03, 0.015)  # of a weight's range


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig(Config):
    """How weights are looked for.

    Raises:
        ConfigError: a value out of range.
    """

    weights: tuple[str, ...] = ("lm_scale", "word_bonus")
    """Which are tuned; `internal_scale` needs an `InternalLM`, `memory_scale` memories."""
    texts: int = 60
    """Sentences of a lattice that are compared."""
    rounds: int = 2
    """Times that sentences are collected, each with the weights found before."""
    tries: int = 2000
    """Random settings a round."""
    balance: bool = True
    """Sets count by the square root of their errors, as chance does; else by their errors, and a
    large or difficult set decides alone."""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))  # JSON has only lists
        require(bool(self.weights), "there is no weight to tune; name at least one.")
        for name in self.weights:
            require(name in WEIGHTS, f"'{name}' is no weight; use some of {', '.join(WEIGHTS)}.")
        for name in ("texts", "rounds", "tries"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")


@dataclasses.dataclass(frozen=True)
class Sheet:
    """The sentences of one lattice, its own best first.

    Attributes:
        source: the set.
        parts: (K, 6) float64: acoustic, then what `WEIGHTS` weigh.
        edits: (K,) int64, word errors.
        texts: the sentences.
        words: of the reference.
        nearest: word errors of the nearest path of the lattice.
        reference: what was said.
    """

    source: str
    parts: np.ndarray
    edits: np.ndarray
    texts: tuple[str, ...]
    words: int
    nearest: int
    reference: str = ""


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Weights, what they do on the sentences that were compared (a set a row), the sentences."""

    config: RerankConfig
    sets: list[SetErrors]
    sheets: list[Sheet]


def tune(
    reranker: Reranker,
    examples: Sequence[Example],
    config: TuneConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """The best weights for the examples; what is not tuned stays as the reranker has it.

    Args:
        progress: told how many of how many lattices are scored.

    Raises:
        DataError: no example has a lattice, or a reference has no words at all.
        ConfigError: a weight that cannot act is to be tuned.
    """
    config = config or TuneConfig()
    _check(reranker, examples, config)
    pool: dict[int, Sheet] = {}
    count = config.rounds * len(examples)
    for turn in range(config.rounds):
        for number, example in enumerate(examples):
            if example.lattice is not None:
                fresh = collect(reranker, example, config.texts)
                pool[number] = _joined(pool[number], fresh) if number in pool else fresh
            if progress is not None:
                progress(turn * len(examples) + number + 1, count)
        found = choose(list(pool.values()), reranker.config, config)
        reranker = Reranker(reranker.lm, found, reranker.internal)
    unheard = [example for example in examples if example.lattice is None]
    sheets = list(pool.values())
    return Tuned(reranker.config, table(sheets, reranker.config, unheard), sheets)


def collect(
    reranker: Reranker, example: Example, texts: int, memory: Memory | None = None
) -> Sheet:
    """The `texts` best sentences of a lattice by itself, and as many by the present weights.

    Args:
        memory: of the user; None: what the example says.
    """
    lattice = example.lattice
    if lattice is None:
        raise DataError(f"{example.name} is no lattice; nothing was heard.")
    wide = Reranker(reranker.lm, reranker.config.replace(texts=texts), reranker.internal)
    tree = wide.tree(memory or memory_of(reranker, example))
    # At least: what the search finds besides is among them.
    hypotheses = [
        one for one, _ in wide.score(lattice, wide.candidates(lattice, tree, texts), tree)
    ]
    parts = [
        (one.acoustic, one.bias, one.lm, -one.internal, one.memory, one.words) for one in hypotheses
    ]
    edits = [word_edits(example.reference, one.text.split()) for one in hypotheses]
    return Sheet(
        example.source,
        np.array(parts, dtype=np.float64),
        np.array(edits),
        tuple(one.text for one in hypotheses),
        len(example.reference),
        oracle(lattice, example.reference)[0],
        " ".join(example.reference),
    )


def choose(sheets: Sequence[Sheet], start: RerankConfig, config: TuneConfig) -> RerankConfig:
    """The weights with the fewest errors on the sheets.

    Raises:
        DataError: there is no sheet.
    """
    if not sheets:
        raise DataError("there is no lattice to tune on; give some with sentences in them.")
    parts, edits = _stack(sheets)
    share = _shares(sheets, config.balance)

    def cost(weights: np.ndarray) -> np.ndarray:
        """(P, 5) settings -> (P,) weighted errors."""
        full = np.concatenate([np.ones((len(weights), 1)), weights], axis=1)
        costs = np.empty(len(weights))
        for first in range(0, len(weights), 16):
            scores = parts @ full[first : first + 16].T  # (E, K, P)
            picked = np.take_along_axis(edits[..., None], scores.argmax(axis=1)[:, None], axis=1)
            costs[first : first + 16] = share @ picked[:, 0]
        return costs

    rng = np.random.default_rng(config.seed)
    places = [WEIGHTS.index(name) for name in config.weights]
    here = np.array([getattr(start, name) for name in WEIGHTS])
    tries = np.repeat(here[None], config.tries + 1, axis=0)
    for place in places:
        low, high = RANGES[WEIGHTS[place]]
        tries[1:, place] = rng.uniform(low, high, config.tries)
    costs = cost(tries)
    here, best = tries[costs.argmin()], float(costs.min())
    spans = np.array([RANGES[name][1] - RANGES[name][0] for name in WEIGHTS])
    for radius in _RADII:  # nearer and nearer to the best so far
        tries = np.repeat(here[None], config.tries // 4 + 1, axis=0)
        steps = rng.normal(0.0, radius, (config.tries // 4, len(places))) * spans[places]
        tries[1:, places] += steps
        for place in places:
            tries[:, place] = tries[:, place].clip(*RANGES[WEIGHTS[place]])
        costs = cost(tries)
        here, best = tries[costs.argmin()], float(costs.min())
    while True:
        before = best
        for place in places:
            here, best = _along(here, place, cost)
        if best >= before - 1e-12:
            break
    values = {name: round(float(here[WEIGHTS.index(name)]), 4) for name in config.weights}
    return start.replace(**values)


def table(
    sheets: Sequence[Sheet], config: RerankConfig, unheard: Sequence[Example] = ()
) -> list[SetErrors]:
    """Errors of the sheets' sentences under the weights; what was not heard counts as missed."""
    weights = np.array([1.0, *(getattr(config, name) for name in WEIGHTS)])
    counts: dict[str, list[int]] = {}
    for sheet in sheets:
        row = counts.setdefault(sheet.source, [0] * 5)
        own = int((sheet.parts[:, 0] + sheet.parts[:, 1]).argmax())
        picked = int((sheet.parts @ weights).argmax())
        values = (1, sheet.words, int(sheet.edits[own]), int(sheet.edits[picked]), sheet.nearest)
        for place, value in enumerate(values):
            row[place] += value
    for example in unheard:
        row = counts.setdefault(example.source, [0] * 5)
        for place, value in enumerate((1, *[len(example.reference)] * 4)):
            row[place] += value
    return [SetErrors(name, *row) for name, row in counts.items()]


def _along(
    here: np.ndarray, place: int, cost: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, float]:
    """The middle of the longest stretch of the best values of one weight."""
    low, high = RANGES[WEIGHTS[place]]
    values = np.unique(np.append(np.linspace(low, high, _POINTS), here[place]))
    tries = np.repeat(here[None], len(values), axis=0)
    tries[:, place] = values
    costs = cost(tries)
    good = np.append(costs <= costs.min() + 1e-12, False)
    first, longest = 0, (0, 0)
    for at, well in enumerate(good.tolist()):
        if not well:
            longest = max(longest, (at - first, -first))
            first = at + 1
    middle = -longest[1] + (longest[0] - 1) // 2
    return tries[middle], float(costs[middle])


def _check(reranker: Reranker, examples: Sequence[Example], config: TuneConfig) -> None:
    if not any(example.reference for example in examples):
        raise DataError("no reference has a word, so there are no errors to count.")
    if "internal_scale" in config.weights and reranker.internal is None:
        raise ConfigError(
            "internal_scale needs the recogniser's model; give `InternalLM`, or leave it."
        )
    if "memory_scale" in config.weights and not any(example.before for example in examples):
        raise ConfigError(
            "memory_scale cannot be tuned where nobody has said anything before; add 'before' to "
            "the manifest, or leave it."
        )


def _joined(sheet: Sheet, other: Sheet) -> Sheet:
    """Both sheets' sentences, each once."""
    new = [place for place, text in enumerate(other.texts) if text not in set(sheet.texts)]
    return dataclasses.replace(
        sheet,
        parts=np.concatenate([sheet.parts, other.parts[new]]),
        edits=np.concatenate([sheet.edits, other.edits[new]]),
        texts=sheet.texts + tuple(other.texts[place] for place in new),
    )


def _stack(sheets: Sequence[Sheet]) -> tuple[np.ndarray, np.ndarray]:
    """(E, K, 6) parts and (E, K) edits; rows that are missing are never the best."""
    most = max(len(sheet.texts) for sheet in sheets)
    parts = np.zeros((len(sheets), most, 6))
    parts[:, :, 0] = -1e9
    edits = np.zeros((len(sheets), most))
    for row, sheet in enumerate(sheets):
        parts[row, : len(sheet.texts)] = sheet.parts
        edits[row, : len(sheet.texts)] = sheet.edits
    return parts, edits


def _shares(sheets: Sequence[Sheet], balance: bool) -> np.ndarray:
    """(E,) what an error costs, in each sheet: more in sets with few of them, where balanced."""
    if not balance:
        return np.ones(len(sheets))
    own: dict[str, int] = {}
    for sheet in sheets:
        first = int((sheet.parts[:, 0] + sheet.parts[:, 1]).argmax())
        own[sheet.source] = own.get(sheet.source, 0) + int(sheet.edits[first])
    return np.array([max(1, own[sheet.source]) ** -0.5 for sheet in sheets])
