"""Word lattices of recordings with texts, made once: what `rerank` measures and tunes on.

A folder a set: one lattice message a recording, exactly as a device would send it (within its
limit of bytes, scores rounded), and `manifest.jsonl`, which `solomonic tune-rerank` reads:

    {"lattice": "000012.slm", "text": "turn on the light", "one_best": "turn on the lied",
     "source": "synthetic", "speaker": "flite:rms", "name": null}
"""

import json
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from solomonic.speech.data.manifest import Utterance, read_manifest
from solomonic.speech.lattice import LatticeMessage, encode_message, limit_for
from solomonic.speech.native_recognizer import NativeRecognizer, PersonalWords
from solomonic.speech.places import SHIPPED, device_file_of
from solomonic.speech.result import Result
from solomonic.text.spoken import normalise

MANIFEST = "manifest.jsonl"
Words = Callable[[int], Sequence[Any]]
"""Personal words for the recording of this number."""


def shipped_recognizer(work: Path) -> tuple[NativeRecognizer, Path]:
    """The recogniser of the package, run by the native core, and the folder of its lattices: those
    of another one are never taken for them."""
    file = device_file_of(SHIPPED)
    assert file is not None, "the package's recogniser is a device file"
    return NativeRecognizer(file), work / f"{zlib.crc32(file.read_bytes()):08x}"


def make_lattices(
    recognizer: NativeRecognizer,
    manifest: Path,
    split: str,
    out: Path,
    words: Words | None = None,
    only: Collection[int] | None = None,
) -> Path:
    """Recognise every recording of a split as one utterance; gives the new manifest.

    What is there already is not made again.

    Args:
        only: numbers of the recordings that are wanted; None: all.
    """
    if (out / MANIFEST).is_file():
        return out / MANIFEST
    out.mkdir(parents=True, exist_ok=True)
    rows, started = [], time.monotonic()
    utterances = read_manifest(manifest, split)
    for number, utterance in enumerate(utterances):
        if only is not None and number not in only:
            continue
        bias = None if words is None else PersonalWords(phrases=list(words(number)))
        result = recognizer.transcribe(utterance.audio, bias=bias, endpointing=False)
        rows.append(_write(result, utterance, out, number))
        if number % 100 == 99:
            print(f"{out.name}: {number + 1} in {time.monotonic() - started:.0f} s", flush=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (out / "manifest.part").write_text(text, "utf-8")
    (out / "manifest.part").replace(out / MANIFEST)
    return out / MANIFEST


def _write(result: Result, utterance: Utterance, out: Path, number: int) -> dict[str, Any]:
    row = {
        "lattice": None,
        "number": number,
        "text": normalise(utterance.text or ""),
        "one_best": result.text,
        "source": utterance.source,
        "speaker": utterance.speaker,
        "name": utterance.extra.get("name"),
        "duration": utterance.duration,
    }
    if result.lattice is not None:
        message = LatticeMessage(lattice=result.lattice, duration=utterance.duration)
        row["lattice"] = f"{number:06d}.slm"
        limit = limit_for(utterance.duration)
        (out / row["lattice"]).write_bytes(encode_message(message, limit))
    return row
