"""The memory map as a page and as a figure; what it shows is found by `solomonic.lm.memory_map`.

How to read the figure: a row is a moment, a column a token. At a moment the layer sees the band on
the diagonal (its window) and the vertical lines that cross the row (its eidetic slots).
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.core import ConfigError
from solomonic.evals.output import save_figure, write_one
from solomonic.lm.memory_map import LayerMemory as LayerMemory
from solomonic.lm.memory_map import MemoryMap as MemoryMap
from solomonic.lm.memory_map import memory_map as memory_map

LEVELS = 10
"""Shades of innovation on the page."""


_STYLE = """
body { font: 15px/1.75 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
p.note { color: #555; margin: .2rem 0 .8rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0;
      font: 14px/1.9 ui-monospace, monospace; }
.k { border-bottom: 3px solid #0072b2; } .g { border-bottom: 2px dotted #0072b2; }
"""
# A single hue from white to dark orange: order is readable without telling colours apart.
_SHADES = [
    "#ffffff", "#fff5ea", "#feead2", "#fddcb4", "#fdca92",
    "#fdb56d", "#fd9d47", "#f98329", "#ee6a12", "#dc5305",
]  # fmt: skip


_BLUE = "#0072b2"


def save_html(shown: MemoryMap, path: str | Path, title: str = "Memory map") -> Path:
    """Write the map as one self-contained page, a section a layer.

    Raises:
        StorageError: the file cannot be written.
    """
    shades = "".join(f".l{level} {{ background: {c}; }}\n" for level, c in enumerate(_SHADES))
    legend = "".join(f'<span class="l{level}">&ensp;</span>' for level in range(LEVELS))
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}{shades}</style></head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n"
        f'<p class="note">Innovation, low to high {legend}. '
        '<span class="k">Solid</span>: kept to the end of the text. '
        '<span class="g">Dotted</span>: kept for a while. Point at a token for its figures.</p>\n'
    )
    body = "".join(_section(shown, layer) for layer in shown.layers)
    return write_one(path, lambda file: file.write_text(f"{head}{body}</body></html>\n", "utf-8"))


def _section(shown: MemoryMap, layer: LayerMemory) -> str:
    since, until = layer.lifetimes()
    levels = _levels(layer.innovation)
    last = set(layer.final.tolist())
    spans = []
    for position, piece in enumerate(shown.pieces):
        kept = f", kept {since[position]}–{until[position]}" if since[position] >= 0 else ""
        mark = " k" if position in last else (" g" if kept else "")
        tip = f"token {position}, innovation {layer.innovation[position]:.3f}{kept}"
        spans.append(
            f'<span class="l{levels[position]}{mark}" title="{tip}">'
            f"{html.escape(piece).replace(chr(10), '↵' + chr(10))}</span>"
        )
    used = f"{len(last)} of {layer.kept.shape[1]} slots hold a token at the end"
    passed = f"{int((since >= 0).sum()) - len(last)} more were kept for a while"
    return (
        f'<section><h2>Layer {layer.layer}</h2>\n<p class="note">{used}; {passed}.</p>\n'
        f"<pre>{''.join(spans)}</pre></section>\n"
    )


def _levels(innovation: np.ndarray) -> np.ndarray:
    """Shade of each token, 0 .. LEVELS - 1, by rank: innovations differ by orders of magnitude."""
    ranks = np.argsort(np.argsort(innovation, kind="stable"), kind="stable")
    return ranks * LEVELS // max(len(ranks), 1)


def save_picture(shown: MemoryMap, path: str | Path) -> Path:
    """Draw the map into a PNG, SVG or PDF file, by the ending of the name; a panel a layer.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    rows = len(shown.layers)
    figure = Figure(figsize=(8, 3.1 * rows + 0.6), layout="constrained")
    grid = figure.add_gridspec(2 * rows, 1, height_ratios=[1, 3] * rows, hspace=0.02)
    for row, layer in enumerate(shown.layers):
        strip = figure.add_subplot(grid[2 * row])
        panel = figure.add_subplot(grid[2 * row + 1], sharex=strip)
        _draw_layer(strip, panel, shown, layer)
    figure.get_axes()[-1].set_xlabel("token")
    figure.suptitle(
        "What each layer sees: its window (grey), its eidetic slots (blue; dark: kept to the end)",
        size=10.5,
    )
    return save_figure(figure, path)


def _draw_layer(strip: Any, panel: Any, shown: MemoryMap, layer: LayerMemory) -> None:
    length = len(shown.pieces)
    since, until = layer.lifetimes()
    last = np.zeros(length, dtype=bool)
    last[layer.final] = True
    positions = np.arange(length)

    top = max(float(np.quantile(layer.innovation, 0.995)), 1e-12)
    colours = np.where(last, _BLUE, "#f0c987")
    strip.bar(positions, np.minimum(layer.innovation, top), width=1.0, color=colours)
    strip.set_ylabel("innovation", size=8)
    strip.set_title(f"layer {layer.layer}", loc="left", size=10)
    strip.tick_params(labelbottom=False, labelsize=8)

    edge = np.array([0, min(shown.window, length), length])
    panel.fill_betweenx(edge, np.maximum(edge - shown.window, 0), edge, color="#d9d9d9", lw=0)
    for chosen, colour in (((since >= 0) & ~last, "#8cc1e3"), (last, _BLUE)):
        panel.vlines(positions[chosen], since[chosen], until[chosen], colors=colour, lw=1)
    panel.set_xlim(-0.5, length - 0.5)
    panel.set_ylim(length, 0)
    panel.set_ylabel("tokens read", size=8)
    panel.tick_params(labelsize=8)
    for axes in (strip, panel):
        axes.spines[["top", "right"]].set_visible(False)


def kept_text(shown: MemoryMap, layer: int) -> Sequence[str]:
    """The pieces that `layer` kept to the end of the text, in order."""
    found = next((entry for entry in shown.layers if entry.layer == layer), None)
    if found is None:
        known = [entry.layer for entry in shown.layers]
        raise ConfigError(f"layer {layer} has no eidetic memory; choose one of {known}.")
    return [shown.pieces[position] for position in found.final]
