"""`solomonic eval asr MANIFEST...`: word errors, lattices, delay, speed, end-pointing, lists."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console, speech
from solomonic.cli.options import Device, Json
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.evals.asr_report import AsrReport, Decoded

_PAUSE = 10.0  # seconds between lines of progress
_FEW = 4  # sets that are shown as columns: as rows they would be too wide for most terminals


def asr(
    manifests: Annotated[
        list[Path],
        typer.Argument(metavar="MANIFEST...", help="JSONL of audio and text, or their folders."),
    ],
    split: Annotated[str, typer.Option(help="Which lines; 'all' takes every one.")] = "test",
    model: speech.Model = None,
    bias: speech.BiasFile = None,
    classes: speech.Classes = None,
    carrier: speech.Carriers = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Score greedy search beside the beam.")
    ] = False,
    beam: speech.Beam = None,
    no_attention: speech.NoAttention = False,
    no_endpoint: speech.NoEndpoint = False,
    tail: Annotated[
        float, typer.Option(help="Seconds of silence behind each recording, for end-pointers.")
    ] = 0.0,
    limit: Annotated[int | None, typer.Option(help="At most so many recordings a set.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Report with every recording: .html or .json.")
    ] = None,
    device: Device = "auto",
    verbose: speech.Verbose = False,
    json: Json = False,
) -> None:
    """Measure a recogniser on recordings with texts, each set by itself.

    Ctrl-C ends it with the figures of what was done.
    """
    from solomonic.evals.asr import AsrConfig, evaluate
    from solomonic.evals.asr_report import save_report

    _check_out(out)
    config = AsrConfig(
        greedy=greedy, attention=not no_attention, endpointing=not no_endpoint, tail=tail
    )
    recognizer = speech.open_recognizer(model, device, beam=beam)
    words, engine = speech.prepared(recognizer, model, bias, classes, carrier, not no_attention)
    if verbose:
        speech.tell(engine)
    report = evaluate(
        recognizer,
        list(manifests),
        None if split == "all" else split,
        config,
        bias=words,
        limit=limit,
        progress=Progress(),
    )
    about: dict[str, Any] = {"engine": engine, "split": split, "settings": config.to_json()}
    if json:
        console.emit({**about, **report.to_json(recordings=False)})
    else:
        _show(report)
    if out is not None:  # last: a full disk must not cost the figures
        save_report(report, out, about)
    _end(report)


class Progress:
    """A line on standard error now and then: how far it has come and the errors so far."""

    def __init__(self, pause: float = _PAUSE) -> None:
        self._pause, self._shown = pause, time.monotonic()

    def __call__(self, found: Decoded, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown >= self._pause:
            self._shown = now
            console.say(f"{done:,} of {total:,} recordings: {found.source}, {found.hypothesis!r}")


def _check_out(out: Path | None) -> None:
    """Refuse what cannot be a report before recordings are decoded for an hour."""
    if out is None:
        return
    if out.suffix.lower() not in (".html", ".htm", ".json"):
        raise ConfigError(f"a report cannot be written as '{out}'; end the name in .html or .json.")
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; give the name of a file in it.")


def _show(report: AsrReport) -> None:
    for title, text in report.tables():
        lines = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
        ]
        columns, rows = lines[0], lines[2:]
        if len(rows) <= _FEW and len(columns) > len(rows) + 1:
            columns, *rows = ([cells[i] for cells in (columns, *rows)] for i in range(len(columns)))
        console.table(title, columns, rows)


def _end(report: AsrReport) -> None:
    """The exit status, and what it is for, on standard error."""
    for audio, reason in report.failed:
        console.say("error: " + " ".join(f"{audio}: {reason}".splitlines()))
    if report.interrupted:
        console.say(f"interrupted after {len(report.decoded):,} of {report.total:,} recordings")
        raise typer.Exit(130)
    if report.failed:
        raise typer.Exit(2)
