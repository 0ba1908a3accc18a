"""A picture of a lattice as SVG: time to the right, the best path through the middle.

Every arc runs in a lane of its own for as long as it lasts, so that no label covers another. Arcs
are as thick and dark as they are probable; the best path is blue. The text needs no other file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from solomonic.core import StorageError
from solomonic.speech.lattice.graph import Lattice
from solomonic.speech.lattice.paths import best_path
from solomonic.speech.lattice.posterior import arc_posteriors

_BLUE, _GREY, _PALE = "#0072B2", "#333333", "#999999"  # blue: Okabe and Ito's
_FONT = "system-ui, 'DejaVu Sans', Helvetica, Arial, sans-serif"
_SIZE, _SMALL = 14.0, 10.0  # of letters, px
_LETTER = 0.62  # width of a letter in its size, of the widest of those fonts
_LANE = 27.0  # px between lanes
_MARGIN = 34.0
_APART = 7.0  # px between what shares a lane
_NARROW, _WIDE = 900.0, 2000.0  # px, of the time axis
_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)


def draw_lattice(lattice: Lattice, title: str | None = None) -> str:
    """SVG text. `prune` a lattice of more than about 100 arcs first.

    Args:
        lattice: of words or pieces.
        title: line above; None: what the best path says.
    """
    layout = _Layout(lattice)
    top = -min(layout.lane) * _LANE + 2.2 * _MARGIN
    bottom = top + max(layout.lane) * _LANE + _MARGIN
    width = layout.x[-1] + _MARGIN
    height = bottom + 1.6 * _MARGIN
    texts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{_FONT}" role="img">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        *_heading(layout, title),
        *_axis(lattice, layout, bottom),
    ]
    order = np.argsort(layout.posteriors, kind="stable").tolist()  # the probable ones on top
    order.sort(key=lambda arc: arc in layout.best)
    texts += [_curve(layout, arc, top) for arc in order]
    texts += list(_dots(layout, top))
    texts += [_label(layout, arc, top) for arc in order]
    return "\n".join([*texts, "</svg>"]) + "\n"


def save_lattice_svg(lattice: Lattice, path: str | Path, title: str | None = None) -> Path:
    """Write `draw_lattice` to a file.

    Raises:
        StorageError: it cannot be written.
    """
    path = Path(path)
    try:
        path.write_text(draw_lattice(lattice, title), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}.") from error
    return path


@dataclass
class _Lane:
    """What stands in a lane: (left, right, left node, right node)."""

    taken: list[tuple[float, float, int, int]] = field(default_factory=list)

    def fits(self, left: float, right: float, nodes: tuple[int, int]) -> bool:
        """Whether there is room; arcs that meet in a node may touch there."""
        for other_left, other_right, source, target in self.taken:
            before = 0.0 if target == nodes[0] else _APART
            after = 0.0 if source == nodes[1] else _APART
            if left < other_right + before and other_left < right + after:
                return False
        return True


class _Layout:
    """Where everything is: x of nodes (px), lanes of arcs and nodes (0 in the middle)."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self.posteriors = arc_posteriors(lattice)
        path = best_path(lattice)
        self.text, self.best = path.text, set(path.arcs)
        self.sources, self.targets = lattice.sources.tolist(), lattice.targets.tolist()
        self.words = [lattice.symbols[label] or "ε" for label in lattice.labels.tolist()]
        self.numbers = [f"{p:.2f}".lstrip("0") if p >= 0.005 else "" for p in self.posteriors]
        self.widths = [
            len(word) * _SIZE * _LETTER + (len(number) + 1) * _SMALL * _LETTER + 6.0
            for word, number in zip(self.words, self.numbers, strict=True)
        ]
        self.scale = self._scale()
        start = int(lattice.frames[0])
        self.x = (_MARGIN + (lattice.frames - start) * self.scale).tolist()
        self.lane, self.node_lane = self._lanes()

    def _scale(self) -> float:
        """Px per frame, so that the labels of the best path have room, within limits."""
        frames = self.lattice.frames
        length = max(1, int(frames[-1] - frames[0]))
        needed = [
            (self.widths[arc] + 26.0) / (frames[self.targets[arc]] - frames[self.sources[arc]])
            for arc in self.best
            if frames[self.targets[arc]] > frames[self.sources[arc]]
        ]
        return float(min(max([_NARROW / length, *needed]), _WIDE / length))

    def middle(self, arc: int) -> float:
        """X of the label's middle, within the picture."""
        half = self.widths[arc] / 2
        middle = (self.x[self.sources[arc]] + self.x[self.targets[arc]]) / 2
        return min(max(middle, half + 4.0), max(self.x[-1] + _MARGIN - half - 4.0, half + 4.0))

    def _lanes(self) -> tuple[list[int], list[int]]:
        """The best path first, the probable arcs next to it, each where there is room."""
        lanes: dict[int, _Lane] = {}
        lane_of = [0] * len(self.words)
        node_lane: dict[int, int] = {}
        order = sorted(
            range(len(self.words)), key=lambda arc: (arc not in self.best, -self.posteriors[arc])
        )
        for arc in order:
            source, target = self.sources[arc], self.targets[arc]
            middle, half = self.middle(arc), self.widths[arc] / 2
            left = min(self.x[source], middle - half)
            right = max(self.x[target], middle + half)
            lane = next(
                index
                for index in _outward()
                if lanes.setdefault(index, _Lane()).fits(left, right, (source, target))
            )
            lanes[lane].taken.append((left, right, source, target))
            lane_of[arc] = lane
            for node in (source, target):
                node_lane.setdefault(node, 0 if arc in self.best else lane)
        return lane_of, [node_lane[node] for node in range(self.lattice.nodes)]


def _outward() -> Iterator[int]:
    """0, 1, -1, 2, -2, ..."""
    yield 0
    lane = 1
    while True:
        yield lane
        yield -lane
        lane += 1


def _style(layout: _Layout, arc: int) -> tuple[str, float, float]:
    """Colour, opacity, thickness."""
    posterior = float(layout.posteriors[arc])
    if arc in layout.best:
        return _BLUE, 1.0, 1.5 + 3.5 * posterior
    return _GREY, 0.25 + 0.6 * posterior**0.5, 1.0 + 3.5 * posterior


def _curve(layout: _Layout, arc: int, top: float) -> str:
    """From the source into the lane, along it, and out to the target."""
    source, target = layout.sources[arc], layout.targets[arc]
    x0, x1 = layout.x[source], layout.x[target]
    y0, y1 = (top + layout.node_lane[node] * _LANE for node in (source, target))
    y = top + layout.lane[arc] * _LANE
    bend = min(26.0, (x1 - x0) / 2)
    half = bend / 2
    path = (
        f"M{x0:.1f} {y0:.1f}"
        f"C{x0 + half:.1f} {y0:.1f} {x0 + half:.1f} {y:.1f} {x0 + bend:.1f} {y:.1f}"
        f"H{x1 - bend:.1f}"
        f"C{x1 - half:.1f} {y:.1f} {x1 - half:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    )
    colour, opacity, thickness = _style(layout, arc)
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity="{opacity:.2f}" '
        f'stroke-width="{thickness:.1f}"/>'
    )


def _label(layout: _Layout, arc: int, top: float) -> str:
    """The word and its probability on white; more of it when pointed at."""
    lattice = layout.lattice
    x, y = layout.middle(arc), top + layout.lane[arc] * _LANE
    width = layout.widths[arc]
    colour, opacity, _ = _style(layout, arc)
    begin, end = (lattice.arc_spans()[arc] * lattice.frame_seconds).tolist()
    told = (
        f"{layout.words[arc]}: {begin:.2f} to {end:.2f} s, probability "
        f"{layout.posteriors[arc]:.3f}, acoustic {lattice.acoustic[arc]:.2f}, "
        f"bias {lattice.bias[arc]:.2f}"
    )
    look = f'fill="{colour}" fill-opacity="{max(opacity, 0.6):.2f}"'
    look += ' font-weight="bold"' if arc in layout.best else ""
    return (
        f"<g><title>{escape(told)}</title>"
        f'<rect x="{x - width / 2:.1f}" y="{y - 10:.1f}" width="{width:.1f}" height="20" rx="4" '
        f'fill="white" fill-opacity="0.92"/>'
        f'<text x="{x:.1f}" y="{y + 5:.1f}" text-anchor="middle" font-size="{_SIZE:.0f}" '
        f"{look}>{escape(layout.words[arc])}"
        f'<tspan dx="4" font-size="{_SMALL:.0f}" font-weight="normal">{layout.numbers[arc]}</tspan>'
        "</text></g>"
    )


def _dots(layout: _Layout, top: float) -> Iterator[str]:
    on_best = {node for arc in layout.best for node in (layout.sources[arc], layout.targets[arc])}
    for node, x in enumerate(layout.x):
        colour, radius = (_BLUE, 4.0) if node in on_best else (_GREY, 2.5)
        y = top + layout.node_lane[node] * _LANE
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def _heading(layout: _Layout, title: str | None) -> Iterator[str]:
    text = layout.text if title is None else title
    yield (
        f'<text x="{_MARGIN:.0f}" y="26" font-size="{_SIZE + 1:.0f}" font-weight="bold" '
        f'fill="{_GREY}">{escape(text or "(no words)")}</text>'
    )
    yield (
        f'<text x="{_MARGIN:.0f}" y="42" font-size="{_SMALL:.0f}" fill="{_PALE}">blue: best path; '
        "thickness and number: probability</text>"
    )


def _axis(lattice: Lattice, layout: _Layout, y: float) -> Iterator[str]:
    """Seconds, with a pale line up the picture at every mark."""
    left, right = layout.x[0], layout.x[-1]
    start = float(lattice.frames[0]) * lattice.frame_seconds
    per_second = layout.scale / lattice.frame_seconds
    step = next((step for step in _STEPS if step * per_second >= 50.0), _STEPS[-1])
    yield f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="{_PALE}"/>'
    for mark in range(int(np.ceil(start / step - 1e-9)), int(lattice.seconds / step + 1e-9) + 1):
        x = left + (mark * step - start) * per_second
        yield f'<path d="M{x:.1f} 52V{y + 5:.1f}" stroke="{_PALE}" stroke-opacity="0.3"/>'
        yield (
            f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" '
            f'font-size="{_SMALL + 1:.0f}" fill="{_GREY}">{mark * step:g}</text>'
        )
    yield (
        f'<text x="{(left + right) / 2:.1f}" y="{y + 36:.1f}" text-anchor="middle" '
        f'font-size="{_SMALL + 1:.0f}" fill="{_GREY}">time in s</text>'
    )
