"""Word errors against the bytes of a model's file: what compression costs, in one picture.

The points come from a result file of `benchmarks/compression.py`, a JSON object whose "rows" have

    {"name": "4 bits, 50% zeros", "kind": "rounded", "bytes": 1873024,
     "errors": {"AN4": {"greedy": {"wer": 0.105, "low": 0.08, "high": 0.13}}}}

Errors are shares; "low" and "high" may be missing. Rows of one kind are joined by a line.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from solomonic.core import DataError
from solomonic.evals.output import save_figure
from solomonic.evals.plots import COLOURS, MARKERS

_TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)  # percent
_LEAST = 0.2  # percent; where no error would be, on an axis that has no zero


@dataclasses.dataclass(frozen=True)
class Point:
    """One model on one test set, the error and its interval as shares."""

    name: str
    kind: str
    bytes: int
    test: str
    wer: float
    low: float
    high: float


def load_points(path: str | Path, method: str = "greedy") -> list[Point]:
    """The points of a result file, for one way of searching.

    Raises:
        DataError: the file is missing or holds no such rows.
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"))
        rows = record["rows"]
        found = [
            _point(row, test, by[method])
            for row in rows
            for test, by in row["errors"].items()
            if method in by
        ]
        methods = sorted({name for row in rows for by in row["errors"].values() for name in by})
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the path.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} holds no sizes and errors ({type(error).__name__}: {error}); give a result "
            "file of `make bench ARGS=compression`."
        ) from error
    if not found:
        known = f"; it has {', '.join(methods)}" if methods else ""
        raise DataError(f"{path} has no errors of '{method}'{known}.")
    return found


def plot_tradeoff(points: Sequence[Point], path: str | Path) -> Path:
    """A panel for each test set, both axes logarithmic, intervals as bars.

    Raises:
        DataError: there are no points.
        StorageError: the file cannot be written.
    """
    if not points:
        raise DataError("there are no points to draw; measure some files first.")
    from matplotlib.figure import Figure

    tests = list(dict.fromkeys(point.test for point in points))
    kinds = list(dict.fromkeys(point.kind for point in points))
    figure = Figure(figsize=(1.2 + 3.1 * len(tests), 4.2), layout="constrained")
    panels = figure.subplots(1, len(tests), squeeze=False)[0]
    for axes, test in zip(panels, tests, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        own = [point for point in points if point.test == test]
        for index, kind in enumerate(kinds):
            _curve(axes, sorted((p for p in own if p.kind == kind), key=lambda p: p.bytes), index)
        _scales(axes, own)
        axes.set_title(test, loc="left", size=10.5)
        axes.set_xlabel("MB of the file")
    panels[0].set_ylabel("word errors, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return save_figure(figure, path)


def _curve(axes: Any, points: Sequence[Point], index: int) -> None:
    if not points:
        return
    sizes = [point.bytes / 1e6 for point in points]
    errors = [max(100 * point.wer, _LEAST) for point in points]
    below = [max(y - max(100 * p.low, _LEAST), 0) for y, p in zip(errors, points, strict=True)]
    above = [max(100 * p.high - y, 0) for y, p in zip(errors, points, strict=True)]
    axes.errorbar(
        sizes,
        errors,
        yerr=(below, above),
        color=COLOURS[index % len(COLOURS)],
        marker=MARKERS[index % len(MARKERS)],
        markersize=5,
        linewidth=1.5,
        elinewidth=0.8,
        label=points[0].kind,
    )


def _scales(axes: Any, points: Sequence[Point]) -> None:
    """Logarithmic, with ticks at sizes that are there and at round errors."""
    sizes = sorted({round(point.bytes / 1e6, 1) for point in points})
    axes.set_xscale("log")
    apart = [s for i, s in enumerate(sizes) if i == 0 or s / sizes[i - 1] > 1.15]
    axes.set_xticks(apart, [f"{size:g}" for size in apart])
    axes.set_yscale("log")
    low = max(100 * min(point.low for point in points), _LEAST)
    high = max(100 * max(point.high for point in points), low)
    inside = [tick for tick in _TICKS if low / 2.5 <= tick <= high * 2.5]
    axes.set_yticks(inside, [f"{tick:g}" for tick in inside])
    axes.minorticks_off()


def _point(row: Mapping[str, Any], test: str, error: Mapping[str, float]) -> Point:
    wer = float(error["wer"])
    low, high = float(error.get("low", wer)), float(error.get("high", wer))
    return Point(str(row["name"]), str(row["kind"]), int(row["bytes"]), test, wer, low, high)
