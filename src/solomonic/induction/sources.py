"""Sources of sequences whose best possible predictor is known exactly, so that regret is measured.

    source = SOURCES["tree"](seed=0)
    sequence = source.draw(256, np.random.default_rng(1))
    best = bits(source.oracle(), sequence)

A source draws its parameters anew for every sequence from a prior (but "hmm", whose parameters
follow from the seed and are known); its oracle is the Bayes predictor of that prior, so no
predictor costs fewer bits on average. "machine" has none: a program's output is free to who knows
the program.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from solomonic.core import ConfigError, Predictor
from solomonic.induction import machine
from solomonic.induction.numbers import SplitMix
from solomonic.induction.oracles import HmmFilter, PeriodicBayes, SwitchingBayes
from solomonic.induction.predictors import ContextTree, Frequencies

Draw = Callable[[int, np.random.Generator], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Source:
    """`draw(length, chance)` is a sequence (length,) uint8; `oracle()` a new best predictor."""

    name: str
    alphabet: int
    draw: Draw
    oracle: Callable[[], Predictor]


def bernoulli(seed: int = 0, alphabet: int = 2) -> Source:
    """Independent symbols of a Dirichlet(1/2) draw; the oracle is the KT estimator."""

    def draw(length: int, chance: np.random.Generator) -> np.ndarray:
        return _symbols(chance, np.tile(_dirichlet(chance, alphabet), (length, 1)))

    return Source("bernoulli", alphabet, draw, lambda: Frequencies(alphabet))


def tree(seed: int = 0, alphabet: int = 2, depth: int = 5) -> Source:
    """A variable-order Markov tree: nodes split with chance 1/2, leaves are Dirichlet(1/2) draws.

    Context-tree weighting of that depth is the exact Bayes predictor.
    """

    def draw(length: int, chance: np.random.Generator) -> np.ndarray:
        leaves: dict[tuple[int, ...], np.ndarray | None] = {}  # None: an inner node
        past = [0] * depth  # newest first
        out = []
        for _ in range(length):
            for level in range(depth + 1):
                context = tuple(past[:level])
                if context not in leaves:
                    inner = level < depth and chance.random() < 0.5
                    leaves[context] = None if inner else _dirichlet(chance, alphabet)
                leaf = leaves[context]
                if leaf is not None:
                    out.append(int(chance.choice(alphabet, p=leaf)))
                    break
            past = [out[-1], *past][:depth]
        return np.array(out, dtype=np.uint8)

    return Source("tree", alphabet, draw, lambda: ContextTree(alphabet, depth))


def hmm(seed: int = 0, alphabet: int = 4, states: int = 3) -> Source:
    """A hidden Markov model, known but for where it is."""
    fixed = np.random.default_rng(seed)
    start = np.full(states, 1 / states)
    moves = np.stack([_dirichlet(fixed, states) for _ in range(states)]) * 0.9 + 0.1 / states
    emits = np.stack([_dirichlet(fixed, alphabet) for _ in range(states)]) * 0.99 + 0.01 / alphabet

    def draw(length: int, chance: np.random.Generator) -> np.ndarray:
        state, out = int(chance.choice(states, p=start)), []
        for _ in range(length):
            out.append(chance.choice(alphabet, p=emits[state]))
            state = int(chance.choice(states, p=moves[state]))
        return np.array(out, dtype=np.uint8)

    return Source("hmm", alphabet, draw, lambda: HmmFilter(start, moves, emits))


def switching(seed: int = 0, alphabet: int = 2, hazard: float = 0.02) -> Source:
    """Independent symbols whose distribution is drawn anew now and then."""

    def draw(length: int, chance: np.random.Generator) -> np.ndarray:
        current, rows = _dirichlet(chance, alphabet), []
        for i in range(length):
            if i and chance.random() < hazard:
                current = _dirichlet(chance, alphabet)
            rows.append(current)
        return _symbols(chance, np.array(rows).reshape(length, alphabet))

    return Source("switching", alphabet, draw, lambda: SwitchingBayes(alphabet, hazard))


def periodic(seed: int = 0, alphabet: int = 4, longest: int = 8, noise: float = 0.02) -> Source:
    """A repeated pattern with a little noise."""

    def draw(length: int, chance: np.random.Generator) -> np.ndarray:
        pattern = chance.integers(0, alphabet, int(chance.integers(1, longest + 1)))
        out = np.resize(pattern, length)
        noisy = chance.random(length) < noise
        return np.where(noisy, chance.integers(0, alphabet, length), out).astype(np.uint8)

    return Source("periodic", alphabet, draw, lambda: PeriodicBayes(alphabet, longest, noise))


SOURCES: dict[str, Callable[[int], Source]] = {
    "bernoulli": bernoulli,
    "tree": tree,
    "hmm": hmm,
    "switching": switching,
    "periodic": periodic,
}
"""Those with an oracle, by name."""


def choose(names: str) -> list[str]:
    """Names of sources from 'a,b' ('all': every one).

    Raises:
        ConfigError: there is no such source.
    """
    wanted = list(SOURCES) if names == "all" else names.split(",")
    for name in wanted:
        if name not in SOURCES and name != "machine":
            raise ConfigError(
                f"there is no source '{name}'; use {', '.join(SOURCES)}, machine or all."
            )
    return wanted


def machine_outputs(
    count: int, length: int, *, alphabet: int = 2, cells: int = 200, seed: int = 0
) -> np.ndarray:
    """`count` outputs of full length of programs drawn from the prior, (count, length) uint8."""
    found, have, batch = [], 0, max(64, 8 * count)
    while have < count:
        drawn = machine.sample(
            batch, length, alphabet=alphabet, cells=cells, steps=8 * length + 200, seed=seed
        )
        whole = drawn.outputs[drawn.printed == length][: count - have]
        found.append(whole)
        have += len(whole)
        seed += 1 << 32  # the next programs
    return np.concatenate(found)


def machine_bounds(
    count: int, length: int, *, alphabet: int = 2, cells: int = 200, seed: int = 0
) -> np.ndarray:
    """Of the outputs that `machine_outputs` gives: log2 7 for each instruction drawn until a symbol
    appeared, (count, length).

    That program alone has so much weight in the universal mixture, so its best predictor pays no
    more for the symbols up to there. Runs the definition: about a second for a thousand programs.
    """
    found: list[list[float]] = []
    batch, most = max(64, 8 * count), 8 * length + 200
    while len(found) < count:
        random = SplitMix(seed)
        for _ in range(batch):
            drawn = _drawn(random, alphabet, cells, most, length)
            if len(drawn) == length and len(found) < count:
                found.append(drawn)
        seed += 1 << 32
    return np.array(found) * np.log2(7)


def _drawn(random: SplitMix, alphabet: int, cells: int, steps: int, length: int) -> list[float]:
    """Instructions drawn when each symbol of one program appeared."""
    program, found = machine.Program(alphabet, cells), []
    while program.steps < steps and len(found) < length:
        if program.waits:
            program.draw(machine.INSTRUCTIONS[random.below(7)])
        else:
            program.step()
        if len(program.output) > len(found):
            found.append(float(len(program.code)))
    return found


def _dirichlet(chance: np.random.Generator, size: int) -> np.ndarray:
    """Dirichlet(1/2), never quite 0, which `choice` would round to."""
    found = np.maximum(chance.dirichlet(np.full(size, 0.5)), 1e-12)
    return found / found.sum()


def _symbols(chance: np.random.Generator, rows: np.ndarray) -> np.ndarray:
    """One symbol a row of probabilities."""
    drawn = chance.random((len(rows), 1))
    return (np.cumsum(rows, axis=1) < drawn).sum(axis=1).clip(0, rows.shape[1] - 1).astype(np.uint8)
