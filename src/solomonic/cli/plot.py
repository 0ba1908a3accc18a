"""`solomonic plot ...`: recall, loss, errors against bytes, what a model kept or a memory keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solomonic.cli import console, plot_memory, plot_speech
from solomonic.cli.options import Checkpoint, Device, Json
from solomonic.core import ConfigError, DataError

app = typer.Typer(help="Draw figures.", no_args_is_help=True)
app.command("lattice")(plot_speech.lattice)
app.command("endpoints")(plot_speech.endpoints)
app.command("gates")(plot_speech.gates)
app.command("memory")(plot_memory.memory)

Figure = Annotated[Path, typer.Option(help="The picture to write: .png, .svg or .pdf.")]


@app.command()
def recall(
    results: Annotated[Path, typer.Argument(help="JSONL file that `eval sweep` wrote.")],
    out: Figure,
    by: Annotated[str, typer.Option(help="'pairs' or 'slots'.")] = "pairs",
    json: Json = False,
) -> None:
    """Recall against the number of pairs or of eidetic slots, every kind of layer a line."""
    from solomonic.evals.plots import plot_recall
    from solomonic.evals.recall import load_results

    if by not in ("pairs", "slots"):
        raise ConfigError(f"--by '{by}' does not exist; use 'pairs' or 'slots'.")
    _tell([plot_recall(load_results(results), out, by)], json)


@app.command()
def loss(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of training runs; NAME=DIR gives a label.")
    ],
    out: Figure,
    json: Json = False,
) -> None:
    """Loss curves of training runs in one figure."""
    from solomonic.evals.plots import plot_losses

    labelled: dict[str, str | Path] = {}
    for run in runs:
        label, equals, path = str(run).rpartition("=")
        name = label if equals and not run.exists() else (run.name or str(run))
        if name in labelled:
            raise ConfigError(f"two runs are called '{name}'; label them as in first=DIR.")
        labelled[name] = path if equals and not run.exists() else run
    _tell([plot_losses(labelled, out)], json)


@app.command()
def tradeoff(
    results: Annotated[
        Path, typer.Argument(help="Result file (JSON) of `make bench ARGS=compression`.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture: .png, .svg or .pdf.")],
    method: Annotated[str, typer.Option(help="Search: 'greedy' or 'beam'.")] = "greedy",
    json: Json = False,
) -> None:
    """Word errors against the bytes of a model's file, a panel for each test set."""
    from solomonic.evals.tradeoff import load_points, plot_tradeoff

    _tell([plot_tradeoff(load_points(results, method), out)], json)


@app.command("memory-map")
def memory_map(
    directory: Checkpoint,
    out: Annotated[Path, typer.Option(help="A page (.html) or a picture (.png, .svg, .pdf).")],
    text: Annotated[str | None, typer.Option(help="The text to read.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with the text to read.")] = None,
    max_bytes: Annotated[int, typer.Option(help="Read no more of it than this.")] = 4000,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Which tokens of a text each layer kept, with their innovation: how little it foresaw them."""
    from solomonic.evals.memory_map import memory_map, save_html, save_picture
    from solomonic.lm.pretrained import load_pretrained

    data = _text(text, file)[:max_bytes]
    model, tokenizer = load_pretrained(directory, device=console.choose_device(device))
    shown = memory_map(model, tokenizer, data)
    save = save_html if out.suffix.lower() in (".html", ".htm") else save_picture
    _tell([save(shown, out)], json)


def _text(text: str | None, file: Path | None) -> bytes:
    if (text is None) == (file is None):
        raise ConfigError("give the text to read as --text or as --file, and not both.")
    if text is not None:
        return text.encode("utf-8", errors="surrogateescape")
    assert file is not None
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}; check the path.") from error


def _tell(paths: list[Path], json: bool) -> None:
    if json:
        console.emit({"written": paths})
    else:
        for path in paths:
            print(path)
