"""What a memory keeps over time: weights by when things were written against now.

    kept = watch(read_values("losses.txt"), forgetting_from("changes:16"))
    plot_kept(kept, "kept.svg")

How to read the figure: a column is a moment, a row the step at which something was written; dark is
kept. Nothing is above the diagonal, as it was not written yet.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.core import DataError
from solomonic.evals.output import save_figure
from solomonic.evals.plots import COLOURS
from solomonic.memory.forgetting import Forgetting

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _RED = COLOURS[0], COLOURS[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """Weights of a stream's steps, as time went on.

    Attributes:
        values: (T,) what was observed.
        moments: (M,) steps at which weights were asked for; also the steps asked about.
        weights: (M, M) of what was written at the column's step, at the row's; nan before it was.
        changes: (step when it was seen, step where it was placed) of changes, as first declared.
        final: where changes were placed at the end.
    """

    values: np.ndarray
    moments: np.ndarray
    weights: np.ndarray
    changes: list[tuple[int, int]]
    final: list[int]


def watch(values: Sequence[Any] | np.ndarray, forgetting: Forgetting, most: int = 300) -> Kept:
    """Let a new forgetting observe the values, and ask it at `most` moments or fewer.

    Raises:
        DataError: there are no values, or one is not finite.
    """
    length = len(values)
    if not length:
        raise DataError("there is nothing to observe; the file of losses is empty.")
    moments = np.unique(np.linspace(0, length, min(most, length + 1)).round().astype(np.int64))
    weights = np.full((len(moments), len(moments)), np.nan)
    changes, known, place = [], 0, 1
    weights[0, 0] = 1.0
    for t, value in enumerate(values, start=1):
        forgetting.observe(value)
        found = forgetting.changes()
        if len(found) > known:
            changes.append((t, found[-1]))
        known = len(found)
        if t == moments[place]:
            weights[place, : place + 1] = forgetting.survival(moments[: place + 1])
            place += 1
    return Kept(np.asarray(values), moments, weights, changes, forgetting.changes())


def plot_kept(kept: Kept, path: str | Path, title: str = "") -> Path:
    """Losses with the changes found in them, above the weights of what was written.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 6.4), layout="constrained")
    curve, field = figure.subplots(2, 1, sharex=True, height_ratios=[2, 5])
    _draw_values(curve, kept.values)
    _draw_changes(curve, kept.final)
    edges = np.append(kept.moments, 2 * kept.moments[-1] - kept.moments[-2])
    shades = field.pcolormesh(
        edges, edges, kept.weights.T, cmap="Blues", vmin=0, vmax=1, rasterized=True
    )
    for seen, placed in kept.changes:
        field.plot([seen], [placed], marker="v", color=_RED, markersize=4, clip_on=False)
    _draw_changes(field, kept.final)
    field.set_xlim(0, len(kept.values))
    field.set_ylim(0, len(kept.values))
    field.set_xlabel("now (observations)")
    field.set_ylabel("written at")
    bar = figure.colorbar(shades, ax=[curve, field], shrink=0.6, pad=0.02)
    bar.set_label("weight: probability that it still holds", size=9)
    for axes in (curve, field):
        axes.spines[["top", "right"]].set_visible(False)
    count = len(kept.final)
    found = f"{count} change{'' if count == 1 else 's'} found"
    figure.suptitle(f"{title}: {found}" if title else found, size=10.5, x=0.01, ha="left")
    return save_figure(figure, path)


def plot_items(
    steps: np.ndarray, weights: np.ndarray, changes: Sequence[int], now: int, path: str | Path
) -> Path:
    """A store: each item a dot, when it was written against what it counts for now.

    Args:
        steps, weights: (n,) of the items.
        now: observations so far.

    Raises:
        DataError: there are no items.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not len(steps):
        raise DataError("the memory is empty, so there is nothing to draw.")
    figure = Figure(figsize=(7.6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.scatter(steps, weights, s=9, color=_BLUE, alpha=0.5, linewidths=0, rasterized=True)
    _draw_changes(axes, changes)
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlim(0, max(now, int(np.max(steps)), 1))
    axes.set_xlabel("written at (observations)")
    axes.set_ylabel("weight now")
    axes.spines[["top", "right"]].set_visible(False)
    title = f"{len(steps):,} items worth {weights.sum():,.0f}; changes found: {len(changes)}"
    axes.set_title(title, loc="left", size=10.5)
    return save_figure(figure, path)


def _draw_values(axes: "Axes", values: np.ndarray) -> None:
    """Means of at most 600 pieces and, where pieces have several values, their quartiles."""
    plain = np.asarray(values, dtype=np.float64).reshape(len(values), -1)[:, 0]
    size = max(len(plain) // 600, 1)
    count = len(plain) // size
    pieces = plain[: count * size].reshape(count, size)
    at = (np.arange(count) + 0.5) * size
    if size > 1:
        low, high = np.quantile(pieces, [0.25, 0.75], axis=1)
        axes.fill_between(at, low, high, color="#c8c8c8", linewidth=0)
    axes.plot(at, pieces.mean(axis=1), color="#444444", linewidth=0.8)
    axes.set_ylabel("observed")


def _draw_changes(axes: "Axes", changes: Sequence[int]) -> None:
    for step in changes:
        axes.axvline(step, color=_RED, linewidth=0.8, alpha=0.7)


def read_values(path: str | Path, key: str = "loss") -> np.ndarray:
    """Numbers of a file: .npy, .jsonl (of each line the value called `key`; lines without it are
    left out), or text with numbers between blanks or commas.

    Raises:
        DataError: it cannot be read, or what stands there is no number.
    """
    file = Path(path)
    try:
        if file.suffix == ".npy":
            return np.load(file, allow_pickle=False).astype(np.float64)
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".jsonl":
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
            return np.array([float(one[key]) for one in records if key in one])
        return np.array([float(word) for word in text.replace(",", " ").split()])
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check the path.") from None
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} does not hold numbers only ({error}).") from None
