"""One changed tensor: what is said of it in words, and the questions its symbols answer.

A job asks its questions twice over in the same order: the writer with the new tensor at hand, the
reader with the answers that it reads.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solomonic.compress.delta import floats
from solomonic.compress.delta.levels import (
    VALUE_CONTEXTS,
    ZERO_CONTEXTS,
    ZEROS,
    Layout,
    Part,
    Reference,
    Values,
    build,
    check_layout,
    choose_layout,
    first_parts,
)
from solomonic.compress.delta.rules import Rule, moved
from solomonic.compress.matrix import PATTERNS, QuantisedMatrix
from solomonic.core import CheckpointError

Tensor = np.ndarray | QuantisedMatrix
Answers = Sequence[np.ndarray]

FIRST_CONTEXTS = 2 + ZERO_CONTEXTS
SECOND_CONTEXTS = floats.PLANES + VALUE_CONTEXTS
_FLAGS, _MOST_NUMBERS = 1, 1 << 31


class FloatJob:
    """A float array; `shape` is the new one."""

    def __init__(self, old: Tensor | None, shape: tuple[int, ...]) -> None:
        count = int(np.prod(shape, dtype=object))
        if not 1 <= len(shape) <= 4 or min(shape) < 1 or count > _MOST_NUMBERS:
            raise CheckpointError(f"it describes an impossible array {shape}")
        self._old = floats.overlap(old if isinstance(old, np.ndarray) else None, shape)

    def first(self, new: np.ndarray | None) -> list[Part]:
        """Which numbers changed."""
        return [_shifted(floats.flags(self._old, new), _FLAGS)]

    def second(self, first: Answers, new: np.ndarray | None) -> list[Part]:
        """What the changes are."""
        return [floats.planes(self._old, first[0], new)]

    def result(self, first: Answers, second: Answers) -> np.ndarray:
        """The new array."""
        return floats.restore(self._old, first[0], second[0])


class MatrixJob:
    """A quantised matrix.

    Args:
        old: before, with a rule already applied to it; None for a new one.
        layout: None if the levels are the old ones.
        scales: the new scales' shape, None if they are the old ones.
    """

    def __init__(
        self, old: QuantisedMatrix | None, layout: Layout | None, scales: tuple[int, ...] | None
    ) -> None:
        self._old, self._layout = old, layout
        if old is None and (layout is None or scales is None):
            raise CheckpointError("it keeps levels or scales that there are not")
        if layout is not None:
            check_layout(layout)
            self._reference = Reference(old, layout.shape, layout.bits)
            self._values: Values | None = None
        before = None if old is None else old.scales
        self._scales = None if scales is None else _ScalesJob(before, scales)

    def first(self, new: QuantisedMatrix | None) -> list[Part]:
        """Classes of rows, zeros that moved, scales that changed: those of them that are asked."""
        parts: list[Part] = []
        if self._layout is not None:
            levels = None if new is None else new.levels.astype(np.int16)
            for part in first_parts(self._layout, self._reference, levels):
                parts.append(part if part.count == 1 else _shifted(part, _FLAGS + 1))
        if self._scales is not None:
            parts += self._scales.first(None if new is None else new.scales)
        return parts

    def second(self, first: Answers, new: QuantisedMatrix | None) -> list[Part]:
        """Levels, then scales."""
        parts, answers = [], list(first)
        if self._layout is not None:
            classes = answers.pop(0) if self._layout.rows else None
            flips = answers.pop(0) if self._layout.zeros == "moved" else None
            if classes is not None and classes.max() > 8:
                raise CheckpointError("a row has an impossible class")
            self._values = Values(self._layout, self._reference, classes, flips)
            part = self._values.part(None if new is None else new.levels)
            parts.append(_shifted(part, floats.PLANES))
        if self._scales is not None:
            parts += self._scales.second(answers, None if new is None else new.scales)
        return parts

    def result(self, first: Answers, second: Answers) -> QuantisedMatrix:
        """The new matrix."""
        answers, scales = list(second), None if self._old is None else self._old.scales
        levels = None
        if self._layout is not None:
            assert self._values is not None
            levels = self._values.levels(answers.pop(0))
        if self._scales is not None:
            scales = self._scales.result(list(first)[-1:], answers)
        assert scales is not None
        if self._layout is None or levels is None:
            assert self._old is not None
            return dataclasses.replace(self._old, scales=scales)
        return build(self._layout, levels, scales)


_ScalesJob = FloatJob
Job = FloatJob | MatrixJob


def describe(old: Tensor | None, new: Tensor, rule: Rule | None) -> dict[str, Any] | None:
    """What is said in words of a changed tensor; None if it did not change."""
    if isinstance(new, np.ndarray):
        if isinstance(old, np.ndarray) and _same(old, new):
            return None
        return {"k": "f", "s": list(new.shape)}
    before = old if isinstance(old, QuantisedMatrix) else None
    said: dict[str, Any] = {"k": "m"}
    if before is not None and rule is not None:
        said["rule"] = 1
        before = moved(before, rule)
    if before is None or not _same(before.scales, new.scales):
        said["s"] = list(new.scales.shape)
    if before is None or not _same_levels(before, new):
        reference = Reference(before, new.levels.shape, new.bits)
        layout = choose_layout(reference, new)
        said["z"], said["r"] = ZEROS.index(layout.zeros), int(layout.rows)
        if before is None or _form(before) != _form(new):
            pattern = PATTERNS.index(layout.pattern)
            said["form"] = [*layout.shape, layout.bits, pattern, layout.codebook.hex()]
    return said if len(said) > 1 else None


def make_job(old: Tensor | None, said: Mapping[str, Any], rule: Rule | None) -> Job:
    """The job of a changed tensor, from what is said of it.

    Raises:
        CheckpointError, KeyError, TypeError, ValueError: it makes no sense.
    """
    if said["k"] == "f":
        return FloatJob(old, tuple(int(side) for side in said["s"]))
    before = old if isinstance(old, QuantisedMatrix) else None
    if rule is not None:
        if before is None:
            raise CheckpointError("it has a rule for a matrix that is not there")
        before = moved(before, rule)
    layout = None
    if "z" in said:
        form = said.get("form") or (None if before is None else _form(before))
        if form is None:
            raise CheckpointError("it says too little of a new matrix")
        rows, columns, bits, pattern, codebook = form
        layout = Layout(
            (int(rows), int(columns)),
            int(bits),
            PATTERNS[pattern],
            bytes.fromhex(codebook),
            ZEROS[said["z"]],
            bool(said["r"]),
        )
    scales = tuple(int(side) for side in said["s"]) if "s" in said else None
    return MatrixJob(before, layout, scales)


def _form(matrix: QuantisedMatrix) -> list[Any]:
    codebook = "" if matrix.codebook is None else matrix.codebook.tobytes().hex()
    return [*matrix.levels.shape, matrix.bits, PATTERNS.index(matrix.pattern), codebook]


def _same(old: np.ndarray, new: np.ndarray) -> bool:
    """Bit for bit: -0 is not 0."""
    return old.shape == new.shape and old.tobytes() == new.tobytes()


def _same_levels(old: QuantisedMatrix, new: QuantisedMatrix) -> bool:
    return _form(old) == _form(new) and np.array_equal(old.levels, new.levels)


def _shifted(part: Part, by: int) -> Part:
    return Part(part.contexts + by, part.count, part.symbols)
