"""Train the assistant language model of the package.

    python benchmarks/assistant_small/train.py WORK [--minutes M] [--processes N] [--out DIR]

WORK holds what `corpus.py` made. A killed run goes on with the same command.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from solomonic.lm.data import DataConfig
from solomonic.recipes.lm import LmRun, build_task, save_run
from solomonic.train import list_checkpoints, train

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks are no package
from small_lm import MODEL, training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--init", type=Path, help="folder of a run to go on from, at a rate of --lr"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    settings = training(given.minutes, 24, given.processes, given.lr, given.steps)
    run = LmRun(model=MODEL, train=settings, length=192, eval_tokens=40_000)
    out = given.out or given.work / "run"
    data = DataConfig(path=str(given.work / "train.jsonl"), valid=str(given.work / "dev.jsonl"))
    task = build_task(run, data, out, progress=False)
    if given.init:
        newest = load_file(list_checkpoints(given.init / "checkpoints")[-1] / "state.safetensors")
        known = {k.removeprefix("model/"): v for k, v in newest.items() if k.startswith("model/")}
        task.model.load_state_dict(known, strict=False)  # tied weights are stored once
    save_run(run, out)
    print(sum(p.numel() for p in task.model.parameters()), "parameters", flush=True)
    print(train(task, settings, out, progress=False))


if __name__ == "__main__":
    main()
