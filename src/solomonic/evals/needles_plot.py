"""The figure of `solomonic eval needles`: what is known of a fact against how much was read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solomonic.core import DataError
from solomonic.evals.output import save_figure

COLOURS = {"none": "#666666", "reader": "#0072B2", "attention": "#D55E00"}
MARKERS = {"none": "o", "reader": "s", "attention": "^"}
NAMES = {"none": "model alone", "reader": "matches and neighbours", "attention": "memory attention"}
TITLES = {
    ("needles", "question"): "needles, asked",
    ("needles", "continue"): "needles, continued",
    ("babi", "question"): "bAbI stories, asked",
}


def draw(records: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """A panel for each set and form: the right answer chosen (lines, 95% intervals), chance.

    Args:
        records: of `summarise`.

    Raises:
        DataError: there is nothing to draw.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    panels = [key for key in TITLES if any((r["set"], r["form"]) == key for r in records)]
    if not panels:
        raise DataError("there are no results to draw; ask at least one question.")
    figure = Figure(figsize=(3.4 * len(panels) + 0.6, 3.6), layout="constrained")
    for at, key in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), at)
        mine = [r for r in records if (r["set"], r["form"]) == key]
        lengths = sorted({r["length"] for r in mine})
        for i, memory in enumerate(COLOURS):
            line = sorted((r for r in mine if r["memory"] == memory), key=lambda r: r["length"])
            if not line:
                continue
            x = [r["length"] * 1.06 ** (i - 1) for r in line]  # side by side, not one over another
            y = [r["right"] for r in line]
            below = [r["right"] - r["low"] for r in line]
            above = [r["high"] - r["right"] for r in line]
            axes.errorbar(
                x, y, yerr=[below, above], color=COLOURS[memory], marker=MARKERS[memory],
                linewidth=1.4, elinewidth=0.8, capsize=2, label=NAMES[memory],
            )  # fmt: skip
        chance = [(r["length"], r["chance"]) for r in mine]
        axes.plot(*zip(*sorted(set(chance)), strict=True), ":", color="black", label="chance")
        axes.set_xscale("log")
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.minorticks_off()
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("tokens read")
        axes.set_title(TITLES[key], loc="left", fontsize=10.5)
        axes.spines[["top", "right"]].set_visible(False)
        if at == 1:
            axes.set_ylabel("share of answers right")
        if at == len(panels):
            axes.legend(fontsize=7.5, frameon=False, loc="best")
    return save_figure(figure, path)
