"""Teach the English model its attention to personal words; all else stays bit for bit what it was.

    python benchmarks/english_small/attention.py WORK MODEL OUT [--minutes M]

WORK holds what `corpus.py` made and the features of `train.py`. Half of what is read are sentences
with names that MODEL never learned, the other half all other sets: without them it would learn
that every sentence has a name. OUT/quieter is a model for `ship.py`: the attention with less to
say, as held-out sentences without a listed name asked for. A killed run goes on with the same
command.
"""

import argparse
import dataclasses
from pathlib import Path

import torch

from solomonic.recipes.context import ContextRun, of_joint
from solomonic.speech.biasing.sampling import SamplingConfig
from solomonic.speech.context_task import ContextTask, ContextTaskConfig
from solomonic.speech.data.manifest import read_manifest
from solomonic.speech.data.online import OnlineConfig
from solomonic.speech.pretrained import load_speech_model, save_speech_model
from solomonic.text.spoken import normalise
from solomonic.train import train
from train import bank

QUIETER = (-0.5, -0.25)
"""Nats at the beginning of phrases and further in; chosen among four on the part "dev"."""
AUDIO = OnlineConfig(
    noise=0.8, snr_db=(-2.0, 25.0), equalise=0.8, equalise_db=10.0, warp=0.16, narrow=0.3,
    time_masks=6, bin_masks=2,
)  # fmt: skip
"""Harder than the recogniser's own training: what it hears well teaches nothing about names."""
SETS = {
    "contacts": 1.0, "synthetic": 0.6, "names": 0.5, "more": 0.5, "most": 0.4, "words": 0.1,
    "an4": 1.0, "speech_commands_subset": 0.2, "fsdd": 0.3, "librispeech_small": 0.3,
    "wuw2_telephone": 0.1,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=50)
    parser.add_argument("--lr", type=float, default=1e-3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    speech = load_speech_model(given.model)
    if speech.transducer.pointer is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            speech.transducer.pointer = of_joint(speech.transducer)
    listed = {str(u.extra["name"]) for u in read_manifest(given.work / "contacts" / "train")}
    task = ContextTask(
        speech,
        [(bank(given.work, name, "train", 0), weight) for name, weight in SETS.items()],
        pool=[tuple(speech.pieces.encode(normalise(name))) for name in sorted(listed)[::10]],
        config=ContextTaskConfig(frames_per_batch=9600),
        sampling=SamplingConfig(positive=0.4),
        online=AUDIO,
    )
    print("left out:", task.left_out, flush=True)
    schedule = ContextRun().train.replace(
        steps=1_000_000, lr=given.lr, max_seconds=60 * given.minutes, save_every=100, log_every=25,
        warmup=30, min_lr_ratio=0.02,
    )  # fmt: skip
    subject: object = task
    print(train(subject, schedule, given.out, resume="auto", progress=False))  # pyright: ignore
    trained = load_speech_model(given.out)
    assert trained.transducer.pointer is not None
    depth = trained.transducer.pointer.depth
    depth.data += torch.tensor([QUIETER[0]] + [QUIETER[1]] * (len(depth) - 1))
    save_speech_model(given.out / "quieter", dataclasses.replace(trained, decode=speech.decode))


if __name__ == "__main__":
    main()
