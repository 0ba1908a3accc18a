"""`solomonic eval regret`: bits above the best possible predictor."""

from pathlib import Path
from typing import Annotated

import typer

from solomonic.cli import console
from solomonic.cli.options import Json, Seed
from solomonic.core import ConfigError


def regret(
    directory: Annotated[
        str | None,
        typer.Argument(
            metavar="[DIR]", help="A language model to compare: a folder or a device file."
        ),
    ] = None,
    sources: Annotated[
        str,
        typer.Option(
            metavar="a,b,...",
            help="bernoulli, tree, hmm, switching, periodic (all), or machine: program output.",
        ),
    ] = "all",
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Also a model like DIR that nobody trained.")
    ] = False,
    length: Annotated[int, typer.Option(help="Symbols a sequence.")] = 256,
    sequences: Annotated[int, typer.Option(help="Sequences a source.")] = 16,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves here (png, svg, pdf).")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Bits above the best possible, on sources whose best predictor is known exactly.

    Frequencies, context trees, the mixer and, with DIR, a language model read the same sequences.
    """
    from solomonic.evals import regret as evals
    from solomonic.induction.sources import choose

    config = evals.RegretConfig(
        sources=tuple(choose(sources)), length=length, sequences=sequences, seed=seed
    )
    if untrained and directory is None:
        raise ConfigError("--untrained is a model like DIR; give the DIR of a trained one.")
    model = tokenizer = None
    if directory is not None:
        from solomonic.lm.any_model import load_any

        model, tokenizer, _ = load_any(directory)
    curves = evals.regret(evals.contenders(model, tokenizer, untrained), config)
    if plot is not None:
        evals.plot_regret(curves, plot)
    if json:
        console.emit([curve.to_json() for curve in curves])
        return
    rows = [
        (
            curve.source,
            curve.predictor,
            float(curve.regret[len(curve.regret) // 4 - 1]) if length >= 4 else "",
            float(curve.regret[-1]),
            f"± {curve.error[-1]:.2f}",
            "unknown" if curve.best is None else curve.best,
        )
        for curve in curves
    ]
    columns = ("source", "predictor", "at a quarter", "at the end", "", "best, bits a symbol")
    console.table(f"Bits above the best possible, {length} symbols", columns, rows)
