"""Gramians of diagonal systems in closed form: no equation is solved.

Of x⁺ = diag(a) x + B u, y = C x the entries are (B B*)ij / (1 - ai āj) and (C* C)ij / (1 - āi aj).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import ShapeError
from solomonic.realization.errors import UnstableError


def diagonal_gramians(a: ArrayLike, B: ArrayLike, C: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Reachability and observability Gramians (n, n) of poles a (n,), B (n, i) and C (m, n).

    All may be complex.

    Raises:
        ShapeError: sizes that do not fit.
        UnstableError: a pole on the unit circle or outside it.
    """
    poles, B, C = np.atleast_1d(np.asarray(a)), np.asarray(B), np.asarray(C)
    n = len(poles)
    if poles.ndim != 1 or B.ndim != 2 or C.ndim != 2 or len(B) != n or C.shape[1] != n:
        raise ShapeError(
            f"{n} poles need B (n, inputs) and C (outputs, n); they are {B.shape} and {C.shape}."
        )
    largest = float(np.abs(poles).max(initial=0.0))
    if not largest < 1:
        raise UnstableError(f"A Gramian needs poles within the unit circle, not {largest:.6g}.")
    reached = B @ B.conj().T / (1 - np.outer(poles, poles.conj()))
    seen = C.conj().T @ C / (1 - np.outer(poles.conj(), poles))
    return reached, seen
