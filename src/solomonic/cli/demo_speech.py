"""The demonstration's third part: the shipped recogniser hears commands as they stream in."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.cli import speech

if TYPE_CHECKING:
    from rich.console import Console

    from solomonic.speech.native_recognizer import NativeRecognizer
    from solomonic.speech.recognizer import Recognizer
    from solomonic.speech.result import Result

_NEEDED = ("kaldi_native_fbank", "sentencepiece", "soundfile", "soxr")
_PIECE = 1600  # samples handed over at once: 100 ms, as a sound card would


def hear(out: Path, story: Console) -> dict[str, Any]:
    """Stream every sample recording through the shipped model; show what was said and heard.

    Returns:
        What `demo.json` keeps: the sentences with what was heard and how much sooner an answer
        could begin, how many were right, the share of real time it took, a lattice's picture.
    """
    from rich.table import Table

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        story.print(
            f"The recogniser needs {', '.join(missing)}: pip install 'solomonic\\[speech]'",
            soft_wrap=True,
        )
        return {"missing": missing}
    from solomonic.speech.audio import read_audio
    from solomonic.speech.places import SHIPPED

    recognizer = speech.open_any(None)
    folder = SHIPPED / "samples"
    names, engine = speech.prepared(recognizer, None, folder / "named" / "names.txt", None, None)
    samples = json.loads((folder / "samples.json").read_text("utf-8"))
    table = Table("spoken", "heard", "confidence", "answer could begin", box=None, padding=(0, 2))
    heard, seconds, audio_seconds = [], 0.0, 0.0
    for sample in samples:
        audio = read_audio(folder / sample["audio"])
        started = time.process_time()
        result, early = _stream(recognizer, audio)
        seconds += time.process_time() - started
        audio_seconds += len(audio) / 16000
        right = result.text == sample["text"]
        heard.append({**sample, "heard": result.text, "right": right, "saved_ms": early})
        table.add_row(
            sample["text"],
            _marked(result.text, sample["text"]),
            f"{result.confidence:.2f}",
            f"{early:.0f} ms before it ended" if early else "-",
        )
        last = result
    story.print(table)
    picture = _picture(last, out)
    story.print(
        f"[dim]{engine['parameters'] / 1e6:.1f} M parameters, {engine['weights']} weights, "
        f"{engine['runtime']}; streamed in pieces of {_PIECE / 16:.0f} ms, "
        f"{seconds / audio_seconds:.3f} s of processor time a second of audio[/dim]"
    )
    return {
        "engine": engine,
        "sentences": heard,
        "names": _names(recognizer, names, folder / "named", story),
        "right": sum(row["right"] for row in heard),
        "real_time_factor": round(seconds / audio_seconds, 4),
        "picture": picture,
    }


def _marked(heard: str, said: str) -> str:
    return heard if heard == said else f"[red]{heard}[/red]"


def _names(
    recognizer: Recognizer | NativeRecognizer, names: Any, folder: Path, story: Console
) -> list[Any]:
    """Names that training never heard, without a list of a user's contacts and with it."""
    from rich.table import Table

    from solomonic.speech.audio import read_audio

    table = Table("spoken", "heard", f"heard with {len(names.phrases)} names given", box=None)
    table.padding = (0, 2)
    found = []
    for sample in json.loads((folder / "samples.json").read_text("utf-8")):
        audio = read_audio(folder / sample["audio"])
        plain = recognizer.transcribe(audio).text
        text = recognizer.transcribe(audio, bias=names).text
        found.append({**sample, "heard": text, "without": plain, "right": text == sample["text"]})
        table.add_row(sample["text"], *(_marked(one, sample["text"]) for one in (plain, text)))
    story.print(table)
    return found


def _stream(recognizer: Recognizer | NativeRecognizer, audio: Any) -> tuple[Result, float]:
    """The result, and by how many ms a speculative end came before the final one (0: none did)."""
    import numpy as np

    from solomonic.speech.events import Final, SpeculativeEnd

    stream = recognizer.create_stream()
    speculated, early = None, 0.0
    for start in range(0, len(audio), _PIECE):
        stream.accept_waveform(16000, np.asarray(audio[start : start + _PIECE]))
        for event in stream.events():
            if isinstance(event, SpeculativeEnd):
                speculated = event.time
            elif isinstance(event, Final) and event.commit and speculated is not None:
                early = 1000 * (event.time - speculated)
    stream.input_finished()
    return stream.result(), early


def _picture(result: Result, out: Path) -> Path | None:
    """The last sentence's lattice as SVG."""
    from solomonic.evals.output import write_one
    from solomonic.speech.lattice import draw_lattice

    lattice = result.lattice or next((u.lattice for u in result.utterances if u.lattice), None)
    if lattice is None:
        return None
    drawing = draw_lattice(lattice)
    return write_one(out / "lattice.svg", lambda file: file.write_text(drawing, "utf-8"))
