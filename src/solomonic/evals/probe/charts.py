"""The charts of a probe's page."""

import math

from solomonic.evals.probe.svg import Chart
from solomonic.lm.probe.record import Influence, LayerProbe, Probe, White


def half_lives(shown: Probe) -> Chart | None:
    """A row a head, tokens to the right."""
    layers = [layer for layer in shown.layers if layer.half_lives is not None]
    if not layers:
        return None
    names, rows = [], []
    for layer in layers:
        assert layer.half_lives is not None
        for head, values in enumerate(layer.half_lives.tolist()):
            names.append(f"layer {layer.layer} {layer.kind} · {head}")
            rows.append(values)
    low = 10 ** math.floor(math.log10(max(min(row[0] for row in rows), 1e-3)))
    high = 10 ** math.ceil(math.log10(max(*(row[-1] for row in rows), shown.window, 2)))
    count = len(rows)
    slowest = max(range(count), key=lambda i: rows[i][2])
    chart = Chart(
        "Half-lives of every head",
        f"The longest median is {rows[slowest][2]:.3g} tokens, of {names[slowest]}.",
        (low, high),
        (count, 0),
        (860, 15 * count + 60),
        "x",
        left=110,
    )
    chart.axes("tokens", y_ticks=False)
    if shown.window:
        chart.segment((shown.window, 0), (shown.window, count), "mark", "the window")
    for index, (name, row) in enumerate(zip(names, rows, strict=True)):
        y = index + 0.5
        tip = f"{name}: median {row[2]:.3g}, 5% {row[0]:.3g}, 95% {row[4]:.3g} tokens"
        chart.label(y, name)
        chart.segment((row[0], y), (row[4], y), "whisker", tip)
        chart.segment((row[1], y), (row[3], y), "wide", tip)
        chart.dots([row[2]], [y], "ink")
    return chart


def influence(shown: Probe, found: Influence) -> Chart:
    """Bits against tokens back, both logarithmic."""
    curves = (("one", found.effect), ("two", found.kept), ("three", found.left))
    positive = [v for _, ys in curves for v in ys.tolist() if math.isfinite(v) and v > 0] or [1.0]
    low, high = max(min(positive), 1e-7), max(*positive, 1e-6)
    chart = Chart(
        "Causal influence of a token on later predictions",
        f"{found.effect[0]:.3g} bits one token back, {found.effect[-1]:.2g} at {found.lags[-1]}.",
        (1, float(max(found.lags[-1], 2))),
        (10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))),
        (860, 330),
        "xy",
    )
    chart.axes("tokens back", "bits")
    if 1 < shown.window < found.lags[-1]:
        chart.segment(
            (shown.window, chart.y_range[0]), (shown.window, chart.y_range[1]), "mark", "the window"
        )
    for i, lag in enumerate(found.lags.tolist()):
        mean, error = float(found.effect[i]), float(found.error[i])
        if mean > 0 and error > 0:
            chart.segment(
                (lag, max(mean - error, chart.y_range[0])), (lag, mean + error), "whisker"
            )
    for kind, ys in curves:
        chart.line(found.lags.tolist(), ys.tolist(), kind)
        chart.dots(found.lags.tolist(), ys.tolist(), kind)
    return chart


def hankel(layer: LayerProbe) -> Chart | None:
    """Shares of the largest, a head a line."""
    if layer.hankel is None:
        return None
    top = float(layer.hankel.max()) or 1.0
    count = layer.hankel.shape[1]
    chart = Chart(
        f"Hankel singular values of layer {layer.layer}",
        f"{count} directions a head; the largest is {top:.3g}.",
        (1, max(count, 2)),
        (1e-5, 1),
        logs="y",
    )
    chart.axes("direction", "share")
    for values in layer.hankel.tolist():
        chart.line(range(1, count + 1), [v / top for v in values], "thin")
    return chart


def along(layer: LayerProbe) -> Chart | None:
    """Effective directions driven and looked at, against tokens read."""
    if layer.places is None or layer.reached is None or layer.seen is None or len(layer.places) < 2:
        return None
    high = float(max(layer.reached.max(), layer.seen.max(), 2))
    chart = Chart(
        f"Controllability and observability of layer {layer.layer}",
        f"Driven in {layer.reached.mean():.1f} directions and looked at in {layer.seen.mean():.1f} "
        "on average.",
        (0, float(layer.places[-1])),
        (0, math.ceil(high)),
    )
    chart.axes("tokens read", "directions")
    chart.line(layer.places.tolist(), layer.reached.tolist(), "one")
    chart.line(layer.places.tolist(), layer.seen.tolist(), "two")
    return chart


def correlations(name: str, white: White) -> Chart:
    """Autocorrelations with the band that white errors stay in."""
    values = white.correlations.tolist()
    band = 1.96 / math.sqrt(white.samples)
    high = max(*(abs(v) for v in values), 2 * band)
    outside = sum(abs(v) > band for v in values)
    chart = Chart(
        f"Autocorrelation of {name}",
        f"{outside} of {len(values)} lags lie outside the band of white errors.",
        (0, len(values) + 1),
        (-high, high),
        (340, 180),
    )
    chart.axes("lag", "correlation")
    for edge in (-band, band):
        chart.segment((0, edge), (len(values) + 1, edge), "mark")
    for lag, value in enumerate(values, start=1):
        chart.segment((lag, 0), (lag, value), "stem", f"lag {lag}: {value:.3f}")
    return chart
