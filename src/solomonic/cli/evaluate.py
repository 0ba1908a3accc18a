"""`solomonic eval ...`: bits per byte of text, synthetic recall, and lengths beyond training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console, evaluate_asr, evaluate_needles, evaluate_regret
from solomonic.cli.options import Checkpoint, Device, Json
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.evals.recall import RecallConfig, RecallResult

app = typer.Typer(
    help="Measure a model, always beside the bytes of its state.", no_args_is_help=True
)
app.command("asr")(evaluate_asr.asr)
app.command("needles")(evaluate_needles.needles)
app.command("regret")(evaluate_regret.regret)

Text = Annotated[Path, typer.Option(help="Text file, folder of them, or JSONL (also .gz).")]
Task = Annotated[str, typer.Option(help="mqar, copying, induction, noisy or fuzzy.")]
Pattern = Annotated[str | None, typer.Option(help="One letter a layer: T, W, M, D, F or B.")]
Window = Annotated[int | None, typer.Option(help="Tokens a window shows.")]
Slots = Annotated[int | None, typer.Option(help="Eidetic slots a layer.")]
Pairs = Annotated[int | None, typer.Option(help="Key-value pairs to remember (mqar).")]
Length = Annotated[int | None, typer.Option(help="Tokens an example.")]
Steps = Annotated[int | None, typer.Option(help="Updates a run, at most.")]
Seeds = Annotated[str, typer.Option(metavar="0,1,2", help="One run for every seed.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting; may be repeated."),
]


@app.command()
def lm(
    directory: Checkpoint,
    data: Text,
    streams: Annotated[
        int, typer.Option(help="Pieces of a document read side by side: faster, a little worse.")
    ] = 1,
    max_bytes: Annotated[int | None, typer.Option(help="Stop after so much text.")] = None,
    adapt: Annotated[
        str | None,
        typer.Option(help="'dynamic': learn from each document after scoring its parts."),
    ] = None,
    settings: Settings = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Bits per byte and perplexity of a text, read as a stream with the state carried along.

    With `--adapt dynamic`, `--set rate=0.0003` and so on change how it learns.
    """
    from solomonic.cli.adapt import config_of
    from solomonic.evals.perplexity import PerplexityConfig, evaluate_text
    from solomonic.lm.pretrained import load_pretrained

    if adapt not in (None, "dynamic"):
        raise ConfigError(f"--adapt '{adapt}' is unknown; use 'dynamic'.")
    if settings and adapt is None:
        raise ConfigError("--set is about how to adapt here; add --adapt dynamic.")
    config = PerplexityConfig(streams=streams, max_bytes=max_bytes)
    learning = None if adapt is None else config_of(settings, None)
    model, tokenizer = load_pretrained(directory, device=console.choose_device(device))
    record = evaluate_text(model, tokenizer, data, config, learning).to_json()
    if json:
        console.emit(record)
    else:
        console.table(f"{directory} on {data}", ("figure", "value"), record.items())


@app.command()
def recall(
    task: Task = "mqar",
    pattern: Pattern = None,
    layers: Annotated[int | None, typer.Option(help="Number of layers.")] = None,
    width: Annotated[int | None, typer.Option(help="Width (hidden_size).")] = None,
    window: Window = None,
    slots: Slots = None,
    pairs: Pairs = None,
    length: Length = None,
    steps: Steps = None,
    seeds: Seeds = "0",
    out: Annotated[Path | None, typer.Option(help="Append results to this JSONL file.")] = None,
    settings: Settings = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train a small model on a synthetic recall task and say how much of it was learned.

    With `--out`, runs that the file already holds are not run again.
    """
    from solomonic.recipes import recall as recipes

    given = console.given(
        num_hidden_layers=layers,
        hidden_size=width,
        window_size=window,
        eidetic_slots=slots,
        pairs=pairs,
        length=length,
        steps=steps,
    )
    config = _changed(recipes.base(task), given, pattern, settings)
    config = config.replace(device=console.choose_device(device))
    numbers = console.parse_numbers(seeds, "--seeds")
    runs = [config.replace(train=config.train.replace(seed=seed)) for seed in numbers]
    _report_recall(_run_all(runs, out), json, None)


@app.command()
def sweep(
    out: Annotated[
        Path, typer.Option(help="JSONL file of results; `solomonic plot recall` draws it.")
    ],
    by: Annotated[str, typer.Option(help="'pairs' or 'slots'.")] = "pairs",
    values: Annotated[
        str | None, typer.Option(metavar="4,8,16", help="Places on that axis.")
    ] = None,
    window: Window = None,
    slots: Slots = None,
    pairs: Pairs = None,
    length: Length = None,
    steps: Steps = None,
    seeds: Seeds = "0,1,2",
    settings: Settings = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Recall of every kind of layer at equal bytes of state, against pairs or against slots.

    A killed sweep goes on with the same command: finished runs are not run again.
    """
    from solomonic.recipes import recall as recipes

    given = console.given(
        window_size=window, eidetic_slots=slots, pairs=pairs, length=length, steps=steps
    )
    config = _changed(recipes.base(), given, None, settings)
    config = config.replace(device=console.choose_device(device))
    places = console.parse_numbers(values or _PLACES.get(by, "0"), "--values")
    runs = recipes.sweep(config, by, places, console.parse_numbers(seeds, "--seeds"))
    _report_recall(_run_all(runs, out), json, by)


_DOCUMENTS = 64  # of the long ones: enough for steady figures
_PLACES = {"pairs": "4,8,16,32", "slots": "0,4,8,16,32"}


@app.command()
def lengths(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A trained language model.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Long documents for it.")] = None,
    edges: Annotated[
        str, typer.Option(metavar="0,256,...", help="Bins of position in the documents.")
    ] = "0,256,512,1024,2048,4096,8192",
    task: Task = "mqar",
    pattern: Pattern = None,
    window: Window = None,
    slots: Slots = None,
    pairs: Pairs = None,
    length: Length = None,
    steps: Steps = None,
    factors: Annotated[
        str, typer.Option(metavar="1,2,4", help="Test at these multiples of the trained length.")
    ] = "1,2,4,8,16,32",
    plot: Annotated[Path | None, typer.Option(help="Draw the figure here (png, svg, pdf).")] = None,
    settings: Settings = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Beyond the trained length: a language model on long text, or a synthetic task up to 32 times.

    With DIR and `--data`: bits per byte by position in the document. Without: a small model is
    trained on `--task` and tested on longer examples.
    """
    where = console.choose_device(device)
    if (directory is None) != (data is None):
        raise ConfigError("DIR and --data belong together; give both, or neither for --task.")
    if directory is not None and data is not None:
        points = _text_lengths(directory, data, console.parse_numbers(edges, "--edges"), where)
    else:
        from solomonic.recipes import recall as recipes

        given = console.given(
            window_size=window, eidetic_slots=slots, pairs=pairs, length=length, steps=steps
        )
        config = _changed(recipes.base(task), given, pattern, settings).replace(device=where)
        points = _task_lengths(config, console.parse_numbers(factors, "--factors"))
    _report_lengths(points, plot, json)


def _changed(
    config: RecallConfig, given: dict[str, Any], pattern: str | None, settings: list[str] | None
) -> RecallConfig:
    """The recipe with the command line's settings in it."""
    from solomonic.recipes import recall as recipes

    if pattern is not None:
        # As many layers as the recipe has, if the letters allow it.
        depth = len(config.model.layers)
        given = {"num_hidden_layers": None, **given, "pattern": pattern}
        if given["num_hidden_layers"] is None and pattern and depth % len(pattern) == 0:
            given["num_hidden_layers"] = depth
    return recipes.changed(config, given | console.parse_settings(settings or []))


def _run_all(runs: list[RecallConfig], out: Path | None) -> list[RecallResult]:
    """Run or read all, a line on standard error for each that was run."""
    from solomonic.evals.recall import run_recall, sweep

    def tell(result: RecallResult) -> None:
        label = result.config.label or result.config.model.layers
        console.say(
            f"{label}, seed {result.config.seed}: accuracy {result.accuracy:.3f} after "
            f"{result.steps} steps, {result.seconds:.0f} s"
        )

    if out is not None:
        return sweep(runs, out, tell)
    results = []
    for run in runs:
        results.append(run_recall(run))
        tell(results[-1])
    return results


def _report_recall(results: list[RecallResult], json: bool, by: str | None) -> None:
    """A row a run; `by` names the axis of a sweep."""
    from solomonic.evals.report import x_of

    if json:
        console.emit([result.to_json() for result in results])
        return
    rows = [
        (
            result.config.label or result.config.model.layers,
            *([x_of(result, by)] if by else []),
            result.config.seed,
            result.accuracy,
            result.steps,
            console.show_bytes(result.state_bytes),
            result.parameters,
        )
        for result in results
    ]
    task = results[0].config.generator
    axis = [by] if by else []
    columns = ("model", *axis, "seed", "accuracy", "steps", "state", "parameters")
    console.table(f"{task.name}, {task.length} tokens", columns, rows)


def _text_lengths(directory: Path, data: Path, edges: list[int], device: str) -> list[Any]:
    from solomonic.evals.lengths import bits_by_position
    from solomonic.lm.pretrained import load_pretrained

    model, tokenizer = load_pretrained(directory, device=device)
    return bits_by_position(model, tokenizer, _long_documents(data, max(edges)), edges)


def _long_documents(data: Path, size: int) -> list[bytes]:
    """The first documents of at least `size` bytes; shorter ones have too few tokens."""
    from solomonic.lm.corpus import Corpus

    found: list[bytes] = []
    document = b""
    for piece in Corpus(data).pieces():
        document = piece.data if piece.first else document + piece.data
        if piece.last and len(document) >= size:
            found.append(document)
        if len(found) == _DOCUMENTS:
            break
    return found


def _task_lengths(config: RecallConfig, factors: list[int]) -> list[Any]:
    from solomonic.evals.lengths import LengthConfig, length_generalisation
    from solomonic.recipes.recall import train_model

    lengths = LengthConfig(factors=tuple(factors))
    model = train_model(config)
    return length_generalisation(model, config.generator, lengths)


def _report_lengths(points: list[Any], plot: Path | None, json: bool) -> None:
    from solomonic.evals.lengths import LengthPoint
    from solomonic.evals.plots import plot_lengths, plot_positions

    records = [dataclasses.asdict(point) for point in points]
    if plot is not None:
        draw: Any = plot_lengths if isinstance(points[0], LengthPoint) else plot_positions
        draw({"model": points}, plot)
    if json:
        console.emit(records)
    else:
        console.table("By length", tuple(records[0]), [tuple(r.values()) for r in records])
