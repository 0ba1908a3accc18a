"""Matrices: which symbols tell new levels from old ones, and in which contexts.

Three questions about a matrix, each answered in contexts that the reader has already:

rows   how much of a row changed, in classes by halves (0: nothing, and nothing more is written;
       REPLACED: the new levels are written as they are). Left out where rows are alike.
zeros  for patterns whose zeros moved: which units (16 outputs at an input, or four inputs of an
       output) are zero now, in the context of what the unit was and how large.
values for each weight that is not known to be zero, new - old, turned so that away from zero is
       positive, in the context of its row's class and of |old|.

Levels are compared as whole numbers, never in the packed bit stream, where one changed weight
changes its neighbours' bits.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from solomonic.compress.delta.tables import entropy_bits, table_bits
from solomonic.compress.matrix import VECTOR, QuantisedMatrix, by_vectors
from solomonic.core import CheckpointError

ROW_CLASSES, REPLACED = 9, 8
BUCKETS, _OUTSIDE, _BORN = 36, 34, 35
ZERO_CONTEXTS = 64
VALUE_CONTEXTS = ROW_CLASSES * BUCKETS
_MOST_WEIGHTS = 1 << 31
ZEROS = ("ignored", "kept", "moved")
_LIMITS = np.array([1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97])  # buckets of 8-bit levels
_ENERGIES = np.array([2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 256])


@dataclasses.dataclass(frozen=True)
class Layout:
    """What of a new matrix is said in words before its symbols.

    zeros: "kept": zero units are those of the reference; "moved": they are written; "ignored": the
        pattern has no units worth a question.
    rows: whether rows have classes.
    """

    shape: tuple[int, int]
    bits: int
    pattern: str
    codebook: bytes
    zeros: str
    rows: bool


@dataclasses.dataclass(frozen=True)
class Part:
    """Symbols (n,) uint8 and their contexts (n,) below `count`; without symbols while reading."""

    contexts: np.ndarray
    count: int
    symbols: np.ndarray | None = None


class Reference:
    """Old levels in the shape of the new ones; zeros where there were none.

    levels: (N, K) int16. inside: (N, K) bool, None where the shapes are equal.
    """

    def __init__(self, old: QuantisedMatrix | None, shape: tuple[int, int], like: int) -> None:
        """like: bits of the new matrix; levels of other bits are no reference."""
        self.levels = np.zeros(shape, np.int16)
        self.inside: np.ndarray | None = None
        rows, columns = (0, 0) if old is None or old.bits != like else old.levels.shape
        if old is not None:
            rows, columns = min(rows, shape[0]), min(columns, shape[1])
            self.levels[:rows, :columns] = old.levels[:rows, :columns]
        if (rows, columns) != shape:
            self.inside = np.zeros(shape, bool)
            self.inside[:rows, :columns] = True

    def buckets(self, bits: int) -> np.ndarray:
        """(N, K) uint8 context of |old|: exact for few bits, by halves of an octave for eight."""
        sizes = np.abs(self.levels)
        small = np.searchsorted(_LIMITS, sizes, "right") if bits == 8 else np.minimum(sizes, 33)
        found = small.astype(np.uint8)
        if self.inside is not None:
            found[~self.inside] = _OUTSIDE
        return found


def choose_layout(reference: Reference, new: QuantisedMatrix) -> Layout:
    """How the symbols of `new` become fewest."""
    levels = new.levels.astype(np.int16)
    layout = Layout(
        new.levels.shape,
        new.bits,
        new.pattern,
        b"" if new.codebook is None else new.codebook.tobytes(),
        "ignored",
        rows=False,
    )
    if new.codebook is None:
        before = _units(reference.levels, new.pattern)
        now = _units(levels, new.pattern)
        if reference.inside is None and np.array_equal(before, now):
            layout = dataclasses.replace(layout, zeros="kept")
        elif new.pattern in ("2:4", "vec16"):
            layout = dataclasses.replace(layout, zeros="moved")
    rows = dataclasses.replace(layout, rows=True)
    classes = row_classes(reference, levels)
    costs = [_cost(choice, reference, levels, classes) for choice in (layout, rows)]
    return rows if costs[1] < costs[0] else layout


def row_classes(reference: Reference, levels: np.ndarray) -> np.ndarray:
    """(N,) uint8 class of each row."""
    changes = levels.astype(np.int64) - reference.levels
    rates = (changes != 0).mean(axis=1) if changes.shape[1] else np.zeros(len(changes))
    halves = np.floor(-np.log2(np.maximum(rates, 2.0**-20))).astype(np.int64)
    classes = np.where(rates > 0, 1 + np.clip(halves, 0, 6), 0)
    # Levels that have nothing to do with the old ones are further from them than from zero.
    unlike = (changes**2).sum(axis=1) >= (levels.astype(np.int64) ** 2).sum(axis=1)
    classes[unlike & (rates > 0.5)] = REPLACED
    return classes.astype(np.uint8)


def first_parts(layout: Layout, reference: Reference, levels: np.ndarray | None) -> Iterator[Part]:
    """Rows, then zeros; what of them the layout asks for. `levels`: the new ones, when writing."""
    if layout.rows:
        symbols = None if levels is None else row_classes(reference, levels)
        yield Part(np.zeros(layout.shape[0], np.int64), 1, symbols)
    if layout.zeros == "moved":
        before = _units(reference.levels, layout.pattern)
        contexts = _unit_contexts(reference.levels, before, layout.pattern)
        symbols = None if levels is None else (before ^ _units(levels, layout.pattern)).ravel()
        yield Part(contexts.ravel(), ZERO_CONTEXTS, symbols)


class Values:
    """The last question, once the answers to the others are known.

    Args:
        classes: (N,) of the rows, None where they have none.
        flips: symbols of the zeros' question, None where it was not asked.
    """

    def __init__(
        self,
        layout: Layout,
        reference: Reference,
        classes: np.ndarray | None,
        flips: np.ndarray | None,
    ) -> None:
        self._reference = reference.levels
        buckets = reference.buckets(layout.bits)
        known = np.zeros(layout.shape, bool)  # weights whose new level needs no symbol
        if layout.zeros != "ignored":
            before = _units(reference.levels, layout.pattern)
            units = before if flips is None else before ^ flips.reshape(before.shape)
            alive = _expand(units, layout.pattern, layout.shape)
            known |= ~alive
            if layout.zeros == "moved":
                born = alive & ~_expand(before, layout.pattern, layout.shape)
                buckets[born & (buckets == 0)] = _BORN
        self._dead = known.copy()
        if classes is None:
            classes = np.ones(layout.shape[0], np.uint8)
        known[classes == 0] = True
        self._dead[classes == 0] = False
        self._places = np.flatnonzero(~known)
        rows = np.repeat(classes, layout.shape[1])[self._places].astype(np.int64)
        self._as_they_are = rows == REPLACED
        bucket = np.where(self._as_they_are, 0, buckets.ravel()[self._places])
        self.contexts = rows * BUCKETS + bucket
        self._old = reference.levels.ravel()[self._places]

    def part(self, levels: np.ndarray | None) -> Part:
        """The symbols of new levels (N, K); their contexts alone for None."""
        if levels is None:
            return Part(self.contexts, VALUE_CONTEXTS)
        new = levels.ravel()[self._places].astype(np.int16)
        change = np.where(self._old < 0, self._old - new, new - self._old)
        symbols = np.where(self._as_they_are, new, change).astype(np.uint8)
        return Part(self.contexts, VALUE_CONTEXTS, symbols)

    def levels(self, symbols: np.ndarray) -> np.ndarray:
        """(N, K) int8 new levels from the symbols."""
        change = symbols.astype(np.int8).astype(np.int16)
        new = np.where(self._old < 0, self._old - change, self._old + change)
        found = self._reference.astype(np.int8)
        found[self._dead] = 0
        found.ravel()[self._places] = np.where(self._as_they_are, change, new).astype(np.int8)
        return found


def build(layout: Layout, levels: np.ndarray, scales: np.ndarray) -> QuantisedMatrix:
    """The new matrix.

    Raises:
        ConfigError, ShapeError: the layout is impossible.
    """
    codebook = np.frombuffer(layout.codebook, np.int8).copy() if layout.codebook else None
    return QuantisedMatrix(levels, scales, layout.bits, layout.pattern, codebook)


def check_layout(layout: Layout) -> None:
    """Refuse what no writer says.

    Raises:
        CheckpointError: it cannot be read with a meaning.
    """
    rows, columns = layout.shape
    if min(layout.shape) < 1 or rows * columns > _MOST_WEIGHTS:
        raise CheckpointError(f"it describes an impossible matrix {layout.shape}")


def _units(levels: np.ndarray, pattern: str) -> np.ndarray:
    """uint8, one for each unit: not 0 where it lives; for "2:4" a bit for each of four inputs."""
    outputs, inputs = levels.shape
    if pattern == "vec16":
        return np.asarray(by_vectors(levels != 0).any(axis=1), np.uint8)
    if pattern == "2:4":
        groups = -(-inputs // 4)
        whole = np.zeros((outputs, groups * 4), np.uint8)
        whole[:, :inputs] = levels != 0
        bits = np.array([1, 2, 4, 8], np.uint8)
        return np.asarray((whole.reshape(outputs, groups, 4) * bits).sum(axis=2), np.uint8)
    return np.asarray(levels != 0, np.uint8)


def _expand(units: np.ndarray, pattern: str, shape: tuple[int, int]) -> np.ndarray:
    """(N, K) bool from units."""
    if pattern == "vec16":
        return np.repeat(units > 0, VECTOR, axis=0)[: shape[0]]
    if pattern == "2:4":
        bits = units[..., None] >> np.arange(4, dtype=np.uint8) & 1
        return bits.reshape(shape[0], -1)[:, : shape[1]] > 0
    return units > 0


def _unit_contexts(levels: np.ndarray, units: np.ndarray, pattern: str) -> np.ndarray:
    """int64, one for each unit: what it was and how large, for small ones are zeroed first."""
    outputs, inputs = levels.shape
    sizes = np.abs(levels).astype(np.int64)
    if pattern == "vec16":
        energy = by_vectors(sizes).sum(axis=1)
        return np.where(units > 0, 1 + np.searchsorted(_ENERGIES, energy, "right"), 0)
    whole = np.zeros((outputs, units.shape[1] * 4), np.int64)
    whole[:, :inputs] = sizes
    whole[whole == 0] = 128
    least = whole.reshape(outputs, -1, 4).min(axis=2)
    return units.astype(np.int64) * 4 + np.minimum(least, 3)


def _cost(layout: Layout, reference: Reference, levels: np.ndarray, classes: np.ndarray) -> float:
    """Bits that the rows and values take, about; zeros cost the same in every choice."""
    flips = None
    if layout.zeros == "moved":
        flips = _units(reference.levels, layout.pattern) ^ _units(levels, layout.pattern)
    values = Values(layout, reference, classes if layout.rows else None, flips)
    part = values.part(levels)
    assert part.symbols is not None
    joint = np.bincount(part.contexts * 256 + part.symbols, minlength=256 * part.count)
    histograms = joint.reshape(-1, 256)
    # Tables are shared between matrices, so that one pays for a part of them.
    bits = float(entropy_bits(histograms).sum() + table_bits(histograms).sum() / 4)
    if layout.rows:
        bits += float(entropy_bits(np.bincount(classes, minlength=256)))
    return bits
