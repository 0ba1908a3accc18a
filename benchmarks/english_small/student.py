"""Train a smaller recogniser with the package's for its teacher, from the features of `train.py`.

    python benchmarks/english_small/student.py WORK A --width 80 --stage words --minutes 10
    python benchmarks/english_small/student.py WORK B --init A --minutes 30

The student hears the same frames and says the same word pieces; all its widths shrink alike. It
begins with nothing and is pulled to the teacher's next symbols from the first step, but on whole
sentences it does not find out in half an hour where the labels are: it learns that from single
words first. `small.py --model B --teacher T` makes it smaller still. A killed run goes on with the
same command.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from solomonic.recipes.compress import training_model
from solomonic.speech.config import TransducerConfig
from solomonic.speech.distill import DistillConfig, DistilledTransducerTask
from solomonic.speech.model import Transducer
from solomonic.speech.places import SHIPPED
from solomonic.speech.pretrained import load_speech_model
from solomonic.speech.task import SpeechTaskConfig, TrainingModel
from solomonic.train import train as run_training
from train import LONGEST, STAGES, banks_of, schedule_of


def smaller(config: TransducerConfig, width: int) -> TransducerConfig:
    """`config` with its widths in proportion to `width`, a multiple of 16."""

    def part(size: int) -> int:
        return max(16, round(size * width / config.hidden_size / 16) * 16)

    assert config.intermediate_size is not None
    return config.replace(
        hidden_size=width,
        intermediate_size=part(config.intermediate_size),
        predictor_size=part(config.predictor_size),
        joint_size=part(config.joint_size),
        ssm_head_dim=16,
        dropout=0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--init", type=Path, help="an earlier student to go on from")
    parser.add_argument("--teacher", type=Path, default=SHIPPED)
    parser.add_argument("--stage", choices=STAGES, default="most", help="whose sets are read")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    stage, teacher = STAGES[given.stage], load_speech_model(given.teacher)
    banks = banks_of(given.work, stage)
    if given.init:
        model = training_model(load_speech_model(given.init))
    else:
        torch.manual_seed(0)
        net = Transducer(smaller(teacher.transducer.config, given.width))
        net.encoder.mean.copy_(teacher.transducer.encoder.mean)
        net.encoder.deviation.copy_(teacher.transducer.encoder.deviation)
        model = TrainingModel(net)
    print(sum(one.numel() for one in model.transducer.parameters()), "parameters", flush=True)
    config = SpeechTaskConfig(longest_seconds=LONGEST, **stage.task)
    task: Any = DistilledTransducerTask(
        model, teacher.pieces, banks.train, banks.held_out, banks.noises, config,
        stage.online, teacher=teacher.transducer, distill=DistillConfig(),
    )  # fmt: skip
    schedule = schedule_of(
        given.processes, steps=1_000_000, max_seconds=60 * given.minutes, lr=given.lr,
        min_lr_ratio=0.02, warmup=200, weight_decay=0.01,
    )  # fmt: skip
    print(run_training(task, schedule, given.out, progress=False))


if __name__ == "__main__":
    main()
