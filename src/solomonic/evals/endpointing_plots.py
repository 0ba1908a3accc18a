"""Pictures of end-pointing: early cuts against latency, and one utterance on its time line."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.core import DataError
from solomonic.evals.endpointing import CurvePoint, frontier
from solomonic.evals.output import save_figure
from solomonic.evals.plots import COLOURS, MARKERS
from solomonic.speech.events import Event, Final, Reset, SpeculativeEnd, SpeechStart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY = "#666666"
_BLUE, _RED, _GREEN, _ORANGE = COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[4]


def plot_curve(curves: Mapping[str, Sequence[CurvePoint]], path: str | Path) -> Path:
    """Early cuts against EP50 (left) and EP90 (right), a line an end-pointer.

    A line joins the settings that no other beats; the beaten ones are faint dots.

    Raises:
        DataError: there is no point with a finite latency.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    finite = [p for points in curves.values() for p in points if math.isfinite(p.ep50)]
    if not finite:
        raise DataError("there is no end-pointing curve to draw; sweep some settings first.")
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, by in zip(panels, ("ep50", "ep90"), strict=True):
        for index, (label, points) in enumerate(curves.items()):
            _draw_curve(axes, [p for p in points if math.isfinite(getattr(p, by))], by, index)
            if axes is panels[0]:
                axes.plot([], [], color=COLOURS[index % len(COLOURS)], lw=2,
                          marker=MARKERS[index % len(MARKERS)], label=label)  # fmt: skip
        axes.set_title(
            "median (EP50)" if by == "ep50" else "nine of ten sooner (EP90)", loc="left", size=10
        )
        axes.set_xlabel("cut before the end of speech (%)")
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("from end of speech to trigger (ms)")
    panels[0].set_ylim(bottom=min(0.0, panels[0].get_ylim()[0]))
    panels[0].legend(frameon=False, loc="upper right")
    figure.suptitle("End-pointing: latency against early cuts, all utterances", size=10.5)
    return save_figure(figure, path)


def _draw_curve(axes: "Axes", points: Sequence[CurvePoint], by: str, index: int) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    xs, ys = [100 * p.early for p in points], [getattr(p, by) for p in points]
    axes.scatter(xs, ys, s=12, marker=marker, color=colour, alpha=0.25, linewidths=0)
    best = frontier(points, by)
    axes.plot(
        [100 * p.early for p in best],
        [getattr(p, by) for p in best],
        color=colour,
        linewidth=2,
        marker=marker,
        markersize=5,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """One recording and what was heard in it. Times are seconds.

    Attributes:
        audio: (n,) samples in [-1, 1].
        events: of the stream.
        speech: (frames,) voice activity, one an encoder frame; None: not shown.
        ends: (frames,) probabilities of the end head; None: not shown.
        frame_seconds: of the encoder.
        true_end: where speech truly ends; None: not known.
        pauses: (start, end) of pauses put inside the sentence.
    """

    audio: np.ndarray
    events: Sequence[Event]
    sample_rate: int = 16_000
    speech: np.ndarray | None = None
    ends: np.ndarray | None = None
    frame_seconds: float = 0.06
    true_end: float | None = None
    pauses: Sequence[tuple[float, float]] = ()
    title: str = ""


def plot_timeline(line: Timeline, path: str | Path) -> Path:
    """Waveform and words, voice activity and end probability, and the marks of both end-pointers.

    Raises:
        DataError: there is no audio.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not len(line.audio):
        raise DataError("there is no audio to draw a time line of.")
    seconds = len(line.audio) / line.sample_rate
    figure = Figure(figsize=(max(7.2, min(1.6 * seconds, 16.0)), 4.4), layout="constrained")
    wave, curves = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    draw_wave(wave, line)
    draw_words(wave, line.events)
    _draw_probabilities(curves, line)
    for axes in (wave, curves):
        _draw_marks(axes, line)
        axes.spines[["top", "right"]].set_visible(False)
    _label_marks(wave, line)
    curves.set_xlim(0, seconds)
    curves.set_xlabel("s of audio")
    if line.title:
        figure.suptitle(line.title, size=10.5, x=0.01, ha="left")
    return save_figure(figure, path)


def draw_wave(axes: "Axes", line: Timeline) -> None:
    """The envelope: smallest and largest sample of each of 1,200 pieces."""
    size = max(len(line.audio) // 1200, 1)
    count = len(line.audio) // size
    pieces = np.asarray(line.audio[: count * size], dtype=np.float64).reshape(count, size)
    times = (np.arange(count) + 0.5) * size / line.sample_rate
    axes.fill_between(times, pieces.min(axis=1), pieces.max(axis=1), color="#8a8a8a", lw=0)
    peak = max(float(np.abs(pieces).max()), 1e-6)
    axes.set_ylim(-1.1 * peak, 2.6 * peak)  # room for words and marks above
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for start, end in line.pauses:
        axes.axvspan(start, end, ymax=0.58, color="#fbe6c8", lw=0, zorder=0)
        axes.text((start + end) / 2, -peak, "pause", ha="center", size=8, color=_GREY)


def draw_words(axes: "Axes", events: Sequence[Event]) -> None:
    """The words of the finals, at their times; neighbours take turns in height."""
    top = axes.get_ylim()[1] / 2.6
    words = [w for e in events if isinstance(e, Final) for w in getattr(e.result, "words", ())]
    for number, word in enumerate(words):
        height = top * (1.15 + 0.28 * (number % 2))
        axes.plot([word.start, word.end], [top * 1.06] * 2, color="black", lw=1.5, alpha=0.6)
        middle = (word.start + word.end) / 2
        axes.text(middle, height, word.text, ha="center", va="bottom", size=8)


def _draw_probabilities(axes: "Axes", line: Timeline) -> None:
    lines = (("speech", line.speech, _GREEN), ("end of utterance", line.ends, _BLUE))
    for label, values, colour in lines:
        if values is None:
            continue
        edges = np.arange(len(values) + 1) * line.frame_seconds
        axes.stairs(np.asarray(values, dtype=np.float64), edges, color=colour, lw=1.6, label=label)
    axes.set_ylim(-0.03, 1.06)
    axes.set_ylabel("probability")
    if line.speech is not None or line.ends is not None:
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, fontsize=8)


def _marks(line: Timeline) -> list[tuple[float, str, str, Any]]:
    """(time, label, colour, line style) of everything that is marked."""
    kinds: dict[type, tuple[str, str, Any]] = {
        SpeechStart: ("start", _GREEN, "-"),
        SpeculativeEnd: ("speculative", _ORANGE, (0, (4, 2))),
        Reset: ("reset", _RED, ":"),
    }
    marks = [(line.true_end, "speech ends", _GREY, "-")] if line.true_end is not None else []
    for event in line.events:
        if isinstance(event, Final):
            kept = "commit" if event.commit else "new result"
            marks.append((event.time, f"final: {event.reason} ({kept})", _BLUE, "-"))
        elif type(event) in kinds:
            marks.append((event.time, *kinds[type(event)]))
    return sorted(marks, key=lambda mark: mark[0])


def _draw_marks(axes: "Axes", line: Timeline) -> None:
    for time, _, colour, style in _marks(line):
        axes.axvline(time, color=colour, linestyle=style, lw=1.4, zorder=2)


def _label_marks(axes: "Axes", line: Timeline) -> None:
    """Labels above the waveform, one row each from the top down, so that none overlap."""
    marks = _marks(line)
    seconds = len(line.audio) / line.sample_rate
    for number, (time, label, colour, _) in enumerate(marks):
        right = time > 0.62 * seconds
        axes.annotate(
            label,
            (time, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if right else 4, -9 * (number % 4) - 2),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            color=colour,
            size=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
        )
