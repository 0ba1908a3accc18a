"""Bytes of lattice messages against the audio they stand for: Opus at 24 kbit/s and PCM.

make bench ARGS="lattice FOLDER [MODEL]"    every audio file below FOLDER, the shipped model if none

`measure` is the benchmark: it takes pairs of a word lattice and its audio, from wherever. Opus is
counted twice: at its nominal rate, and as the file that `opusenc` makes of the audio (with the
container, which weighs most in short commands). Times are those of this machine.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from solomonic.speech.lattice import (
    DEFAULT_LIMIT,
    Lattice,
    LatticeMessage,
    decode_message,
    encode_message,
    limit_for,
)

RESULTS = Path(__file__).parent / "results"
RATE = 16_000  # Hz, of the audio that `measure` takes
OPUS_BITS = 24_000  # a second
ENDINGS = {".wav", ".flac", ".ogg", ".opus", ".mp3"}


@dataclass(frozen=True)
class Sizes:
    """One utterance. Bytes: the message within its limit, without one, Opus, PCM of 16 bits."""

    seconds: float
    arcs: int
    kept: int  # arcs within the limit
    message: int
    unlimited: int
    opus: float
    opus_file: int | None
    pcm: int
    encode_ms: float
    decode_ms: float


def measure(pairs: Iterable[tuple[Lattice, np.ndarray]], fixed: bool = False) -> list[Sizes]:
    """Sizes for word lattices and their audio (n,) float32 at 16 kHz.

    Args:
        fixed: a limit of 1,000 bytes whatever the length; else 200 bytes a second, at least 1,000.
    """
    return [_measure(lattice, audio, fixed) for lattice, audio in pairs]


def _measure(lattice: Lattice, audio: np.ndarray, fixed: bool) -> Sizes:
    seconds = len(audio) / RATE
    message = LatticeMessage(lattice=lattice, duration=seconds, language="en", reason="model")
    started = time.process_time()
    data = encode_message(message, DEFAULT_LIMIT if fixed else limit_for(seconds))
    encoded = time.process_time()
    kept = decode_message(data).lattice
    decoded = time.process_time()
    return Sizes(
        seconds=seconds,
        arcs=lattice.arcs,
        kept=0 if kept is None else kept.arcs,
        message=len(data),
        unlimited=len(encode_message(message, None)),
        opus=seconds * OPUS_BITS / 8,
        opus_file=opus_file_bytes(audio),
        pcm=2 * len(audio),
        encode_ms=1000 * (encoded - started),
        decode_ms=1000 * (decoded - encoded),
    )


def opus_file_bytes(audio: np.ndarray) -> int | None:
    """Size of the Ogg file that `opusenc --bitrate 24` makes; None where it is not installed."""
    if not shutil.which("opusenc"):
        return None
    pcm = (np.clip(audio, -1.0, 1.0) * 32767).astype("<i2").tobytes()
    raw = ["--raw", "--raw-rate", str(RATE), "--raw-chan", "1", "--padding", "0"]
    command = ["opusenc", "--quiet", "--speech", "--bitrate", str(OPUS_BITS / 1000), *raw, "-", "-"]
    return len(subprocess.run(command, input=pcm, capture_output=True, check=True).stdout)


def summarise(sizes: list[Sizes]) -> dict[str, Any]:
    """Totals, ratios of totals, and the largest message."""
    message = sum(size.message for size in sizes)
    files = [size.opus_file for size in sizes if size.opus_file is not None]
    return {
        "utterances": len(sizes),
        "seconds": sum(size.seconds for size in sizes),
        "bytes_per_message": message / len(sizes),
        "largest_message": max(size.message for size in sizes),
        "arcs_per_message": sum(size.kept for size in sizes) / len(sizes),
        "arcs_kept": sum(size.kept for size in sizes) / sum(size.arcs for size in sizes),
        "times_smaller_than_opus": sum(size.opus for size in sizes) / message,
        "times_smaller_than_opus_files": sum(files) / message if len(files) == len(sizes) else None,
        "times_smaller_than_pcm": sum(size.pcm for size in sizes) / message,
        "encode_ms": float(np.median([size.encode_ms for size in sizes])),
        "decode_ms": float(np.median([size.decode_ms for size in sizes])),
    }


def recognised(folder: Path, model: str | None) -> Iterator[tuple[Lattice, np.ndarray]]:
    """Lattices of every utterance in the audio files below a folder, with the audio decoded."""
    from solomonic.speech.audio import read_audio
    from solomonic.speech.recognizer import Recognizer

    recognizer = Recognizer.from_pretrained(model)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS:
            audio = read_audio(path)
            result = recognizer.transcribe(path)
            for part in result.utterances or (result,):
                if part.lattice is not None:
                    yield part.lattice, audio[int(part.start * RATE) : int(part.end * RATE)]


def main(arguments: list[str]) -> None:
    """Measure a folder, print the summary, keep it with every utterance's sizes."""
    if not arguments or not Path(arguments[0]).is_dir():
        sys.exit('say make bench ARGS="lattice FOLDER [MODEL]" with a folder of audio')
    sizes = measure(recognised(Path(arguments[0]), arguments[1] if len(arguments) > 1 else None))
    if not sizes:
        sys.exit(f"there is no speech in the audio files below {arguments[0]}")
    summary = summarise(sizes)
    for name, value in summary.items():
        print(f"{name:30} {value if isinstance(value, int | None) else round(value, 2)}")
    RESULTS.mkdir(exist_ok=True)
    report = {"summary": summary, "utterances": [asdict(size) for size in sizes]}
    path = RESULTS / "lattice_bytes.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"every utterance in {path}")
