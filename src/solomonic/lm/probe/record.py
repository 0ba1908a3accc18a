"""What a probe finds out about a model on a text, as plain records."""

import dataclasses
from typing import Any

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerProbe:
    """One layer; what a layer of its kind does not have is None.

    Attributes:
        layer, kind: its number and letter.
        deadbeat: tokens after which what enters its windows has left them for certain (window and
            convolutions); None: it never leaves (full attention).
        half_lives: (H, quantiles) ln 2 / -ln a in tokens, over the text, a head a row.
        effective_rank: (H,) exp of the entropy of the spectrum of the states' second moment.
        hankel: (H, N) Hankel singular values on the text, largest first.
        places: tokens read at each place of the next two.
        reached: (places,) effective number of directions that the tokens so far have driven.
        seen: (places,) effective number of directions that the tokens to come will look at.
        whiteness: p-value, and autocorrelations at lags 1, 2, ... of the layer's innovation.
    """

    layer: int
    kind: str
    deadbeat: int | None
    half_lives: np.ndarray | None = None
    effective_rank: np.ndarray | None = None
    hankel: np.ndarray | None = None
    places: np.ndarray | None = None
    reached: np.ndarray | None = None
    seen: np.ndarray | None = None
    whiteness: "White | None" = None

    def to_json(self) -> dict[str, Any]:
        return _plain(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class White:
    """Is an error unpredictable? The portmanteau test and the correlations it is made of.

    Attributes:
        p_value: chance of correlations this large if the errors were white.
        correlations: (lags,) largest in size over the channels at each lag.
        samples, channels: what was tested.
    """

    p_value: float
    correlations: np.ndarray
    samples: int
    channels: int

    def to_json(self) -> dict[str, Any]:
        return _plain(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Influence:
    """How much the prediction after token t owes to token t - k.

    Token t - k is replaced by another of the text; the effect is the Kullback-Leibler divergence
    of the two predictions in bits, averaged over places.

    Attributes:
        lags: k.
        effect, error: mean over places and its standard error, in bits.
        kept, left: mean where an eidetic memory held the token, and where none did; NaN: no place.
        kept_places, left_places: how many places there were of each.
        places: replaced tokens in all.
        flips: share of places at which the likeliest token changed.
    """

    lags: np.ndarray
    effect: np.ndarray
    error: np.ndarray
    kept: np.ndarray
    left: np.ndarray
    kept_places: np.ndarray
    left_places: np.ndarray
    flips: np.ndarray
    places: int

    def to_json(self) -> dict[str, Any]:
        return _plain(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """A model on a text.

    Attributes:
        model: a name; pattern, window, slots: of its configuration.
        tokens, bytes: of the text read; bits_per_byte: what it cost.
        layers: each layer.
        surprise: whiteness of the cost of the tokens themselves.
        influence: None where there was no time for it.
        seconds: the whole took.
    """

    model: str
    pattern: str
    window: int
    slots: int
    tokens: int
    bytes: int
    bits_per_byte: float
    layers: list[LayerProbe]
    surprise: White | None
    influence: Influence | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return _plain(self)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value
