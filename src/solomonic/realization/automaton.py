"""Weighted automata and bilinear systems from their Hankel matrices.

A symbol chooses the matrix that moves the state: f(word) = start · A_σ1 ⋯ A_σk · stop. The rank of
the table f(prefix + suffix) is the number of states (Fliess), and one singular value decomposition
gives them: exactly from exact values, and from counts of a long sequence nearly so. Driven by real
inputs the same object is a bilinear system, x⁺ = (A₀ + Σ uᵢ Aᵢ) x (Isidori; Brockett).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import CheckpointError, ShapeError, VocabularyError
from solomonic.realization.errors import NotMinimalError, TooFewSamplesError, UnstableError
from solomonic.realization.linear import invertible
from solomonic.realization.matrices import (
    Array,
    as_array,
    matrix,
    positive_int,
    series,
    spectral_radius,
)

Word = Sequence[int]
FLOOR = 1e-6
"""Least share of a uniform guess in a prediction: estimated automata can give negative numbers."""


@dataclasses.dataclass(frozen=True, eq=False)
class Automaton:
    """f(word) = start · A[σ1] ⋯ A[σk] · stop, with n states over an alphabet of s symbols.

    Attributes:
        start: (n,).
        maps: (s, n, n).
        stop: (n,).
    """

    start: Array
    maps: Array
    stop: Array

    def __post_init__(self) -> None:
        start, maps, stop = (
            as_array(name, getattr(self, name)) for name in ("start", "maps", "stop")
        )
        n = len(start)
        if start.ndim != 1 or stop.shape != (n,) or maps.ndim != 3 or maps.shape[1:] != (n, n):
            raise ShapeError(
                f"An automaton of {n} states has start (n,), maps (symbols, n, n) and stop "
                "(n,); they "
                f"are {start.shape}, {maps.shape} and {stop.shape}."
            )
        for name, value in (("start", start), ("maps", maps), ("stop", stop)):
            object.__setattr__(self, name, value)

    @property
    def order(self) -> int:
        """The number of states."""
        return len(self.start)

    @property
    def alphabet(self) -> int:
        """The number of symbols."""
        return len(self.maps)

    def state(self, word: Word) -> Array:
        """start · A[σ1] ⋯ A[σk], (n,)."""
        state = self.start
        for symbol in word:
            state = state @ self.maps[check_symbol(symbol, self.alphabet)]
        return state

    def value(self, word: Word) -> float:
        """f(word)."""
        return float(self.state(word) @ self.stop)

    def transform(self, change: ArrayLike) -> Automaton:
        """The same function with the (row) state z = x · change⁻¹."""
        change = invertible(change, self.order)
        back = np.linalg.inv(change)
        return Automaton(self.start @ back, change @ self.maps @ back, change @ self.stop)

    def predictor(self, floor: float = FLOOR) -> AutomatonPredictor:
        """A sequential predictor of the process whose word probabilities f gives."""
        return AutomatonPredictor(self, floor)

    def respond(self, inputs: ArrayLike) -> Array:
        """Outputs (T,) of the bilinear system x⁺ = x (A₀ + Σ uᵢ Aᵢ), y = x · stop, from `start`.

        `inputs` (T, s - 1) drive the maps after the first, which acts at every step. y[t] is what
        the inputs before t make.
        """
        u = series("inputs", inputs, self.alphabet - 1)
        out = np.empty(len(u))
        state = self.start
        for t, row in enumerate(u):
            out[t] = state @ self.stop
            state = state @ (self.maps[0] + np.tensordot(row, self.maps[1:], 1))
        return out


class AutomatonPredictor:
    """P(next symbol | past) of an automaton, with the methods of `core.Predictor`."""

    def __init__(self, automaton: Automaton, floor: float = FLOOR) -> None:
        self.automaton, self.floor = automaton, floor
        self.alphabet = automaton.alphabet
        self._state = automaton.start

    def predict(self) -> Array:
        """Probabilities (alphabet,), each at least floor / alphabet; they sum to 1."""
        shares = np.maximum(self._state @ (self.automaton.maps @ self.automaton.stop).T, 0.0)
        total = shares.sum()
        uniform = 1 / self.alphabet
        known = shares / total if total > 0 else np.full(self.alphabet, uniform)
        return (1 - self.floor) * known + self.floor * uniform

    def update(self, symbol: int) -> float:
        """Read the symbol that came; -log2 of its probability."""
        symbol = check_symbol(symbol, self.alphabet)
        bits = -math.log2(self.predict()[symbol])
        state = self._state @ self.automaton.maps[symbol]
        total = float(state @ self.automaton.stop)
        # A word that the automaton holds impossible says nothing: begin again.
        self._state = state / total if total > 1e-12 else self.automaton.start
        return bits

    def fork(self) -> AutomatonPredictor:
        """A copy that goes its own way."""
        other = AutomatonPredictor(self.automaton, self.floor)
        other._state = self._state
        return other

    def state(self) -> bytes:
        """What was read, as a few bytes with a checksum; the automaton is not in it."""
        values = np.ascontiguousarray(self._state, "<f8").tobytes()
        return values + zlib.crc32(self._mark() + values).to_bytes(4, "little")

    def load(self, data: bytes) -> AutomatonPredictor:
        """A predictor with the same automaton that has read what the one of `data` had.

        Raises:
            CheckpointError: the bytes are cut, damaged, or of another automaton.
        """
        values = data[:-4]
        check = zlib.crc32(self._mark() + values).to_bytes(4, "little")
        if len(values) != 8 * self.automaton.order or data[-4:] != check:
            raise CheckpointError(
                "This state is cut short, damaged, or of another automaton; save it again."
            )
        other = self.fork()
        other._state = np.frombuffer(values, "<f8").astype(np.float64)
        return other

    def _mark(self) -> bytes:
        """What tells one automaton from another."""
        parts = (self.automaton.start, self.automaton.maps, self.automaton.stop)
        return b"".join(np.ascontiguousarray(part, "<f8").tobytes() for part in parts)


def check_symbol(symbol: int, alphabet: int) -> int:
    """`symbol`, if it is in the alphabet."""
    if not 0 <= symbol < alphabet:
        raise VocabularyError(f"symbol {symbol} is not in the alphabet of {alphabet}.")
    return int(symbol)


def hidden_markov(transition: ArrayLike, emission: ArrayLike) -> Automaton:
    """The stationary process of a hidden Markov chain as an automaton.

    Args:
        transition: (n, n), rows sum to 1.
        emission: (n, s) probabilities of symbols in each state.

    Raises:
        ShapeError: sizes that do not fit, or rows that are no probabilities.
    """
    move = matrix("transition", transition)
    emit = matrix("emission", emission, rows=len(move))
    for name, rows in (("transition", move), ("emission", emit)):
        if (rows < 0).any() or not np.allclose(rows.sum(1), 1, atol=1e-9):
            raise ShapeError(f"The rows of {name} must be probabilities that sum to 1.")
    n = len(move)
    equations = np.vstack([move.T - np.eye(n), np.ones((1, n))])
    start = np.linalg.lstsq(equations, np.append(np.zeros(n), 1.0), rcond=None)[0]
    maps = np.stack([emit[:, symbol, None] * move for symbol in range(emit.shape[1])])
    return Automaton(start, maps, np.ones(n))


def words(alphabet: int, length: int) -> list[tuple[int, ...]]:
    """All words of up to `length` symbols, the empty one first."""
    return [
        word for k in range(length + 1) for word in itertools.product(range(alphabet), repeat=k)
    ]


def realize_automaton(
    function: Callable[[tuple[int, ...]], float],
    alphabet: int,
    length: int = 2,
    order: int | None = None,
    *,
    tolerance: float = 1e-10,
) -> Automaton:
    """The smallest automaton of a function of words, asked on words of up to 2 · length + 1.

    Of a bilinear system take the coefficients of its (Volterra) series as the function.

    Args:
        function: f(word), exact to rounding.
        alphabet: number of symbols.
        length: of the longest prefixes and suffixes in the table; at least what tells states apart.
        order: number of states; None is the rank, singular values below `tolerance` times the
            largest counting as zero.
        tolerance: see `order`.

    Raises:
        NotMinimalError: `order` is more than the rank.
    """
    table = words(positive_int("alphabet", alphabet), positive_int("length", length))
    values: dict[tuple[int, ...], float] = {}

    def ask(word: tuple[int, ...]) -> float:
        if word not in values:
            values[word] = float(function(word))
        return values[word]

    H = np.array([[ask(u + v) for v in table] for u in table])
    shifted = np.array(
        [[[ask((*u, symbol, *v)) for v in table] for u in table] for symbol in range(alphabet)]
    )
    return _from_tables(H, shifted, order, tolerance)


def _from_tables(H: Array, shifted: Array, order: int | None, tolerance: float) -> Automaton:
    """The automaton of f(uv) and f(uσv); row and column 0 belong to the empty word."""
    U, s, Vt = np.linalg.svd(H)
    rank = int((s > tolerance * s[0]).sum()) if s[0] > 0 else 0
    n = rank if order is None else positive_int("order", order)
    if n > rank:
        raise NotMinimalError(
            f"{n} states were asked for, but the table has rank {rank}; ask for fewer, or "
            "for longer "
            "prefixes and suffixes."
        )
    half = np.sqrt(s[:n])
    left, right = U[:, :n] * half, half[:, None] * Vt[:n]
    maps = (U[:, :n] / half).T @ shifted @ (Vt[:n].T / half)
    return Automaton(left[0], maps, right[:, 0])


def identify_automaton(
    symbols: ArrayLike, alphabet: int, order: int | None = None, *, length: int = 2
) -> Automaton:
    """The automaton of a stationary sequence of symbols, from its counts of words.

    Args:
        symbols: (T,) whole numbers below `alphabet`.
        alphabet: number of symbols.
        order: number of states; None keeps singular values above the noise of the counts.
        length: of the longest prefixes and suffixes that are counted.

    Raises:
        TooFewSamplesError: fewer than 10 symbols for each word of length 2 · length + 1.
        UnstableError: what was found is no stationary process (probabilities would grow).
    """
    sequence = np.asarray(symbols)
    if sequence.ndim != 1 or sequence.dtype.kind not in "iu":
        raise ShapeError("symbols must be one row of whole numbers.")
    alphabet, length = positive_int("alphabet", alphabet), positive_int("length", length)
    if len(sequence) and not 0 <= int(sequence.min()) <= int(sequence.max()) < alphabet:
        check_symbol(int(sequence.min()), alphabet)
        check_symbol(int(sequence.max()), alphabet)
    needed = 10 * alphabet ** (2 * length + 1)
    if len(sequence) < needed:
        raise TooFewSamplesError(
            f"{len(sequence)} symbols are too few to count words of {2 * length + 1}; give "
            "at least "
            f"{needed}, or a smaller length."
        )
    shares = _shares(sequence.astype(np.int64), alphabet, 2 * length + 1)
    table = words(alphabet, length)
    H = np.array([[shares[len(u) + len(v)][u + v] for v in table] for u in table])
    shifted = np.array(
        [
            [[shares[len(u) + 1 + len(v)][(*u, symbol, *v)] for v in table] for u in table]
            for symbol in range(alphabet)
        ]
    )
    noise = math.sqrt(1 / len(sequence)) * 3
    found = _from_tables(H, shifted, order, noise / float(np.linalg.norm(H, 2)))
    radius = spectral_radius(found.maps.sum(0))
    if radius > 1 + 10 * noise:
        raise UnstableError(
            f"The automaton found has total weight growing by {radius:.4g} a symbol, so it is no "
            "process; ask for fewer states or give more symbols."
        )
    return found


def _shares(sequence: np.ndarray, alphabet: int, longest: int) -> list[Array]:
    """shares[k][word] = how often a place begins that word of k symbols, k = 0 ... longest.

    All lengths are counted at the same places, so shorter words are exact sums of longer ones.
    """
    places = len(sequence) - longest + 1
    codes = np.zeros(places, np.int64)
    for k in range(longest):
        codes = codes * alphabet + sequence[k : k + places]
    counts = np.bincount(codes, minlength=alphabet**longest).reshape((alphabet,) * longest)
    shares: list[Array] = [counts / places]
    for _ in range(longest):
        shares.append(shares[-1].sum(-1))
    return shares[::-1]
