"""Bilinear systems x⁺ = x (A₀ + Σ uᵢ Aᵢ), y = x · stop, from experiments with inputs.

After t steps the output is a sum over words of t letters, each a product of inputs (letter 0: one)
with the coefficient start · A_σ1 ⋯ A_σt · stop. So the coefficients of Fliess's series are a linear
regression, and their Hankel matrix gives the system (Isidori, 1973): from exact experiments it is
exact, from noisy ones as good as the regression.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import DataError, ShapeError
from solomonic.realization.automaton import Automaton, realize_automaton
from solomonic.realization.errors import TooFewSamplesError
from solomonic.realization.matrices import Array, as_array, positive_int


def identify_bilinear(
    inputs: ArrayLike,
    outputs: ArrayLike,
    order: int | None = None,
    *,
    length: int = 2,
    tolerance: float = 1e-8,
) -> Automaton:
    """The bilinear system of experiments that all begin in the same state.

    Args:
        inputs: (N, T, i).
        outputs: (N, T); the output at t is made by the inputs before t (`Automaton.respond`).
        order: number of states; None is the rank of the coefficients' table.
        length: of the longest prefixes and suffixes in the table; the first 2 · length + 2 outputs
            are used.
        tolerance: singular values of the table below this share of the largest count as zero; with
            noise give `order`, or about the noise over the size of the outputs.

    Raises:
        ShapeError: arrays that do not fit, or experiments shorter than 2 · length + 2.
        TooFewSamplesError: fewer experiments than coefficients, (i + 1) ** (2 · length + 1).
        DataError: not finite, or inputs that do not tell the coefficients apart.
        NotMinimalError: `order` is more than the rank.
    """
    u, y = as_array("inputs", inputs), as_array("outputs", outputs)
    length = positive_int("length", length)
    if u.ndim != 3 or y.shape != u.shape[:2]:
        raise ShapeError(
            f"inputs must be (N, T, i) and outputs (N, T); they are {u.shape} and {y.shape}."
        )
    longest = 2 * length + 1
    letters = u.shape[2] + 1
    if u.shape[1] < longest + 1:
        raise ShapeError(
            f"experiments of {u.shape[1]} samples are too short; words of {longest} letters need "
            f"{longest + 1}."
        )
    if len(u) < letters**longest:
        raise TooFewSamplesError(
            f"{len(u)} experiments are too few for {letters**longest} coefficients; give more, or "
            "a smaller length."
        )
    if not (np.isfinite(u).all() and np.isfinite(y).all()):
        raise DataError("inputs or outputs hold NaN or infinity.")
    table = [_coefficients(u[:, :t], y[:, t], letters) for t in range(longest + 1)]
    return realize_automaton(
        lambda word: float(table[len(word)][word]), letters, length, order, tolerance=tolerance
    )


def _coefficients(u: Array, y: Array, letters: int) -> Array:
    """f(word) of all words of t letters, (letters,) * t, from N outputs after t inputs."""
    products = np.ones((len(y), 1))
    for t in range(u.shape[1]):
        now = np.concatenate([np.ones((len(y), 1)), u[:, t]], axis=1)
        products = (products[:, :, None] * now[:, None]).reshape(len(y), -1)
    found, _, rank, _ = np.linalg.lstsq(products, y, rcond=1e-12)
    if rank < products.shape[1]:
        raise DataError(
            f"The inputs tell only {rank} of {products.shape[1]} coefficients of words of "
            f"{u.shape[1]} letters apart; vary them independently of each other and of time."
        )
    return found.reshape((letters,) * u.shape[1])
