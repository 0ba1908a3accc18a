"""Recognisers in a process of their own: one takes a PCM file and gives what was said in it.

Commands: `load` (one contender), `decode` (a file of 16-bit samples at 16 kHz), `memory`. The
samples are read before the clock starts. Only the contender that is loaded is imported, so that
resident memory is its own.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.protocol import pin, resident

Recognise = Callable[[bytes], str]


def pocketsphinx(jsgf: str, dictionary: str) -> Recognise:
    """CMU PocketSphinx with its own en-us model, a grammar, and a dictionary of its words alone.

    It is given each utterance whole, which is what its mean normalisation likes best.
    """
    from pocketsphinx import Decoder, get_model_path

    decoder = Decoder(
        hmm=get_model_path("en-us/en-us"),
        dict=dictionary,
        jsgf=jsgf,
        samprate=16000,
        loglevel="FATAL",
    )

    def recognise(pcm: bytes) -> str:
        decoder.start_utt()
        decoder.process_raw(pcm, no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return "" if found is None else found.hypstr

    return recognise


def solomonic(model: str | None, method: str = "beam") -> Recognise:
    """Our recogniser, open vocabulary, the recording taken as one utterance as the peer does; a
    device file runs in the native core."""
    import numpy as np

    from solomonic.speech.native_recognizer import ENDING, NativeRecognizer

    recognizer: Any
    if model and model.endswith(ENDING):
        recognizer = NativeRecognizer(model)
        recognizer.set(**{"decode.greedy": method == "greedy"})
    else:
        import torch

        from solomonic.speech.decode import DecodeConfig
        from solomonic.speech.places import SHIPPED
        from solomonic.speech.pretrained import load_speech_model
        from solomonic.speech.recognizer import Recognizer

        torch.set_num_threads(1)
        loaded = load_speech_model(model or SHIPPED)
        recognizer = Recognizer(loaded, (loaded.decode or DecodeConfig()).replace(method=method))

    def recognise(pcm: bytes) -> str:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
        return recognizer.transcribe(samples, endpointing=False).text

    return recognise


CONTENDERS: dict[str, Callable[..., Recognise]] = {
    "pocketsphinx": pocketsphinx,
    "solomonic": solomonic,
}


class Server:
    """The commands of the worker."""

    def __init__(self) -> None:
        self.recognise: Recognise = lambda _: ""

    def load(self, contender: str, cpus: list[int], **settings: Any) -> dict[str, Any]:
        pin(cpus)
        cpu = time.process_time()
        self.recognise = CONTENDERS[contender](**settings)
        return {"cpu": time.process_time() - cpu, **self.memory()}

    def decode(self, file: str) -> dict[str, Any]:
        pcm = Path(file).read_bytes()
        wall, cpu = time.perf_counter(), time.process_time()
        text = self.recognise(pcm)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {"text": text, "cpu": cpu, "wall": wall, "seconds": len(pcm) / 32000}

    def memory(self) -> dict[str, Any]:
        return {"resident": resident("VmRSS"), "peak": resident("VmHWM")}


def main() -> None:
    """Answer commands until the input ends; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = getattr(server, request.pop("do"))(**request)
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
