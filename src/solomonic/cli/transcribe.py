"""`solomonic transcribe AUDIO...`: what is said, as text, JSON, subtitles or lattices."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solomonic.cli import console, speech
from solomonic.cli.options import Device
from solomonic.core import ConfigError, SolomonicError

if TYPE_CHECKING:
    from solomonic.speech.lattice import Lattice
    from solomonic.speech.native_recognizer import NativeRecognizer
    from solomonic.speech.recognizer import Recognizer
    from solomonic.speech.result import Result

STDIN = Path("-")
FORMATS = ("text", "json", "srt", "lattice")
LATTICES = {
    "openfst": ".fst.txt",
    "slf": ".slf",
    "kaldi": ".lat.txt",
    "wire": ".slm",
    "svg": ".svg",
}
"""Formats of lattices and the endings of their files."""


def transcribe(
    audio: Annotated[
        list[Path],
        typer.Argument(help="Audio files; '-' reads raw samples from standard input."),
    ],
    model: speech.AnyModel = None,
    bias: speech.BiasFile = None,
    classes: speech.Classes = None,
    carrier: speech.Carriers = None,
    form: Annotated[str, typer.Option("--format", help="text, json, srt or lattice.")] = "text",
    lattice_format: Annotated[
        str, typer.Option(help="openfst, slf, kaldi, wire or svg.")
    ] = "openfst",
    nbest: Annotated[int | None, typer.Option(help="Alternatives to give.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a file a recording, instead of stdout.")
    ] = None,
    no_attention: speech.NoAttention = False,
    no_endpoint: speech.NoEndpoint = False,
    greedy: speech.Greedy = False,
    beam: speech.Beam = None,
    rate: Annotated[int, typer.Option(help="Samples a second of raw audio on stdin.")] = 16000,
    encoding: speech.Encoding = "s16le",
    device: Device = "auto",
    verbose: speech.Verbose = False,
) -> None:
    """Write down what is said in recordings.

    A device file (model.solo) is recognised by the native core, and by nothing else.

    A recording that cannot be read does not stop the others: it gets a line on standard error, and
    the exit status is 2.
    """
    _check(audio, form, lattice_format, out)
    recognizer = speech.open_any(model, device, greedy=greedy, beam=beam, nbest=nbest)
    words, engine = speech.prepared(recognizer, model, bias, classes, carrier, not no_attention)
    if verbose:
        speech.tell(engine)
    if out is not None:
        console.make_folder(out)
    how = {"attention": not no_attention, "endpointing": not no_endpoint}
    failed = False
    for path in audio:
        try:
            result = _recognise(recognizer, path, words, (rate, encoding), how)
            several = len(audio) > 1 and out is None
            shown = Shown(path, result, recognizer, several, nbest)
            written = shown.as_format(form, lattice_format, engine)
            if out is None:
                _print(written)
            else:
                console.say(f"{_save(written, out, path, form, lattice_format, shown)}")
        except SolomonicError as error:
            if len(audio) == 1:
                raise
            console.say("error: " + " ".join(str(error).splitlines()))
            failed = True
    if failed:
        raise typer.Exit(2)


class Shown:
    """A result in any of the formats.

    Args:
        several: whether lines need the name of their recording.
        nbest: alternatives of each utterance in text; None: only the best.
    """

    def __init__(
        self,
        path: Path,
        result: Result,
        recognizer: Recognizer | NativeRecognizer,
        several: bool,
        nbest: int | None,
    ) -> None:
        self.path, self.result, self.several, self.nbest = path, result, several, nbest
        self.frame_seconds = recognizer.frame_seconds

    def as_format(self, form: str, lattice_format: str, engine: dict[str, Any]) -> str | bytes:
        """The text, with its last newline, or the bytes of a message."""
        if form == "text":
            return self.text()
        if form == "json":
            record = {"audio": str(self.path), **self.result.to_json(), "engine": engine}
            return json.dumps(console.plain(record)) + "\n"
        if form == "srt":
            return self.result.to_srt()
        return self.lattice_text(lattice_format)

    def text(self) -> str:
        """One line, or one for each alternative of each utterance, after its score."""
        name = f"{self.path}: " if self.several else ""
        if not self.nbest:
            return f"{name}{self.result.text}\n"
        parts = self.result.utterances or (self.result,)
        lines = [
            f"{name}{other.score:.2f} {other.text}" for part in parts for other in part.nbest
        ] or [f"{name}{self.result.text}"]
        return "".join(f"{line}\n" for line in lines)

    def lattice(self) -> Lattice:
        """Of the whole recording; one empty arc where nothing was said."""
        import numpy as np

        from solomonic.speech.lattice import Lattice, chain

        parts = self.result.utterances or (self.result,)
        found = [part.lattice for part in parts if part.lattice is not None]
        if found:
            return chain(found)
        frames = np.array([0, max(round(self.result.end / self.frame_seconds), 1)])
        node, score = np.zeros(1, np.int32), np.zeros(1, np.float32)
        return Lattice(frames, node, node + 1, node, score, score, ("",), self.frame_seconds)

    def lattice_text(self, form: str) -> str | bytes:
        """The lattice as text or, for `wire`, as bytes."""
        from solomonic.speech import lattice as lattices
        from solomonic.speech.lattice.draw import draw_lattice

        graph = self.lattice()
        if form == "wire":
            length = max(self.result.end - self.result.start, 0.0)
            message = lattices.LatticeMessage(
                lattice=graph, duration=length, reason=self.result.reason
            )
            return lattices.encode_message(message, lattices.limit_for(length))
        writers: dict[str, Callable[[], str]] = {
            "openfst": lambda: lattices.to_openfst(graph).total,
            "slf": lambda: lattices.to_slf(graph, self.path.stem),
            "kaldi": lambda: lattices.to_kaldi(graph, "-".join(self.path.stem.split()) or "-"),
            "svg": lambda: draw_lattice(graph),
        }
        return writers[form]()


def _check(audio: list[Path], form: str, lattice_format: str, out: Path | None) -> None:
    """Wishes that cannot be met, before anything is loaded."""
    if form not in FORMATS:
        raise ConfigError(f"--format '{form}' is unknown; use one of {', '.join(FORMATS)}.")
    if lattice_format not in LATTICES:
        raise ConfigError(
            f"--lattice-format '{lattice_format}' is unknown; use one of {', '.join(LATTICES)}."
        )
    if len(audio) > 1 and form in ("srt", "lattice") and out is None:
        raise ConfigError(f"--format {form} of several recordings needs a folder; add --out DIR.")
    if out is not None:
        names = [path.stem for path in audio]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"two recordings are called '{name}' and would be written to one file; "
                    "transcribe them into folders of their own."
                )
    if audio.count(STDIN) > 1:
        raise ConfigError("standard input can be read once; give '-' once.")


def _recognise(
    recognizer: Recognizer | NativeRecognizer,
    path: Path,
    words: Any,
    raw: tuple[int, str],
    how: dict[str, bool],
) -> Result:
    if path != STDIN:
        return recognizer.transcribe(path, bias=words, **how)
    rate, encoding = raw
    stream = recognizer.create_stream(words, **how)
    for samples in speech.raw_input(encoding):
        stream.accept_waveform(rate, samples)
        stream.events()
    stream.input_finished()
    return stream.result()


def _print(written: str | bytes) -> None:
    if isinstance(written, bytes):
        sys.stdout.buffer.write(written)
    else:
        sys.stdout.write(written)
    sys.stdout.flush()


def _save(
    written: str | bytes, out: Path, path: Path, form: str, lattice_format: str, shown: Shown
) -> Path:
    """One file, or OpenFst's several, each whole or not at all; gives the (first) file."""
    from solomonic.evals.output import write_one
    from solomonic.speech.lattice import save_openfst
    from solomonic.train.atomic import write_files

    stem = "stdin" if path == STDIN else path.stem
    if form == "lattice" and lattice_format == "openfst":
        graph = shown.lattice()

        def write(folder: Path) -> None:
            save_openfst(graph, folder / stem)

        write_files(out, write)
        return out / f"{stem}{LATTICES['openfst']}"
    endings = {"text": ".txt", "json": ".json", "srt": ".srt", "lattice": LATTICES[lattice_format]}
    data = written if isinstance(written, bytes) else written.encode()
    return write_one(out / f"{stem}{endings[form]}", lambda file: file.write_bytes(data))
