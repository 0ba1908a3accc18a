"""The predictors that a `Stack` is made of: trend, season, and what a linear state still finds.

Each is an innovations form: it predicts the next value of what it is given from what came before,
passes the error on, and lets that error correct its state.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np
import scipy.linalg

from solomonic.core.errors import ConfigError
from solomonic.realization.identify import identify
from solomonic.realization.matrices import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A layer on all channels: ŷ = C x, x⁺ = A x + K (r - ŷ), from the state `start`."""

    name: str
    A: Array
    C: Array
    K: Array
    start: Array

    def run(self, rows: Array) -> tuple[Array, Array]:
        """Predictions (T, m) of `rows` (T, m), and the state after them."""
        x = self.start
        closed = self.A - self.K @ self.C
        states = np.empty((len(rows), len(x)))
        drive = rows @ self.K.T
        for t in range(len(rows)):
            states[t] = x
            x = closed @ x + drive[t]
        return states @ self.C.T, x


class Layer(Protocol):
    """What a `Stack` takes: a layer with one smoothness a channel to tune, or none."""

    @property
    def name(self) -> str:
        """Shown in the table of components."""
        ...

    @property
    def span(self) -> int:
        """Samples that its start is fitted on, at least."""
        ...

    @property
    def default(self) -> float | None:
        """log10 of the smoothness where tuning begins; None: nothing to tune."""
        ...

    def fit(self, rows: Array, smoothness: Array, span: int) -> Fitted:
        """The layer on what it is given (T, m), its start fitted on the first `span` samples."""
        ...


@dataclasses.dataclass(frozen=True)
class Trend:
    """A line whose slope drifts: the causal form of the filter of Hodrick and Prescott.

    Attributes:
        smoothness: log10 of the ratio of noise to drift; None is tuned on the series.
    """

    smoothness: float | None = None
    name: str = "trend"

    @property
    def span(self) -> int:
        return 12

    @property
    def default(self) -> float | None:
        return 4.0 if self.smoothness is None else None

    def fit(self, rows: Array, smoothness: Array, span: int) -> Fitted:
        A, C = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[1.0, 0.0]])
        chosen = smoothness if self.smoothness is None else np.full(rows.shape[1], self.smoothness)
        return _every_channel(self.name, A, C, np.diag([0.0, 1.0]), chosen, rows[:span])


@dataclasses.dataclass(frozen=True)
class Season:
    """A pattern that repeats every `period` samples and drifts.

    Attributes:
        period: in samples, not necessarily whole.
        harmonics: sines and cosines; None is all that the period has.
        smoothness: log10 of the ratio of noise to drift; None is tuned on the series.
    """

    period: float
    harmonics: int | None = None
    smoothness: float | None = None

    def __post_init__(self) -> None:
        most = int(self.period // 2)
        if not self.period >= 2 or not 1 <= (self.harmonics or 1) <= most:
            raise ConfigError(
                f"A season needs a period of at least 2 samples and 1 to {max(most, 1)} harmonics; "
                f"they are {self.period} and {self.harmonics}."
            )

    @property
    def name(self) -> str:
        return f"season {self.period:g}"

    @property
    def span(self) -> int:
        return int(np.ceil(3 * self.period))

    @property
    def default(self) -> float | None:
        return 4.0 if self.smoothness is None else None

    def fit(self, rows: Array, smoothness: Array, span: int) -> Fitted:
        blocks: list[Any] = []
        outputs: list[float] = []
        for k in range(1, (self.harmonics or int(self.period // 2)) + 1):
            angle = 2 * np.pi * k / self.period
            if np.isclose(angle, np.pi):
                blocks.append([[-1.0]])
                outputs.append(1.0)
                continue
            cos, sin = np.cos(angle), np.sin(angle)
            blocks.append([[cos, sin], [-sin, cos]])
            outputs += [1.0, 0.0]
        A, C = np.asarray(scipy.linalg.block_diag(*blocks), np.float64), np.array([outputs])
        chosen = smoothness if self.smoothness is None else np.full(rows.shape[1], self.smoothness)
        return _every_channel(self.name, A, C, np.eye(len(A)), chosen, rows[:span])


@dataclasses.dataclass(frozen=True)
class StateLayer:
    """What a stationary linear state still predicts, across channels: `identify`.

    Attributes:
        order: number of states; None selects it, and may find none.
    """

    order: int | None = None
    name: str = "state"

    @property
    def span(self) -> int:
        return 1

    @property
    def default(self) -> float | None:
        return None

    def fit(self, rows: Array, smoothness: Array, span: int) -> Fitted:
        model = identify(rows[span:] - rows[span:].mean(0), self.order).model
        assert model.gain is not None
        return Fitted(self.name, model.A, model.C, model.gain, np.zeros(model.order))


def _every_channel(
    name: str, A: Array, C: Array, drift: Array, smoothness: Array, first: Array
) -> Fitted:
    """The same layer on each channel with a gain and a start of its own."""
    m, n = first.shape[1], len(A)
    gains, starts = np.zeros((n * m, m)), np.empty(n * m)
    rows = [C]
    for _ in range(len(first) - 1):
        rows.append(rows[-1] @ A)
    seen = np.concatenate(rows)
    for channel in range(m):
        place = slice(channel * n, (channel + 1) * n)
        gains[place, channel : channel + 1] = _gain(A, C, drift * 10.0 ** -smoothness[channel])
        starts[place] = np.linalg.lstsq(seen, first[:, channel], rcond=None)[0]
    return Fitted(name, np.kron(np.eye(m), A), np.kron(np.eye(m), C), gains, starts)


def _gain(A: Array, C: Array, Q: Array) -> Array:
    """Kalman gain (n, 1) for noise of variance 1."""
    P = scipy.linalg.solve_discrete_are(A.T, C.T, Q, np.eye(1))
    return A @ P @ C.T / (C @ P @ C.T + 1)
