"""`solomonic train context` and `train endpoint`: what a trained recogniser learns besides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from solomonic.cli import console
from solomonic.cli.options import Json, Seed, Settings, budget
from solomonic.cli.train_asr import Data, Features, Weights, _weights
from solomonic.core import DataError

Model = Annotated[Path, typer.Option(help="Trained recogniser to start from.")]


def context(
    data: Data,
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the recogniser with attention.")],
    phrases: Annotated[
        Path | None, typer.Option(help="Text file of phrases to fill lists with, one a line.")
    ] = None,
    weight: Weights = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Wall-clock budget.")] = None,
    settings: Settings = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    json: Json = False,
) -> None:
    """Train attention to personal words; the recogniser itself stays bit for bit what it was."""
    from solomonic.recipes.asr_data import AsrData
    from solomonic.recipes.context import ContextRun, build_context_task
    from solomonic.speech.biasing import read_phrases
    from solomonic.train import train

    given = console.given(steps=steps) | budget(minutes, steps, None if resume else 50)
    run = ContextRun().changed(given | console.parse_settings(settings or []))
    source = AsrData(manifests=tuple(data), weights=_weights(weight or []))
    listed = [phrase.text for phrase in read_phrases(phrases)] if phrases else []
    task, _ = build_context_task(run, model, source, out, listed, Features())
    for reason, number in task.left_out.items():
        console.say(f"left out: {number:,} {reason}")
    subject: Any = task
    result = train(subject, run.train, out, resume="auto" if resume else False)
    record = {"out": str(out), "steps": result.step, "loss": result.loss, "stopped": result.stopped}
    if json:
        console.emit(record)
    else:
        console.table("Trained", ("", ""), list(record.items()))
    if result.interrupted:
        console.say("interrupted; the same command with --resume goes on from here")
        raise typer.Exit(130)


def endpoint(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the recogniser with end-pointers.")],
    sentences: Annotated[
        Path | None,
        typer.Option(help="Text file of commands, one a line (default: the assistant grammar)."),
    ] = None,
    count: Annotated[int, typer.Option(help="Commands to speak and learn from.", min=2)] = 1000,
    epochs: Annotated[int, typer.Option(help="Passes over them.", min=1)] = 30,
    weights: Annotated[str, typer.Option(help="How to store the model: float32 or int8.")] = (
        "float32"
    ),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Train the end-pointers' head on synthetic commands with pauses (espeak-ng and flite)."""
    from solomonic.recipes.endpoint import end_sequences, paused_commands, train_end
    from solomonic.speech.data.synthesis import TRAIN_VOICES
    from solomonic.speech.endpoint.training import EndTraining
    from solomonic.speech.pretrained import load_speech_model, save_speech_model

    speech = load_speech_model(model)
    texts = _sentences(sentences, count, seed)
    console.make_folder(out)  # not to find out only when all is done that it cannot be written
    spoken = []
    for number, command in enumerate(paused_commands(texts, TRAIN_VOICES, seed), 1):
        spoken.append(command)
        if number % 200 == 0:
            console.say(f"spoken: {number:,} of {len(texts):,}")
    sequences = end_sequences(speech, spoken, _every(200, "read"))
    losses = train_end(
        speech,
        sequences,
        EndTraining(epochs=epochs, seed=seed),
        lambda epoch, loss: console.say(f"epoch {epoch} of {epochs}: loss {loss:.4f}"),
    )
    card = model / "README.md"
    save_speech_model(out, speech, weights, card.read_text("utf-8") if card.is_file() else None)
    record = {"out": str(out), "commands": len(spoken), "loss": losses[-1]}
    if json:
        console.emit(record)
    else:
        console.table("Trained", ("", ""), list(record.items()))


def _sentences(file: Path | None, count: int, seed: int) -> list[str]:
    """Up to `count` commands of a file or of the built-in grammar, in their spoken form."""
    import numpy as np

    from solomonic.speech.data.grammar import assistant_grammar
    from solomonic.text.spoken import is_spoken, normalise

    if file is None:
        drawn = assistant_grammar("train").sentences(count, np.random.default_rng(seed))
        return [sentence.text for sentence in drawn]
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read ({error}); give a text file.") from error
    said = [text for line in lines if (text := normalise(line))]
    texts = [text for text in said if is_spoken(text)]
    if not texts:
        raise DataError(f"{file} holds no sentence of words; write one command a line.")
    if len(texts) < len(said):
        console.say(f"left out: {len(said) - len(texts):,} with digits or such")
    return texts[:count]


def _every(step: int, what: str) -> Any:
    """A progress callback that speaks now and then."""
    shown = [0]

    def tell(done: int, total: int) -> None:
        if done - shown[0] >= step or done == total:
            shown[0] = done
            console.say(f"{what}: {done:,} of {total:,}")

    return tell
