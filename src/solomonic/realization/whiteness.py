"""Is a prediction error unpredictable? Tests of whiteness for one channel or many.

An optimal state leaves residuals that nothing in the past predicts; these tests ask exactly that of
the residuals of any model, a language model's losses included.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from solomonic.core.errors import ConfigError, DataError
from solomonic.realization.errors import TooFewSamplesError
from solomonic.realization.matrices import Array, positive_int, series


@dataclasses.dataclass(frozen=True, eq=False)
class Whiteness:
    """Hosking's portmanteau test (Ljung and Box's for many channels).

    Attributes:
        statistic: chi-squared with `degrees` degrees of freedom if the series is white.
        degrees: channels² · lags - parameters.
        p_value: chance of so large a statistic from a white series; below 0.05 it is not white.
        terms: (lags,) what each lag adds to the statistic; channels² on average if white.
        correlations: (lags, m, m) of e_{t} and e_{t-k}, k = 1 ... lags.
    """

    statistic: float
    degrees: int
    p_value: float
    terms: Array
    correlations: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Periodogram:
    """Bartlett's cumulative periodogram of each channel against a straight line.

    Attributes:
        frequencies: (F,) cycles a sample.
        cumulative: (F, m) share of the power up to each frequency.
        statistic: (m,) largest distance from the line.
        p_value: (m,) Kolmogorov's, for each channel.
    """

    frequencies: Array
    cumulative: Array
    statistic: Array
    p_value: Array


def whiteness(errors: ArrayLike, lags: int = 20, parameters: int = 0) -> Whiteness:
    """Test prediction errors (T, m) for correlation at lags 1 ... `lags`.

    `parameters` counts what was fitted on the same samples (`Identified.parameters`): fitted
    residuals look whiter than true ones.

    Raises:
        TooFewSamplesError: fewer than lags + channels + 2 samples.
        ConfigError: no degree of freedom is left.
        DataError: the channels are constant or depend on each other.
    """
    e = series("errors", errors)
    samples, m = e.shape
    lags = positive_int("lags", lags)
    if samples < lags + m + 2:
        raise TooFewSamplesError(
            f"{samples} errors are too few for {lags} lags; give more, or fewer lags."
        )
    degrees = m * m * lags - positive_int("parameters", parameters, least=0)
    if degrees < 1:
        raise ConfigError(
            f"{lags} lags test nothing beyond {parameters} parameters; take more lags."
        )
    e = e - e.mean(0)
    try:
        factor = np.linalg.cholesky(e.T @ e / samples)
    except np.linalg.LinAlgError:
        raise DataError(
            "The errors are constant, or one channel follows from the others."
        ) from None
    white = np.linalg.solve(factor, e.T).T
    correlations = np.stack(
        [white[k:].T @ white[: samples - k] / samples for k in range(1, lags + 1)]
    )
    remaining = samples - np.arange(1, lags + 1)
    terms = samples**2 / remaining * (correlations**2).sum((1, 2))
    total = float(terms.sum())
    p_value = float(scipy.special.chdtrc(degrees, total))
    scale = np.sqrt(np.diag(factor @ factor.T))
    plain = factor @ correlations @ factor.T / np.outer(scale, scale)
    return Whiteness(total, degrees, p_value, terms, plain)


def periodogram_test(errors: ArrayLike) -> Periodogram:
    """Test each channel for power that is not spread evenly: finds periods that lags may miss."""
    e = series("errors", errors)
    if len(e) < 16:
        raise TooFewSamplesError(
            f"{len(e)} errors are too few for a periodogram; give at least 16."
        )
    power = np.abs(np.fft.rfft(e - e.mean(0), axis=0)[1 : (len(e) - 1) // 2 + 1]) ** 2
    if (power.sum(0) == 0).any():
        raise DataError("A channel of the errors is constant.")
    cumulative = np.cumsum(power, 0) / power.sum(0)
    count = len(power)
    line = np.arange(1, count + 1) / count
    above = (cumulative - line[:, None]).max(0)
    below = (line[:, None] - cumulative).max(0)
    distance = np.maximum(above, below)
    p_value = scipy.special.kolmogorov(distance * math.sqrt(count - 1))
    frequencies = np.arange(1, count + 1) / len(e)
    return Periodogram(frequencies, cumulative, distance, p_value)
