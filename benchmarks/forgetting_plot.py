"""Figures of docs/forgetting.md, from the result files of `forgetting` and from two streams.

python benchmarks/forgetting_plot.py [--data ../shared/data]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import forgetting
from solomonic.evals.forgetting_plots import plot_kept, watch
from solomonic.evals.output import save_figure
from solomonic.memory.forgetting import forgetting_from

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SHOWN = (
    ("switching", "recurring, rows Dirichlet(0.2)", "three regimes recur"),
    ("switching", "always new, rows Dirichlet(0.2)", "regimes are always new"),
    ("switching", "stationary, rows Dirichlet(0.2)", "nothing changes"),
    ("languages", "prior of segments: average so far", "five languages, letters"),
)
METHODS = {
    "no decay": "#bbbbbb",
    "ADWIN": "#E69F00",
    "best fixed decay": "#56B4E9",
    "change points": "#0072B2",
    "with revival": "#D55E00",
}


def latest(part: str) -> dict[str, Any]:
    """The newest result file of a part."""
    found = sorted(forgetting.RESULTS.glob(f"forgetting_{part}_*.json"), key=lambda p: p.name[-15:])
    return json.loads(found[-1].read_text("utf-8"))["results"]


def bars() -> Path:
    """Excess bits of every method, a panel a source."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 2.9), layout="constrained")
    panels = figure.subplots(1, len(SHOWN), sharey=True)
    for axes, (part, name, title) in zip(panels, SHOWN, strict=True):
        found = latest(part)[name]
        for place, (method, colour) in enumerate(METHODS.items()):
            value = found["excess"][method]
            axes.barh(place, value, color=colour, xerr=found["excess_error"][method],
                      error_kw={"linewidth": 0.8})  # fmt: skip
            axes.annotate(f"{value:.3f}", (value, place), (6, 0), textcoords="offset points",
                          va="center", size=8)  # fmt: skip
        axes.set_yticks(range(len(METHODS)), list(METHODS))
        axes.set_title(title, loc="left", size=9.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.3)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=8.5)
        axes.locator_params(axis="x", nbins=4)
    panels[0].invert_yaxis()
    figure.supxlabel(
        "bits a symbol above the oracle (mean of 20 sequences, standard error)", size=9
    )
    return save_figure(figure, IMAGES / "forgetting-switching.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    print(bars())
    symbols = forgetting.chains("recurring", 2, 2400, 0.2)[0]
    kept = watch(symbols, forgetting_from("symbols:4"))
    print(plot_kept(kept, IMAGES / "forgetting-revival.png", "Three Markov chains in turn"))
    if given.data.exists():
        from solomonic.induction import Mixer

        text, _ = forgetting.joined(forgetting.texts_of(given.data), 0, 120_000)
        costs = Mixer(18).costs(text)
        means = costs[: len(costs) // 64 * 64].reshape(-1, 64).mean(axis=1)
        kept = watch(np.asarray(means), forgetting_from("changes"))
        title = "Bits a byte, means of 64, over pieces of five kinds of text"
        print(plot_kept(kept, IMAGES / "forgetting-losses.png", title))


if __name__ == "__main__":
    main()
