"""Train the English model of the package, stage by stage.

    python benchmarks/english_small/train.py WORK STAGE [--minutes M] [--processes N] [--init RUN]

WORK holds what `corpus.py` made. Stages: "words" (single words and AN4: the encoder learns to align
within minutes), "sentences" (the same and clean synthetic commands), "full" (all sets, plain and in
two perturbed copies, with noise and masks), "more" (the same and the second synthetic corpus),
"end" (the same under a floor of noise, beginning where the rate of "more" ended; `soup.py` then
takes the mean of both, which is better than either), "most" (every command text that there is, on
the hiss of microphones), "microphones" (the same through other microphones and narrow bands).
Each goes on from the newest checkpoint of the one before, or from --init, a run's folder or a
finished model; a killed stage goes on with the same command. Each process takes one core and a
batch of its own. Why in stages: docs/log.md.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from solomonic.recipes.asr_data import Banks, perturbation, statistics
from solomonic.recipes.compress import training_model
from solomonic.speech.audio import read_audio
from solomonic.speech.config import TransducerConfig
from solomonic.speech.data.bank import FeatureBank, build_bank
from solomonic.speech.data.online import OnlineConfig
from solomonic.speech.features import features
from solomonic.speech.model import Transducer
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import load_speech_model
from solomonic.speech.task import SpeechTaskConfig, TrainingModel, TransducerTask
from solomonic.train import TrainConfig, list_checkpoints, train

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = (
    "librispeech_small",
    "wuw2_telephone",
    "an4",
    "speech_commands_subset",
    "fsdd",
    "arctic_kathleen",
)
CLEAN = OnlineConfig(noise=0.0, time_masks=0, bin_masks=0, volume_db=(-6.0, 6.0))


@dataclasses.dataclass(frozen=True)
class Stage:
    """What one stage reads (how often an epoch reads each set), and how."""

    before: str | None
    sets: dict[str, float]
    copies: int
    online: OnlineConfig
    task: dict[str, Any]
    train: dict[str, Any]
    once: tuple[str, ...] = ()
    """Sets of which no perturbed copy is made."""


STAGES = {
    "words": Stage(
        None,
        {"an4": 1.0, "speech_commands_subset": 1.0, "fsdd": 1.0},
        0,
        CLEAN,
        {"frames_per_batch": 4800, "warm_steps": 2000},
        {"steps": 500, "lr": 6e-4, "warmup": 60},
    ),
    "sentences": Stage(
        "words",
        {
            "synthetic": 1.0, "names": 0.5, "an4": 1.5, "speech_commands_subset": 0.5, "fsdd": 1.0,
            "arctic_kathleen": 1.0, "librispeech_small": 0.15,
        },
        0,
        CLEAN,
        {"frames_per_batch": 7200, "warm_steps": 2000},
        {"steps": 600, "lr": 6e-4, "warmup": 100},
    ),
    "full": Stage(
        "sentences",
        {
            "synthetic": 0.7, "names": 0.5, "an4": 1.5, "speech_commands_subset": 0.4, "fsdd": 1.0,
            "arctic_kathleen": 0.3, "librispeech_small": 0.15, "wuw2_telephone": 0.15,
        },
        2,
        OnlineConfig(noise=0.3),
        {"frames_per_batch": 9600, "warm_steps": 0, "ramp_steps": 1, "ctc_scale": 0.2},
        {"steps": 1_000_000, "lr": 6.5e-4, "warmup": 100},
    ),
    "more": Stage(
        "full",
        {
            "synthetic": 0.5, "names": 0.5, "more": 0.9, "an4": 1.5, "speech_commands_subset": 0.5,
            "fsdd": 1.0, "arctic_kathleen": 0.3, "librispeech_small": 0.2, "wuw2_telephone": 0.1,
        },
        2,
        OnlineConfig(noise=0.3),
        {"frames_per_batch": 8400, "warm_steps": 0, "ramp_steps": 1, "ctc_scale": 0.2},
        {"steps": 1_000_000, "lr": 8e-4, "warmup": 100},
    ),
    "end": Stage(
        "more",
        {
            "synthetic": 0.5, "names": 0.5, "more": 0.9, "an4": 1.5, "speech_commands_subset": 0.5,
            "fsdd": 1.0, "arctic_kathleen": 0.3, "librispeech_small": 0.2, "wuw2_telephone": 0.1,
        },
        2,
        OnlineConfig(noise=0.75, snr_db=(3, 50)),
        {"frames_per_batch": 8400, "warm_steps": 0, "ramp_steps": 1, "ctc_scale": 0.2},
        {"steps": 1_000_000, "lr": 2.5e-4, "min_lr_ratio": 0.02, "warmup": 100},
    ),
    "most": Stage(
        "end",
        {
            "synthetic": 0.5, "names": 0.5, "more": 0.5, "most": 1.0, "words": 1.0, "an4": 2.0,
            "speech_commands_subset": 0.8, "fsdd": 1.5, "arctic_kathleen": 0.5,
            "librispeech_small": 0.4, "wuw2_telephone": 0.2,
        },
        1,
        OnlineConfig(noise=0.5, snr_db=(5, 45)),
        {"frames_per_batch": 8400, "warm_steps": 0, "ramp_steps": 1, "ctc_scale": 0.2},
        {"steps": 1_000_000, "lr": 4e-4, "min_lr_ratio": 0.02, "warmup": 200},
        once=("librispeech_small", "wuw2_telephone", "more", "most", "words"),
    ),
    "microphones": Stage(
        "most",
        {
            "synthetic": 0.5, "names": 0.3, "more": 0.4, "most": 0.7, "words": 1.0, "an4": 2.0,
            "speech_commands_subset": 2.0, "fsdd": 2.0, "arctic_kathleen": 0.5,
            "librispeech_small": 0.3, "wuw2_telephone": 0.2,
        },
        1,
        OnlineConfig(noise=0.4, snr_db=(5, 45), narrow=0.3, equalise=0.7),
        {"frames_per_batch": 8400, "warm_steps": 0, "ramp_steps": 1, "ctc_scale": 0.2},
        {"steps": 1_000_000, "lr": 4e-4, "min_lr_ratio": 0.02, "warmup": 200},
        once=("librispeech_small", "wuw2_telephone", "more", "most", "words"),
    ),
}  # fmt: skip
ONLY_TRAINED = ("names", "more", "most", "words")
LONGEST = 24.0  # seconds; longer utterances are left out


def bank(work: Path, name: str, split: str, copy: int) -> FeatureBank:
    """Features of a set; copy 0 is as recorded, the others are perturbed."""
    folder = (SHARED if name in REAL else work) / name
    manifest = folder if name in REAL else folder / split
    noises = json_lines(SHARED / "noise_public_domain" / "manifest.jsonl")
    files = [
        str(SHARED / "noise_public_domain" / one["audio"])
        for one in noises
        if one["split"] == "train" and not one.get("may_contain_speech")
    ]
    return build_bank(
        manifest,
        split,
        work / "banks" / (f"{name}-{split}" + (f"-copy{copy}" if copy else "")),
        augmentation=perturbation(files) if copy else None,
        seed=copy,
        drop_unspoken=True,
    )


def noises() -> list[np.ndarray]:
    """Frames of the recorded noises without speech."""
    folder = SHARED / "noise_public_domain"
    return [
        features(read_audio(folder / one["audio"]))
        for one in json_lines(folder / "manifest.jsonl")
        if one["split"] == "train" and not one.get("may_contain_speech") and one["duration"] > 0.4
    ]


def banks_of(work: Path, stage: Stage) -> Banks:
    """What a stage reads, and what is held out; features that are missing are computed."""
    banks = [
        (copy, bank(work, name, "train", copy), weight)
        for name, weight in stage.sets.items()
        for copy in range(1 if name in stage.once else stage.copies + 1)
    ]
    return Banks(
        train=[(features, weight) for _, features, weight in banks],
        plain=[features for copy, features, _ in banks if not copy],
        held_out=[bank(work, n, "dev", 0) for n in stage.sets if n not in ONLY_TRAINED],
        noises=noises() if stage.online.noise else [],
    )


def start(pieces: int, banks: Banks, source: Path | None) -> TrainingModel:
    """The model that training begins with: that of `source`, or a new one."""
    if source is not None and not (source / "checkpoints").is_dir():
        return training_model(load_speech_model(source))
    torch.manual_seed(0)
    net = Transducer(TransducerConfig(vocab_size=pieces))
    mean, deviation = statistics(banks.plain)
    net.encoder.mean.copy_(torch.from_numpy(mean))
    net.encoder.deviation.copy_(torch.from_numpy(deviation))
    model = TrainingModel(net)
    if source is not None:
        stored = load_file(list_checkpoints(source / "checkpoints")[-1] / "state.safetensors")
        model.load_state_dict(
            {k.removeprefix("model/"): v for k, v in stored.items() if k.startswith("model/")}
        )
    return model


def json_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def schedule_of(processes: int, **settings: Any) -> TrainConfig:
    """What all trainings here have in common, and what one of them has of its own."""
    return TrainConfig(
        betas=(0.9, 0.98), grad_clip=5.0, precision="bfloat16", eval_every=500, save_every=250,
        log_every=25, accumulate=processes, processes=processes, **settings,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--init", type=Path, help="a run's folder or a model to go on from")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    stage, work = STAGES[given.stage], given.work
    pieces = load_speech_model(SHIPPED).pieces
    banks = banks_of(work, stage)
    source = given.init or (work / stage.before if stage.before else None)
    model = start(pieces.size, banks, source)
    config = SpeechTaskConfig(longest_seconds=LONGEST, **stage.task)
    task: Any = TransducerTask(
        model, pieces, banks.train, banks.held_out, banks.noises, config, stage.online
    )
    count = sum(len(one) for one, _ in banks.train)
    print(count, "recordings; left out:", task.left_out, flush=True)
    settings = dict(stage.train)
    if given.minutes is not None:
        settings["max_seconds"] = 60 * given.minutes
    if given.lr is not None:
        settings["lr"] = given.lr
    schedule = schedule_of(given.processes, weight_decay=0.05, **settings)
    print(train(task, schedule, given.out or work / given.stage, progress=False))


if __name__ == "__main__":
    main()
