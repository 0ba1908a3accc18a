"""Twelve new words for the shipped recogniser: all weights trained anew, and an update of 2%.

make bench ARGS=updates_words                      low-rank, 100 steps
make bench ARGS="updates_words KIND STEPS RATE"    mask, hash or low-rank

Errors of greedy search on synthetic voices held out from training, and on Speech Commands, which
was heard before and must not be forgotten. Both train equally many steps on the same batches.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

import updates_tunes as tunes
from solomonic.compress.delta import diff
from solomonic.compress.delta.rules import Rule
from solomonic.compress.delta.trained import UpdateConfig, train_update
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import build_pack, read_pack
from solomonic.evals.report import save_report
from solomonic.speech.device_file import write_device_model

RESULTS = Path(__file__).parent / "results"
SHARE = 0.02


def main(arguments: list[str]) -> None:
    """Train, count errors, write one result file."""
    torch.set_num_threads(1)
    kind, steps, rate = (*arguments, *("low-rank", "100", "0.0025")[len(arguments) :])
    data, speech = tunes.corpus(), tunes.shipped()
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.solo"
        write_device_model(path, speech)
        pack = read_pack(path)
    old = build_pack(pack)
    base = {
        name: tensor
        for name, tensor in pack.tensors.items()
        if isinstance(tensor, QuantisedMatrix)
        and name.startswith("transducer.")
        and ".context." not in name
    }

    def measure(matrices: Mapping[str, QuantisedMatrix], rules: Mapping[str, Rule]) -> int:
        new = dataclasses.replace(pack, tensors={**pack.tensors, **matrices})
        return len(diff(old, build_pack(new), rules).data)

    def errors(what: str) -> dict[str, int]:
        new, words = tunes.word_errors(speech, data.new_test)
        kept, known = tunes.word_errors(speech, data.old_test)
        print(f"{what}: {new} errors in {words} new words, {kept} in {known} old ones", flush=True)
        return {"new": new, "new_words": words, "old": kept, "old_words": known}

    found = {"before": errors("before")}
    task = tunes.WordsTask(speech, data.new, data.old)
    config = UpdateConfig(kind=kind, steps=int(steps), lr=float(rate))
    update = train_update(task, base, int(SHARE * len(old)), measure, config)
    found["update"] = errors(f"{kind}, {update.bytes:,} of {len(old):,} bytes")
    speech = tunes.shipped()
    task = tunes.WordsTask(speech, data.new, data.old)
    tunes.tuned(f"new-words-{steps}", task, int(steps), 4e-4)
    found["all weights"] = errors("all weights, float32")
    settings = {"kind": kind, "steps": int(steps), "lr": float(rate), "words": tunes.WORDS}
    sizes = {"model_bytes": len(old), "update_bytes": update.bytes}
    record = {"settings": settings, "sizes": sizes, "errors": found}
    print(save_report(RESULTS, "updates_words", record))


if __name__ == "__main__":
    main(sys.argv[1:])
