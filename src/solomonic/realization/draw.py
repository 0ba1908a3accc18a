"""Figures: what chose the order, what is left in the residuals, the parts of a series.

Matplotlib is imported when a figure is drawn; the type of file follows the ending of the name.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from solomonic.core.errors import ConfigError, ShapeError
from solomonic.core.files import write_whole
from solomonic.realization.change import Changes
from solomonic.realization.identify import Identified
from solomonic.realization.matrices import Array, as_array
from solomonic.realization.stack import Stack
from solomonic.realization.video import as_bytes
from solomonic.realization.whiteness import Whiteness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def draw_identified(found: Identified, path: str | Path) -> Path:
    """Correlations of past and future beside the criterion; the order chosen is marked."""
    figure, (left, right) = _figure(1, 2, (8.0, 2.8))
    shown = found.correlations[: max(12, 2 * found.order + 4)]
    numbers = np.arange(1, len(shown) + 1)
    colours = [BLUE if n <= found.order else "#bbbbbb" for n in numbers]
    left.bar(numbers, shown, color=colours)
    left.set_xlabel("number")
    left.set_title("correlation of past and future", loc="left", size=10)
    if len(found.criterion):
        right.plot(np.arange(len(found.criterion)), found.criterion, "o-", color=BLUE, ms=4)
        right.plot(found.order, found.criterion[found.order], "o", color=ORANGE, ms=8)
        right.annotate(
            f"{found.order} states",
            (found.order, found.criterion[found.order]),
            xytext=(4, 12),
            textcoords="offset points",
            color=ORANGE,
        )
    right.set_xlabel("states")
    right.set_title("criterion (nats)", loc="left", size=10)
    return _save(figure, path)


def draw_whiteness(tests: dict[str, Whiteness], samples: int, path: str | Path) -> Path:
    """Correlations of the first channel by lag, a panel a series, within the 95 % band or not."""
    if not tests:
        raise ConfigError("There is nothing to draw: give at least one test.")
    figure, axes = _figure(1, len(tests), (3.8 * len(tests), 2.6))
    band = 1.96 / np.sqrt(samples)
    for axis, (name, test) in zip(np.atleast_1d(axes), tests.items(), strict=True):
        values = test.correlations[:, 0, 0]
        lags = np.arange(1, len(values) + 1)
        axis.axhspan(-band, band, color="#dddddd")
        axis.vlines(lags, 0, values, color=BLUE)
        axis.plot(lags, values, "o", color=BLUE, ms=3)
        axis.set_xlabel("lag")
        axis.set_title(f"{name}: p = {test.p_value:.2g}", loc="left", size=10)
    return _save(figure, path)


def draw_stack(
    stack: Stack, y: ArrayLike, path: str | Path, found: Changes | None = None, channel: int = 0
) -> Path:
    """The series, each layer's part, the last error and, if given, the score of change."""
    parts = stack.components(y)
    total = parts.values.sum(0) + parts.residual
    rows: list[tuple[str, Array]] = [("series", total[:, channel])]
    rows += [(name, part[:, channel]) for name, part in zip(parts.names, parts.values, strict=True)]
    rows.append(("error", parts.residual[:, channel]))
    if found is not None:
        rows.append(("score of change", found.score))
    figure, axes = _figure(len(rows), 1, (8.0, 1.0 * len(rows) + 0.4), sharex=True)
    for axis, (name, values) in zip(axes, rows, strict=True):
        axis.plot(values, color=BLUE, lw=0.8)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", size=9)
    if found is not None:
        axes[-1].axhline(found.threshold, color=GREY, lw=0.8, ls="--")
        for alarm in found.alarms:
            axes[0].axvline(alarm, color=ORANGE, lw=1)
    return _save(figure, path)


def draw_frames(
    rows: dict[str, ArrayLike], path: str | Path, *, every: int = 4, count: int = 8
) -> Path:
    """Strips of frames (T, height, width), one a name, `every` frames apart, in one grey scale."""
    strips = {name: as_array(name, frames)[::every][:count] for name, frames in rows.items()}
    if not strips or any(frames.ndim != 3 or not len(frames) for frames in strips.values()):
        raise ShapeError("rows must each hold frames (time, height, width).")
    low = min(float(frames.min()) for frames in strips.values())
    high = max(float(frames.max()) for frames in strips.values())
    figure, axes = _figure(len(strips), count, (count * 0.9 + 1.2, len(strips) * 0.95))
    for line, (name, frames) in zip(np.atleast_2d(axes), strips.items(), strict=True):
        for axis in line:
            axis.axis("off")
        for axis, image in zip(line, as_bytes(frames, (low, high)), strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=255)
        line[0].text(-0.15, 0.5, name, transform=line[0].transAxes, ha="right", va="center", size=9)
    return _save(figure, path)


def _figure(rows: int, columns: int, size: Sequence[float], **options: Any) -> tuple[Figure, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("Figures need matplotlib; pip install matplotlib.") from error
    figure = Figure(figsize=(size[0], size[1]), layout="constrained")
    axes = figure.subplots(rows, columns, **options)
    for axis in np.atleast_1d(axes).flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    file = io.BytesIO()
    kind = path.suffix.lstrip(".").lower() or "png"
    if kind not in ("png", "svg", "pdf"):
        raise ConfigError(f"{path.name} must end in .png, .svg or .pdf.")
    figure.savefig(file, format=kind, dpi=110)
    write_whole(path, file.getvalue())
    return path
