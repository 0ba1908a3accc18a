"""Train the package's recogniser small: few bits, many zeros, from the features of `train.py`.

    python benchmarks/english_small/small.py WORK OUT [--model M] [--sparsity 0.5] [--minutes 40]

The same as `solomonic compress --data`, on the sets and in the shares of a stage of `train.py` and
in two processes; the model itself is the teacher, or a larger one. OUT.solo is the file. A killed
run goes on with the same command.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from solomonic.compress.config import CompressConfig
from solomonic.recipes.compress import STARTS, CompressRun, build_task, finished, training_model
from solomonic.speech.device_file import write_device_model
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import load_speech_model
from solomonic.train import train as run_training
from train import LONGEST, STAGES, banks_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="what is made small")
    parser.add_argument("--teacher", type=Path, help="default: the model itself")
    parser.add_argument("--stage", choices=STAGES, default="most", help="whose sets are read")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--start", choices=STARTS, default="calibrated")
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--lr", type=float, default=4e-4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    stage = STAGES[given.stage]
    run = CompressRun(
        compress=CompressConfig(
            method="straight-through", sparsity=given.sparsity, pattern="vec16"
        ),
        online=stage.online,
        start=given.start,
    ).changed(
        {
            "steps": 1_000_000, "max_seconds": 60 * given.minutes, "lr": given.lr, "warmup": 50,
            "accumulate": given.processes, "processes": given.processes, "precision": "bfloat16",
            "frames_per_batch": stage.task["frames_per_batch"], "longest_seconds": LONGEST,
        }
    )  # fmt: skip
    model = load_speech_model(given.model)
    banks = banks_of(given.work, stage)
    if given.teacher:  # of another width, so that there are no hidden vectors to compare
        teacher = load_speech_model(given.teacher)
        run = run.changed({"hidden_scale": 0.0})
        task: Any = build_task(run, teacher, banks, student=training_model(model))
    else:
        task = build_task(run, model, banks)
    print(run_training(task, run.train, given.out, progress=False))
    write_device_model(given.out.with_suffix(".solo"), *finished(model, given.out))


if __name__ == "__main__":
    main()
