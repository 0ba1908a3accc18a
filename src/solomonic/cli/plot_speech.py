"""`solomonic plot lattice`, `endpoints` and `gates`: what was heard, when it was over, and on which
steps a branching encoder ran its large branch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from solomonic.cli import console, speech
from solomonic.cli.options import Device, Json
from solomonic.cli.transcribe import LATTICES, Shown
from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.evals.endpointing_plots import Timeline
    from solomonic.speech.lattice import Lattice
    from solomonic.speech.recognizer import Recognizer

_MOST_ARCS = 100  # that a picture shows without becoming a thicket
_BEAMS = (12.0, 8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.5)  # nats


def lattice(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="AUDIO|LATTICE", help="Recording, or .fst.txt, .slf, .lat.txt, .slm."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The picture to write (.svg).")],
    prune: Annotated[
        float | None,
        typer.Option(metavar="NATS", help="Leave out arcs this far behind the best path."),
    ] = None,
    model: speech.Model = None,
    bias: speech.BiasFile = None,
    classes: speech.Classes = None,
    carrier: speech.Carriers = None,
    beam: speech.Beam = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Everything that a recogniser held possible, over time, the best path in blue."""
    from solomonic.evals.output import write_one
    from solomonic.speech.lattice import prune as cut
    from solomonic.speech.lattice.draw import save_lattice_svg

    if out.suffix.lower() != ".svg":
        raise ConfigError(f"a lattice is drawn as SVG, not as '{out.name}'; end the name in .svg.")
    graph = read_lattice(source)
    if graph is None:
        recognizer = speech.open_recognizer(model, device, beam=beam)
        words = speech.personal(recognizer, bias, classes, carrier)
        result = recognizer.transcribe(source, bias=words)
        graph = Shown(source, result, recognizer, False, None).lattice()
    if prune is not None:
        if not prune >= 0:
            raise ConfigError(f"--prune {prune} must not be negative; 4 to 8 nats are usual.")
        graph = cut(graph, prune)
    else:
        for nats in _BEAMS:
            if graph.arcs <= _MOST_ARCS:
                break
            graph = cut(graph, nats)
    write_one(out, lambda file: save_lattice_svg(graph, file))
    _tell(out, json)


def endpoints(
    audio: Annotated[Path, typer.Argument(help="A recording.")],
    out: Annotated[Path, typer.Option(help="The picture to write: .png, .svg or .pdf.")],
    model: speech.Model = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """One recording on its time line: words, voice activity, and where both end-pointers fired."""
    from solomonic.evals.endpointing_plots import plot_timeline

    recognizer = speech.open_recognizer(model, device)
    plot_timeline(timeline(recognizer, audio), out)
    _tell(out, json)


def gates(
    audio: Annotated[Path, typer.Argument(help="A recording.")],
    out: Annotated[Path, typer.Option(help="The picture to write: .png, .svg or .pdf.")],
    model: speech.Model = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Where in a recording a branching encoder ran its large branch, and how sure it was."""
    import torch

    from solomonic.evals.branching_plots import Gates, plot_gates
    from solomonic.speech.audio import read_audio
    from solomonic.speech.branching.decisions import decisions
    from solomonic.speech.features import features

    recognizer = speech.open_recognizer(model, device)
    frames = torch.from_numpy(features(read_audio(audio), recognizer.features))
    found = decisions(recognizer.model.transducer.encoder, frames)
    line = timeline(recognizer, audio)
    picture = Gates(
        audio=line.audio, events=line.events, found=found, speech=line.speech, title=audio.name
    )
    plot_gates(picture, out)
    if json:
        console.emit({"written": [out], "steps": len(found.large), "share": found.share})
    else:
        print(out)


def timeline(recognizer: Recognizer, audio: Path) -> Timeline:
    """What `plot_timeline` draws of a recording.

    Raises:
        DataError: it cannot be read.
    """
    import numpy as np

    from solomonic.evals.endpointing_plots import Timeline
    from solomonic.speech.audio import RATE, read_audio
    from solomonic.speech.endpoint.voice import pool
    from solomonic.speech.features import features

    samples = read_audio(audio)
    stream = recognizer.create_stream()
    stream.observations = []
    stream.accept_waveform(RATE, samples)
    stream.input_finished()
    events = stream.events()
    config = recognizer.model.transducer.config
    frames = features(samples, recognizer.features)
    whole = len(frames) // config.frames_per_step * config.frames_per_step
    heard, _ = recognizer.voice.step(frames[:whole])
    ends = np.full(whole // config.frames_per_step, np.nan)  # nothing is asked between utterances
    for seen in stream.observations:
        block = round(seen.time / config.frame_seconds) - 1
        if seen.end_probability is not None and block < len(ends):
            ends[block] = seen.end_probability
    return Timeline(
        audio=samples,
        events=events,
        speech=pool(heard, config.frames_per_step),
        ends=None if np.isnan(ends).all() else ends,
        frame_seconds=config.frame_seconds,
        title=audio.name,
    )


def read_lattice(path: Path) -> Lattice | None:
    """The lattice in a file that `solomonic transcribe --format lattice` writes, by its ending;
    None: the ending is none of a lattice's.

    Raises:
        DataError: it cannot be read or is damaged.
    """

    from solomonic.speech.lattice import is_lattice_file, load_lattice

    if path.name.endswith(LATTICES["svg"]):
        raise ConfigError(f"{path} is a picture already; give a recording or a lattice.")
    return load_lattice(path) if is_lattice_file(path) else None


def _tell(path: Path, json: bool) -> None:
    if json:
        console.emit({"written": [path]})
    else:
        print(path)
