"""Processes that share the batches of an update: the same training, and faults are told."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from solomonic.core import ConfigError
from solomonic.train import TrainConfig
from solomonic.train.workers import WorkerError, Workers, refuse

sys.path.insert(0, str(Path(__file__).parent))
import toy

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class Steady(toy.ToyTask):
    """Without dropout, so that who computes a batch makes no difference."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.model.dropout = nn.Dropout(0.0)


def weights(task: toy.ToyTask) -> list[torch.Tensor]:
    return [p.detach().clone() for p in task.model.parameters()]


@pytest.mark.parametrize(("accumulate", "processes"), [(2, 2), (6, 3), (4, 2)])
def test_processes_train_what_one_process_trains(
    tmp_path: Path, accumulate: int, processes: int
) -> None:
    one, many = Steady(), Steady()
    alone = toy.run(tmp_path / "one", one, accumulate=accumulate)
    shared = toy.run(tmp_path / "many", many, accumulate=accumulate, processes=processes)
    for a, b in zip(weights(one), weights(many), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert shared.tokens == alone.tokens
    assert shared.loss == pytest.approx(alone.loss, rel=1e-5)


def test_a_run_in_processes_repeats_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"accumulate": 2, "processes": 2, "save_every": 5}
    whole, parts = toy.ToyTask(), toy.ToyTask()
    toy.run(tmp_path / "whole", whole, steps=10, **settings)
    toy.run(tmp_path / "parts", toy.ToyTask(), steps=10, eval_every=0, **settings)
    for step in (tmp_path / "parts" / "checkpoints").glob("step-*10"):
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    toy.run(tmp_path / "parts", parts, steps=10, **settings)
    for a, b in zip(weights(whole), weights(parts), strict=True):
        assert torch.equal(a, b)


def test_what_the_loss_raises_over_there_is_raised_here() -> None:
    task: Any = Steady()
    workers = Workers(task, 1, "float32", 0)
    try:
        workers.send([(1, torch.full((2, 4), 99))], 0, 1.0)
        with pytest.raises(IndexError):
            workers.collect()
        _, good = next(task.batches(None))[0], next(task.batches(None))[0]
        workers.send([good], 1, 1.0)  # and it goes on
        assert len(workers.collect()) == 1
    finally:
        workers.close()


def test_a_killed_process_is_reported_with_what_to_do() -> None:
    task: Any = toy.ToyTask(crawl=0.2)
    workers = Workers(task, 2, "float32", 0)
    try:
        batches = [batch for (batch, _), _ in zip(task.batches(None), range(2), strict=False)]
        workers.send(batches, 0, 1.0)
        pid = workers._processes[1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="process 3 was killed by signal 9"):
            workers.collect()
    finally:
        workers.close()


def test_not_a_number_over_there_stops_the_run_here(tmp_path: Path) -> None:
    from solomonic.train.loop import DivergenceError

    task = Steady()
    task.spoil_at = 6  # the second batch of step 3: the other process has it
    with pytest.raises(DivergenceError, match="step 3"):
        toy.run(tmp_path, task, accumulate=2, processes=2)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="accumulate = 3 must be a multiple of processes = 2"):
        TrainConfig(accumulate=3, processes=2)
    with pytest.raises(ConfigError, match="processes = 0"):
        TrainConfig(processes=0)
    assert refuse(1, torch.device("cuda")) is None
    assert "is for the CPU" in (refuse(2, torch.device("cuda")) or "")
