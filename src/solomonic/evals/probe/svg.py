"""Small charts as inline SVG: colours come from the page's variables, so light and dark both work.

Every chart has a title and a description for those who cannot see it, and no text smaller than the
page's own small print.
"""

import html
import math
from collections.abc import Sequence

LEFT, RIGHT, TOP, BOTTOM = 52.0, 22.0, 10.0, 38.0


class Chart:
    """One pair of axes; add marks, then `str(chart)`.

    Args:
        title, description: what a screen reader says.
        x, y: (low, high) in data.
        size: width and height in CSS pixels.
        logs: which axes are logarithmic, of "xy".
        left: room for the labels of the y axis.
    """

    def __init__(
        self,
        title: str,
        description: str,
        x: tuple[float, float],
        y: tuple[float, float],
        size: tuple[float, float] = (340, 220),
        logs: str = "",
        left: float = LEFT,
    ) -> None:
        self.title, self.description = title, description
        self.x_range, self.y_range, self.size, self.logs, self.left = x, y, size, logs, left
        self.parts: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Data to pixels, clipped to the axes."""
        width = self.size[0] - self.left - RIGHT
        height = self.size[1] - TOP - BOTTOM
        across = _share(x, self.x_range, "x" in self.logs)
        up = _share(y, self.y_range, "y" in self.logs)
        return self.left + across * width, TOP + (1 - up) * height

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str) -> None:
        """A line through the points that are finite (and above 0 on a logarithmic axis)."""
        points = [
            self.at(x, y)
            for x, y in zip(xs, ys, strict=True)
            if math.isfinite(y) and (y > 0 or "y" not in self.logs)
        ]
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            self.parts.append(f'<polyline class="{kind}" points="{path}"/>')

    def dots(self, xs: Sequence[float], ys: Sequence[float], kind: str) -> None:
        """A dot at each point, with its figures as a tip."""
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y) and (y > 0 or "y" not in self.logs):
                px, py = self.at(x, y)
                tip = f"<title>{x:g}: {y:.4g}</title>"
                self.parts.append(
                    f'<circle class="{kind}" cx="{px:.1f}" cy="{py:.1f}" r="3">{tip}</circle>'
                )

    def segment(
        self, start: tuple[float, float], end: tuple[float, float], kind: str, tip: str = ""
    ) -> None:
        """A straight line between two points of the data."""
        (x1, y1), (x2, y2) = self.at(*start), self.at(*end)
        said = f"<title>{html.escape(tip)}</title>" if tip else ""
        self.parts.append(
            f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}">'
            f"{said}</line>"
        )

    def label(self, y: float, text: str) -> None:
        """A name at the left of a row."""
        _, py = self.at(self.x_range[0], y)
        self.parts.append(
            f'<text class="tick" x="{self.left - 6:.1f}" y="{py + 4:.1f}" text-anchor="end">'
            f"{html.escape(text)}</text>"
        )

    def axes(self, x_name: str, y_name: str = "", y_ticks: bool = True) -> None:
        """Lines, ticks and names."""
        low, floor = self.at(self.x_range[0], self.y_range[0])
        high, _ = self.at(self.x_range[1], self.y_range[0])
        marks = [f'<line class="axis" x1="{low}" y1="{floor}" x2="{high}" y2="{floor}"/>']
        for tick in ticks(self.x_range, "x" in self.logs):
            px, _ = self.at(tick, self.y_range[0])
            marks.append(
                f'<line class="grid" x1="{px:.1f}" y1="{TOP}" x2="{px:.1f}" y2="{floor}"/>'
            )
            marks.append(
                f'<text class="tick" x="{px:.1f}" y="{floor + 14}" text-anchor="middle">'
                f"{_name(tick)}</text>"
            )
        for tick in ticks(self.y_range, "y" in self.logs) if y_ticks else ():
            _, py = self.at(self.x_range[0], tick)
            marks.append(f'<line class="grid" x1="{low}" y1="{py:.1f}" x2="{high}" y2="{py:.1f}"/>')
            marks.append(
                f'<text class="tick" x="{low - 6}" y="{py + 4:.1f}" text-anchor="end">'
                f"{_name(tick)}</text>"
            )
        middle = (low + high) / 2
        marks.append(
            f'<text class="name" x="{middle}" y="{self.size[1] - 6}" text-anchor="middle">'
            f"{html.escape(x_name)}</text>"
        )
        if y_name:
            half = (TOP + floor) / 2
            marks.append(
                f'<text class="name" transform="translate(12 {half}) rotate(-90)" '
                f'text-anchor="middle">{html.escape(y_name)}</text>'
            )
        self.parts = marks + self.parts

    def __str__(self) -> str:
        width, height = self.size
        return (
            f'<svg role="img" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" '
            f'aria-label="{html.escape(f"{self.title}. {self.description}", quote=True)}">'
            f"<title>{html.escape(self.title)}</title>{''.join(self.parts)}</svg>"
        )


def ticks(span: tuple[float, float], log: bool) -> list[float]:
    """Round numbers within a span, about five."""
    low, high = span
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        step = max(1, math.ceil((last - first + 1) / 6))
        found = [10.0**k for k in range(first, last + 1, step)]
        if len(found) < 3:
            more = (m * 10.0**k for k in range(first - 1, last + 1) for m in (1, 2, 5))
            found = [value for value in more if low <= value <= high]
        return found
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-12) / 2))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= 5:
            step *= factor
            break
    return [
        step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def _share(value: float, span: tuple[float, float], log: bool) -> float:
    low, high = span
    if log:
        value, low, high = math.log(max(value, 1e-300)), math.log(low), math.log(high)
    return min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0)


def _name(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"1e{round(math.log10(abs(value)))}"
    return f"{value:g}"
