"""`solomonic eval needles`: facts hidden in long texts, with and without memory."""

from pathlib import Path
from typing import Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json, Seed
from solomonic.cli.probe import Model


def needles(
    directory: Model,
    sets: Annotated[
        Path, typer.Option(help="Folder that holds text_needles and text_babi.", show_default=False)
    ],
    haystack: Annotated[
        list[Path],
        typer.Option(help="Text to hide them in: a file; may be repeated.", show_default=False),
    ],
    lengths: Annotated[
        str, typer.Option(metavar="4000,...", help="Tokens read before the questions.")
    ] = "4000,32000,256000",
    facts: Annotated[int, typer.Option(help="Facts of each set at each length.")] = 12,
    memory: Annotated[
        str,
        typer.Option(metavar="a,b,...", help="none (model alone), reader, attention."),
    ] = "none,reader,attention",
    choices: Annotated[int, typer.Option(help="Answers to choose from, at most.")] = 8,
    out: Annotated[Path | None, typer.Option(help="Write every answer here (JSON).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figure here (png, svg, pdf).")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Needles and bAbI stories in a long document: what is still known of them.

    One document is read once and stopped at each length; every question is put to the model alone
    and with each memory. Answers are chosen among others of their kind, so chance is known.
    """
    import dataclasses
    from json import dumps

    from solomonic.evals import needles as evals
    from solomonic.evals.needles_plot import draw
    from solomonic.evals.output import write_one
    from solomonic.lm.any_model import load_any

    config = evals.NeedlesConfig(
        lengths=tuple(console.parse_numbers(lengths, "--lengths")),
        facts=facts,
        choices=choices,
        memories=tuple(name.strip() for name in memory.split(",")),
        seed=seed,
    )
    model, tokenizer, _ = load_any(directory)
    asked = evals.run_needles(model, tokenizer, sets, haystack, config, console.say)
    found = evals.summarise(asked)
    if plot is not None:
        draw(found, plot)
    record = {
        "config": config.to_json(),
        "summary": found,
        "answers": [dataclasses.asdict(one) for one in asked],
    }
    if out is not None:
        text = dumps(console.plain(record), indent=1) + "\n"
        write_one(out, lambda path: path.write_text(text, encoding="utf-8"))
    if json:
        console.emit(record)
        return
    _show(found)


def _show(found: list[dict[str, Any]]) -> None:
    """A row for each set, form, length and memory."""
    columns = ("set", "form", "length", "memory", "right", "chance", "verbatim", "cited", "n")
    rows = [
        (
            r["set"], r["form"], r["length"], r["memory"], r["right"], r["chance"], r["verbatim"],
            "" if r["cited"] is None else r["cited"], r["questions"],
        )
        for r in found
    ]  # fmt: skip
    console.table("What is still known", columns, rows)
