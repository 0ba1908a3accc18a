"""Figures of the speed benchmark: decoding far into a text, reading, and every target's ratio.

Colour says whose model it is, the marker which kind, a dashed line weights of 8 bits.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.evals.output import save_figure
from solomonic.evals.plots import COLOURS
from speed_plan import PEERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"M": "o", "mamba2": "o", "B": "s", "llama": "^", "T": "^"}
DASHES = {"float32": "-", "int8": "--", "bfloat16": ":", "int4": "-."}
SHOWN = ("float32", "int8")
NAMES = {"ours": "solomonic", "torch": "solomonic (PyTorch)"}
WORDS = {
    "speed-decode": "Tokens decoded a second against the position in the text",
    "speed-prefill": "Tokens read a second against the length of the text",
    "speed-targets": "Every target's ratio over the ratio wanted",
}
POSITION_LABELS = {512: "512", 2_048: "2 k", 4_096: "4 k", 8_192: "8 k", 16_384: "16 k",
                   65_536: "64 k", 1_000_000: "1 M"}  # fmt: skip


def curves(records: Mapping[str, Any], kind: str, size: str, threads: int) -> dict[str, list]:
    """Per contender the points (position or length, median rate), from all cells of a kind."""
    found: dict[str, list] = {}
    for record in records.values():
        what, of, with_threads, point = record["cell"].split("/")
        if (what, of, int(with_threads)) != (kind, size, threads):
            continue
        for label, row in record["rows"].items():
            if row.get("rates"):
                found.setdefault(label, []).append((int(point), statistics.median(row["rates"])))
    return {label: sorted(points) for label, points in found.items()}


def plot_curves(found: Mapping[str, list], title: str, x_label: str, path: Path) -> Path | None:
    """Tokens a second against position or length, on logarithmic axes; lines need two points."""
    figure, axes = _figure(9.0, 4.8)
    for label, points in found.items():
        peer, model, weights = label.split("/")[:3]
        if len(points) < 2 or model not in MARKERS or weights not in DASHES:
            continue
        axes.plot(
            *zip(*points, strict=True),
            color=COLOURS[PEERS.index(peer)],
            marker=MARKERS[model],
            linestyle=DASHES[weights],
            label=f"{NAMES.get(peer, peer)} {model}, {weights}",
        )
    if not axes.lines:
        return None
    _logarithmic(axes, sorted({point for points in found.values() for point, _ in points}))
    axes.set_xlabel(x_label)
    axes.set_ylabel("tokens a second")
    axes.set_title(title, loc="left", size=10.5)
    figure.legend(fontsize=7.5, frameon=False, loc="outside right center", handlelength=4)
    return save_figure(figure, path)


def plot_targets(table: Sequence[Mapping[str, Any]], title: str, path: Path) -> Path | None:
    """Every measured target as its ratio over the wanted one: right of the line is met."""
    rows = [row for row in table if "median" in row]
    if not rows:
        return None
    figure, axes = _figure(9.5, 0.9 + 0.2 * len(rows))
    for place, row in enumerate(reversed(rows)):
        middle, low, high = (row[name] / row["wanted"] for name in ("median", "low", "high"))
        colour = COLOURS[2] if row["verdict"] == "met" else COLOURS[1]
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot([middle], [place], color=colour, marker="o" if row["verdict"] == "met" else "X")
    axes.axvline(1.0, color="#666666", linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(-1, len(rows))
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([f"{r['target']} ≥ {r['wanted']:g}" for r in reversed(rows)], size=7)
    axes.set_xlabel("ratio measured / ratio wanted (median and quartiles)")
    axes.set_title(title, loc="left", size=10.5)
    return save_figure(figure, path)


def plot_all(
    records: Mapping[str, Any], table: Sequence[Mapping[str, Any]], hardware: str, folder: Path
) -> list[Path]:
    """Every figure that has something to show."""
    decoding = curves(records, "decode", "10M", 1)
    reading = curves(records, "prefill", "10M", 1)
    drawn = [
        plot_curves(
            decoding, f"Decoding, 10 M parameters, 1 thread, {hardware}",
            "position in the text", folder / "speed-decode.svg",
        ),
        plot_curves(
            reading, f"Reading a text, 10 M parameters, 1 thread, {hardware}",
            "tokens read", folder / "speed-prefill.svg",
        ),
        plot_targets(table, f"Targets, {hardware}", folder / "speed-targets.svg"),
    ]  # fmt: skip
    return [path for path in drawn if path is not None]


def _logarithmic(axes: "Axes", points: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(points, [POSITION_LABELS.get(point, f"{point:,}") for point in points])
    axes.minorticks_off()
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
