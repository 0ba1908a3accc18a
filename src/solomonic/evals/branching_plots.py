"""The picture of a branching encoder at work: where in a recording the large branch was run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from solomonic.core import DataError
from solomonic.evals.endpointing_plots import Timeline, draw_wave, draw_words
from solomonic.evals.output import save_figure
from solomonic.evals.plots import COLOURS
from solomonic.speech.branching.decisions import Decisions
from solomonic.speech.events import Event

_BLUE, _GREEN = COLOURS[0], COLOURS[2]
_CHOSEN = "#d6e4f5"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Gates:
    """One recording and what was decided in it. Times are seconds.

    Attributes:
        audio: (n,) samples in [-1, 1] at `sample_rate`.
        events: of the stream, for the words.
        found: the decisions.
        speech: (steps,) voice activity; None: not shown.
    """

    audio: np.ndarray
    events: Sequence[Event]
    found: Decisions
    sample_rate: int = 16_000
    speech: np.ndarray | None = None
    title: str = ""


def plot_gates(gates: Gates, path: str | Path) -> Path:
    """Waveform and words, shaded where the large branch was run; below, how sure that was.

    Raises:
        DataError: there is no audio.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not len(gates.audio):
        raise DataError("there is no audio to draw decisions of.")
    found, every = gates.found, gates.found.cost.frame_seconds
    seconds = len(gates.audio) / gates.sample_rate
    figure = Figure(figsize=(max(7.2, min(1.6 * seconds, 16.0)), 4.4), layout="constrained")
    wave, curves = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    line = Timeline(audio=gates.audio, events=gates.events, sample_rate=gates.sample_rate)
    draw_wave(wave, line)
    draw_words(wave, gates.events)
    for axes in (wave, curves):
        for start, end in runs(found.large):
            axes.axvspan(start * every, end * every, color=_CHOSEN, lw=0, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
    edges = np.arange(len(found.open) + 1) * every
    curves.stairs(found.open, edges, color=_BLUE, lw=1.6, label="large branch")
    if gates.speech is not None:
        edges = np.arange(len(gates.speech) + 1) * every
        curves.stairs(
            np.asarray(gates.speech, np.float64), edges, color=_GREEN, lw=1.2, label="speech"
        )
    curves.axhline(0.5, color="#bbbbbb", lw=0.8, ls=":")
    curves.set_ylim(-0.03, 1.06)
    curves.set_ylabel("probability")
    curves.set_xlim(0, seconds)
    curves.set_xlabel("s of audio; shaded: the large branch was run")
    curves.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2, fontsize=8)
    figure.suptitle(_summary(gates), size=10.5, x=0.01, ha="left")
    return save_figure(figure, path)


def runs(chosen: np.ndarray) -> list[tuple[int, int]]:
    """First step and the one after the last of every stretch of chosen (T,) steps."""
    edges = np.flatnonzero(np.diff(np.r_[0, np.asarray(chosen, np.int8), 0]))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _summary(gates: Gates) -> str:
    found = gates.found
    least, now, most = (found.cost.per_second(share) / 1e6 for share in (0.0, found.share, 1.0))
    return (
        f"{gates.title}  large branch on {found.share:.0%} of the steps: {now:.1f} million "
        f"multiplications a second (from {least:.1f} to {most:.1f})"
    ).strip()
