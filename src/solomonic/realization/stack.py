"""Forecasting by stacked residuals: trend, season and state, each on what the one before left over.

The form of STRIC (Zancato, Achille, Paolini, Chiuso and Soatto 2021) with linear layers: the series
is the sum of what the layers predict and of one last error, exactly; that error should be white,
and where it stops being what it was, something has changed (`anomalies`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from solomonic.core.errors import ConfigError
from solomonic.realization.change import ChangeConfig, Changes, find_changes
from solomonic.realization.errors import TooFewSamplesError
from solomonic.realization.identify import autoregression_losses
from solomonic.realization.kalman import Forecast
from solomonic.realization.layers import Fitted, Layer
from solomonic.realization.matrices import Array, positive_int, series, symmetric
from solomonic.realization.stochastic import StateSpace, from_innovations
from solomonic.realization.whiteness import Whiteness, whiteness


@dataclasses.dataclass(frozen=True, eq=False)
class Components:
    """One-step predictions of a series (T, m), layer by layer.

    Attributes:
        names: of the layers.
        values: (layers, T, m); values.sum(0) + residual is the series, exactly.
        residual: (T, m) what no layer predicted.
    """

    names: tuple[str, ...]
    values: Array
    residual: Array


class Stack:
    """Layers that predict in turn: `Stack([Trend(), Season(24), StateLayer()]).fit(y)`.

    After `fit`:
        layers: the fitted layers.
        model: all of them as one process in innovations form, roots on the unit circle included.
        warmup: samples at the start that the layers' starts were fitted on; left out of tests.
        smoothness: (layers, m) what was tuned or given, NaN where there is nothing to tune.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        if not layers:
            raise ConfigError("A stack needs at least one layer, such as Trend().")
        self.plan = tuple(layers)

    def fit(self, y: ArrayLike, *, tune: bool = True) -> Stack:
        """Fit all layers to a series (T, m), the smoothness of all of them together if `tune`.

        Tuning makes the part that an autoregression on the last error cannot predict as small as it
        gets, channel by channel: what the state will explain is not forced into trend or season.

        Raises:
            TooFewSamplesError: fewer than four times what the starts are fitted on.
        """
        rows = series("y", y)
        self.warmup = max(layer.span for layer in self.plan)
        if len(rows) < 4 * self.warmup:
            raise TooFewSamplesError(
                f"{len(rows)} samples are too few for these layers; give at least "
                f"{4 * self.warmup}, or a shorter season."
            )
        self.smoothness = np.array(
            [
                [np.nan if layer.default is None else layer.default] * rows.shape[1]
                for layer in self.plan
            ]
        )
        if tune:
            for channel in range(rows.shape[1]):
                self._tune(rows, channel)
        self.layers = self._fit(rows, self.plan, self.smoothness)
        errors = self._run(rows)[1][self.warmup :]
        self.covariance = symmetric(errors.T @ errors / len(errors))
        self.model = self._composed()
        self.residual = errors
        self._series = rows
        return self

    def _fit(self, rows: Array, plan: Sequence[Layer], smoothness: Array) -> tuple[Fitted, ...]:
        fitted, rest = [], rows
        for layer, chosen in zip(plan, smoothness, strict=True):
            fitted.append(layer.fit(rest, chosen, self.warmup))
            rest = rest - fitted[-1].run(rest)[0]
        return tuple(fitted)

    def _tune(self, rows: Array, channel: int) -> None:
        """Choose the smoothness of the layers that have one, for one channel."""
        places = [k for k, layer in enumerate(self.plan) if layer.default is not None]
        if not places:
            return
        plan = [layer for layer in self.plan if not _is_state(layer)]
        own = rows[:, channel : channel + 1]
        smoothness = self.smoothness[: len(plan), channel : channel + 1].copy()
        most = min(12, (len(rows) - self.warmup) // 20)

        def loss(values: Array) -> float:
            smoothness[places, 0] = np.clip(values, -2, 9)
            rest = own
            for layer in self._fit(own, plan, smoothness):
                rest = rest - layer.run(rest)[0]
            rest = rest[self.warmup :]
            if float(rest.std()) <= 1e-12 * float(np.abs(own).max(initial=1e-300)):
                return -100.0
            return float(autoregression_losses(rest - rest.mean(0), most)[-1])

        first = self.smoothness[places, channel]
        options = {"maxfev": 40 * len(places), "xatol": 0.1, "fatol": 1e-4}
        best = scipy.optimize.minimize(loss, first, method="Nelder-Mead", options=options).x
        self.smoothness[places, channel] = np.clip(best, -2, 9)

    def _run(self, rows: Array) -> tuple[Array, Array, list[Array]]:
        """Predictions (layers, T, m), the last error (T, m) and the states after the series."""
        values, states, rest = [], [], rows
        for layer in self.layers:
            value, state = layer.run(rest)
            values.append(value)
            states.append(state)
            rest = rest - value
        return np.stack(values), rest, states

    def _composed(self) -> StateSpace:
        """All layers as one innovations form: layer l is driven by all that comes after it."""
        sizes = [len(layer.start) for layer in self.layers]
        edges = np.concatenate([[0], np.cumsum(sizes)])
        A = np.zeros((edges[-1], edges[-1]))
        for k, layer in enumerate(self.layers):
            own = slice(edges[k], edges[k + 1])
            A[own, own] = layer.A
            for later in range(k + 1, len(self.layers)):
                A[own, edges[later] : edges[later + 1]] = layer.K @ self.layers[later].C
        C = np.hstack([layer.C for layer in self.layers])
        K = np.vstack([layer.K for layer in self.layers])
        return from_innovations(A, C, K, self.covariance)

    def components(self, y: ArrayLike | None = None) -> Components:
        """What each layer predicts of a series that begins as the fitted one did (None: that)."""
        values, residual, _ = self._run(self._rows(y))
        return Components(tuple(layer.name for layer in self.layers), values, residual)

    def predict(self, steps: int, y: ArrayLike | None = None) -> Forecast:
        """The next `steps` values after a series (None: the fitted one), with their covariances."""
        steps = positive_int("steps", steps)
        x = np.concatenate(self._run(self._rows(y))[2])
        model = self.model
        P = np.zeros((model.order, model.order))
        means = np.empty((steps, model.outputs))
        covariances = np.empty((steps, model.outputs, model.outputs))
        for h in range(steps):
            means[h] = model.C @ x
            covariances[h] = symmetric(model.C @ P @ model.C.T + model.R)
            x, P = model.A @ x, symmetric(model.A @ P @ model.A.T + model.Q)
        return Forecast(means, covariances)

    def whiteness(self, lags: int = 20) -> Whiteness:
        """Whether anything is left to predict in the last error."""
        parameters = sum(2 * len(layer.start) * self.model.outputs for layer in self._states())
        return whiteness(self.residual, lags, min(parameters, self.model.outputs**2 * lags - 1))

    def _states(self) -> list[Fitted]:
        pairs = zip(self.layers, self.plan, strict=True)
        return [fitted for fitted, layer in pairs if _is_state(layer)]

    def anomalies(
        self, y: ArrayLike | None = None, *, false_alarms: float = 1e-3, **settings: int
    ) -> Changes:
        """Where the last error of a series stops being what it was when fitted.

        `y` is a series that begins where the fitted one did and may go on after it. Alarms in a
        series without change are at most `false_alarms` a sample on average; see `find_changes`.
        """
        rows = self._rows(y)
        errors = self._run(rows)[1][self.warmup :]
        config = ChangeConfig(false_alarms=false_alarms, **settings)
        found = find_changes(errors, self.residual, config)
        return found.shifted(self.warmup)

    def _rows(self, y: ArrayLike | None) -> Array:
        return self._series if y is None else series("y", y, self.model.outputs)


def _is_state(layer: Layer) -> bool:
    """Whether the layer explains what tuning leaves to an autoregression."""
    return layer.span == 1
