"""Make recorded.json: what the shipped recogniser says to a spoken session, message by message.

    python tests/serve/web/record.py

The fake server of the browser tests plays it (page_fake.py). The session is three of the
package's own samples, the second in noise, so that its best path is wrong while the right words
are in the lattice; "reranked" there is the n-best list with the right sentence on top, with made-up
scores of a language model.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from solomonic.speech.device_file import write_device_model
from solomonic.speech.events import Event, Final, SpeculativeEnd
from solomonic.speech.lattice import Lattice, arc_posteriors, best_path, n_best
from solomonic.speech.native_recognizer import NativeRecognizer
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import load_speech_model

HERE = Path(__file__).resolve().parent
SESSION = [(1, 0.0), (5, 0.4), (2, 0.0)]  # sample, noise as a share of the speech's level
RIGHT = {"add milk and bread to my shopping list"}
SECONDS = 0.06  # of audio a message


def session_audio() -> np.ndarray:
    """The samples in a row, (n,) float32 at 16 kHz."""
    parts = []
    for number, noise in SESSION:
        generator = np.random.default_rng(2)
        samples, _ = soundfile.read(SHIPPED / "samples" / f"{number}.opus", dtype="float32")
        level = float(np.sqrt(np.mean(samples**2)))
        parts.append(samples + noise * level * generator.standard_normal(len(samples)))
    return np.concatenate(parts).astype(np.float32)


def lattice_json(lattice: Lattice) -> dict[str, Any]:
    """The lattice as /v1/stream tells it."""
    posteriors, spans = arc_posteriors(lattice), lattice.arc_spans()
    arcs = [
        {
            "source": int(lattice.sources[arc]),
            "target": int(lattice.targets[arc]),
            "word": lattice.symbols[lattice.labels[arc]],
            "acoustic": round(float(lattice.acoustic[arc]), 4),
            "bias": round(float(lattice.bias[arc]), 4),
            "start": round(float(spans[arc, 0]) * lattice.frame_seconds, 3),
            "end": round(float(spans[arc, 1]) * lattice.frame_seconds, 3),
            "posterior": round(float(posteriors[arc]), 4),
        }
        for arc in range(lattice.arcs)
    ]
    nodes = [int(frame) for frame in lattice.frames]
    return {"frame_seconds": lattice.frame_seconds, "nodes": nodes, "arcs": arcs}


def reranked_json(lattice: Lattice, right: set[str]) -> dict[str, Any]:
    """An n-best list with a sentence of `right` on top, if the lattice has one."""
    found = []
    for place, path in enumerate(n_best(lattice, 20)):
        words = path.text.split()
        parts = {
            "acoustic": float(lattice.acoustic[list(path.arcs)].sum()),
            "bias": float(lattice.bias[list(path.arcs)].sum()),
            "lm": -2.1 * len(words) - (0.0 if path.text in right else 5.3 + 0.2 * place),
            "internal": 1.4 * len(words),
            "memory": 0.6 if path.text in right else 0.0,
            "words": len(words),
        }
        parts = {name: round(value, 3) for name, value in parts.items()}
        score = round(sum(parts.values()) - 0.7 * len(words), 3)
        found.append({"text": path.text, "arcs": list(path.arcs), **parts, "score": score})
    found = sorted(found, key=lambda one: -one["score"])[:8]
    return {
        "text": found[0]["text"],
        "one_best": best_path(lattice).text,
        "arcs": found[0]["arcs"],
        "hypotheses": found,
    }


def messages(event: Event) -> list[dict[str, Any]]:
    """What the server would send for an event."""
    plain = event.to_json()
    told = [{"type": plain.pop("event")} | plain]
    committed = isinstance(event, Final) and event.commit  # has been told as speculative end
    if (
        isinstance(event, Final | SpeculativeEnd)
        and event.result.lattice is not None
        and not committed
    ):
        lattice = event.result.lattice
        key = {"utterance": event.utterance, "revision": event.revision}
        best = list(best_path(lattice).arcs)
        shown = lattice_json(lattice)
        told.append({"type": "lattice"} | key | {"lattice": shown, "best": best})
        told.append({"type": "reranked"} | key | reranked_json(lattice, RIGHT))
    return told


def main() -> None:
    """Recognise the session and write what was told, with the audio read before each message."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "english.solo"
        write_device_model(path, load_speech_model(SHIPPED))
        stream = NativeRecognizer(path).create_stream()
        told: list[tuple[float, dict[str, Any]]] = []
        audio = session_audio()
        size = int(SECONDS * 16_000)
        for start in range(0, len(audio), size):
            stream.accept_waveform(16_000, audio[start : start + size])
            read = min(start + size, len(audio)) / 16_000
            told += [(read, message) for event in stream.events() for message in messages(event)]
        stream.input_finished()
        told += [
            (len(audio) / 16_000, message)
            for event in stream.events()
            for message in messages(event)
        ]
    lines = ",\n".join(json.dumps([round(read, 3), message]) for read, message in told)
    (HERE / "recorded.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
