"""End-pointing on commands with pauses of 100 to 900 ms inside: early cuts against latency.

    make bench ARGS="endpointing [MODEL] [--count 200]"

Commands of the assistant grammar, other sentences and other voices than the model was trained on;
half of them with one or two pauses inside; noise at 12 to 35 dB. The true end of speech is known
from the synthesis. Speculation on and off is decoded for real, the curve is replayed.
"""

import argparse
from pathlib import Path

import numpy as np

from solomonic.evals.endpointing import (
    EndpointRecord,
    Recording,
    measure,
    model_settings,
    rule_settings,
    sweep,
)
from solomonic.evals.endpointing_plots import plot_curve
from solomonic.evals.report import save_report
from solomonic.recipes.endpoint import PausedCommand, paused_commands
from solomonic.speech.endpoint import EndpointConfig
from solomonic.speech.events import Event, Final, SpeculativeEnd
from solomonic.speech.recognizer import Recognizer

RESULTS = Path(__file__).parent / "results"
IMAGES = Path("docs/images")
_RATE, _PIECE = 16000, 1600


def commands(count: int, seed: int = 77) -> list[PausedCommand]:
    """Sentences that training never drew (another seed and the held-out names), held-out voices."""
    from solomonic.speech.data.grammar import assistant_grammar
    from solomonic.speech.data.synthesis import HELD_OUT_VOICES

    drawn = assistant_grammar("held_out").sentences(count, np.random.default_rng(seed))
    return list(paused_commands([one.text for one in drawn], HELD_OUT_VOICES, seed))


def listen(recognizer: Recognizer, audio: np.ndarray) -> list[Event]:
    """The events of a recording that arrives in pieces of 100 ms."""
    stream, events = recognizer.create_stream(), []
    for start in range(0, len(audio), _PIECE):
        stream.accept_waveform(_RATE, audio[start : start + _PIECE])
        events += stream.events()
    return events


def record(
    name: str, command: PausedCommand, events: list[Event], without: list[Event]
) -> EndpointRecord:
    """The first utterance that end-pointing made of a command."""
    final = next((e for e in events if isinstance(e, Final)), None)
    plain = next((e for e in without if isinstance(e, Final)), None)
    early = [
        e.time
        for e in events
        if isinstance(e, SpeculativeEnd) and (final is None or e.utterance == final.utterance)
    ]
    ends = [start for start, _ in command.speech.pauses] + [command.speech.speech_end]
    return EndpointRecord(
        utterance=name,
        true_end=command.speech.speech_end,
        duration=len(command.speech.audio) / _RATE,
        speculative_times=tuple(early),
        final_time=None if final is None else final.time,
        commit=final is not None and final.commit,
        reason="" if final is None else final.reason,
        words_cut=0 if final is None else sum(end > final.time for end in ends),
        text="" if final is None else final.result.text,
        text_without="" if plain is None else plain.result.text,
    )


def observed(recognizer: Recognizer, name: str, command: PausedCommand) -> Recording:
    """Every frame's observation, with end-pointing off, for replaying."""
    stream = recognizer.create_stream(endpointing=False)
    stream.observations = []
    stream.accept_waveform(_RATE, command.speech.audio)
    stream.events()
    return Recording(
        utterance=name,
        observations=stream.observations,
        true_end=command.speech.speech_end,
        duration=len(command.speech.audio) / _RATE,
        frame_seconds=recognizer.model.transducer.config.frame_seconds,
        word_ends=[end for end, _ in command.speech.pauses] + [command.speech.speech_end],
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=endpointing")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--name", default="endpointing")
    given = parser.parse_args(arguments)
    model = Recognizer.from_pretrained(given.model).model
    on = Recognizer(model)
    off = Recognizer(model, endpoint=EndpointConfig(speculate=False))
    spoken = commands(given.count)
    records, recordings = [], []
    for number, command in enumerate(spoken):
        audio = command.speech.audio
        name = f"{number:03d}"
        records.append(record(name, command, listen(on, audio), listen(off, audio)))
        recordings.append(observed(on, name, command))
        if number % 20 == 19:
            print(f"{number + 1} of {len(spoken)}", flush=True)
    report = measure(records)
    print(report.table())
    curves = {
        "two end-pointers, model": sweep(recordings, model_settings()),
        "rules alone": sweep(recordings, rule_settings(), use_head=False),
    }
    plot_curve(curves, IMAGES / f"{given.name}.svg")
    found = {
        "model": given.model or "shipped",
        "commands": len(spoken),
        "report": report.to_json(),
        "curves": {name: [p.to_json() for p in points] for name, points in curves.items()},
    }
    print(save_report(RESULTS, given.name, found))
