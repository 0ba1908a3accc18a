"""The loop: learning, exact resume after a kill, signals, budgets, divergence, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from solomonic.core import CheckpointError, ConfigError, DataError
from solomonic.train import (
    DivergenceError,
    TrainConfig,
    list_checkpoints,
    load_checkpoint,
    read_log,
    train,
)

sys.path.insert(0, str(Path(__file__).parent))
import toy

SCRIPT = str(Path(__file__).parent / "toy.py")


def curve(out: Path, event: str = "step") -> list[tuple]:
    names = ("step", "tokens", "loss", "lr", "ssm_lr", "grad_norm")
    return [
        tuple(r.get(n) for n in names) for r in read_log(out / "log.jsonl") if r["event"] == event
    ]


def start(out: Path, steps: int, *how: str) -> subprocess.Popen:
    source = Path(__file__).parents[2] / "src"
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(source)}
    command = [sys.executable, SCRIPT, str(out), str(steps), *(how or ["--crawl"])]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for_step(out: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if any(r.get("step", 0) >= step for r in read_log(out / "log.jsonl")):
            return
        time.sleep(0.01)
    raise AssertionError(process.communicate())


def test_training_learns_and_reports(tmp_path: Path) -> None:
    task = toy.ToyTask()
    result = toy.run(tmp_path, task, steps=150, eval_every=50, save_every=50)
    assert (result.step, result.stopped, result.interrupted) == (150, "steps", False)
    losses = [row[2] for row in curve(tmp_path)]
    assert losses[-1] < 0.5 * losses[0]
    assert result.tokens == 150 * 2 * toy.ROWS * toy.LENGTH
    assert result.evaluation["loss"] == result.best["loss"] < 1.2  # type: ignore[index]
    assert [p.name for p in list_checkpoints(tmp_path / "checkpoints")] == [
        "step-00000100",
        "step-00000150",
    ]
    first = read_log(tmp_path / "log.jsonl")[0]
    assert (first["event"], first["precision"], first["reason"]) == (
        "start",
        "float32",
        "asked for",
    )
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "loss.svg").read_text()


def test_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    straight = toy.ToyTask()
    toy.run(tmp_path / "straight", straight)
    process = start(tmp_path / "killed", 12, "--stand", "18")  # at step 10
    wait_for_step(tmp_path / "killed", 7, process)  # a checkpoint at 5, an evaluation at 4
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "checkpoints" / "step-00000012").exists()
    resumed = toy.ToyTask(seed=99)  # other weights and generators: all must come from the file
    result = train(resumed, toy.config(), tmp_path / "killed", resume=True, progress=False)
    assert result.step == 12
    assert curve(tmp_path / "killed") == curve(tmp_path / "straight")
    assert curve(tmp_path / "killed", "eval") == curve(tmp_path / "straight", "eval")
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    ours, theirs = (load_checkpoint(tmp_path / d / "checkpoints" / "step-00000012")
                    for d in ("straight", "killed"))  # fmt: skip
    assert set(ours.tensors) == set(theirs.tensors)
    assert all(torch.equal(t, theirs.tensors[k]) for k, t in ours.tensors.items())
    assert load_file(tmp_path / "killed" / "model.safetensors").keys() == {
        name for name, _ in resumed.model.named_parameters()
    }


def test_log_averages_survive_a_resume_between_records(tmp_path: Path) -> None:
    for out in ("straight", "cut"):
        if out == "cut":
            toy.run(tmp_path / out, steps=12, log_every=4, max_seconds=None, save_every=3)
            for path in list_checkpoints(tmp_path / out / "checkpoints")[1:]:
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()
            assert [p.name for p in list_checkpoints(tmp_path / out / "checkpoints")] == [
                "step-00000009"
            ]
        toy.run(tmp_path / out, log_every=4, save_every=3)
    assert curve(tmp_path / "cut") == curve(tmp_path / "straight")
    assert [row[0] for row in curve(tmp_path / "cut")] == [4, 8, 12]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_returns(tmp_path: Path, number: int) -> None:
    process = start(tmp_path, 10_000)
    wait_for_step(tmp_path, 2, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, b"interrupted\n"), err
    last = curve(tmp_path)[-1][0]
    assert list_checkpoints(tmp_path / "checkpoints")[-1].name == f"step-{last:08d}"
    assert (tmp_path / "model.safetensors").is_file()


def test_handlers_are_restored(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    toy.run(tmp_path, steps=2, warmup=0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_budget_in_seconds_ends_the_run_with_the_cosine(tmp_path: Path) -> None:
    task = toy.ToyTask(crawl=0.01)
    result = toy.run(tmp_path, task, steps=100_000, max_seconds=1.0, warmup=2, eval_every=0)
    assert result.stopped == "seconds" and not result.interrupted
    assert 2 < result.step < 100_000
    assert curve(tmp_path)[-1][3] < 0.2 * 1e-2  # near min_lr_ratio = 0.1 of the peak
    again = toy.run(tmp_path, steps=100_000, max_seconds=1.0, warmup=2, eval_every=0)
    assert again.step == result.step, "a spent budget is not spent twice"


def test_more_steps_extend_a_finished_run(tmp_path: Path) -> None:
    toy.run(tmp_path)
    assert toy.run(tmp_path, steps=15).step == 15
    assert [row[0] for row in curve(tmp_path)] == list(range(1, 16))


def test_divergence_keeps_weights_and_checkpoint(tmp_path: Path) -> None:
    task = toy.ToyTask()
    task.spoil_at = 15  # batches are counted; two make a step
    match = r"the loss is nan at step 8; the last good checkpoint is .*step-00000005; start again"
    with pytest.raises(DivergenceError, match=match):
        toy.run(tmp_path, task)
    assert all(torch.isfinite(p).all() for p in task.model.parameters())
    assert load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1]).step == 5


def test_best_model_is_kept_not_the_last(tmp_path: Path) -> None:
    task = toy.ToyTask()
    scores = iter([{"loss": 3.0}, {"loss": 1.0}, {"loss": float("nan")}, {"loss": 2.0}])
    weights = []

    def evaluate() -> dict[str, float]:
        weights.append(task.model.embed.weight.detach().clone())
        return next(scores)

    task.evaluate = evaluate  # type: ignore[method-assign]
    result = toy.run(tmp_path, task, steps=16)
    assert result.best == {"loss": 1.0, "step": 8}
    assert torch.equal(load_file(tmp_path / "model.safetensors")["embed.weight"], weights[1])
    assert [r["loss"] for r in read_log(tmp_path / "log.jsonl") if r["event"] == "eval"] == [
        3.0, 1.0, None, 2.0,
    ]  # fmt: skip


def test_without_held_out_data_the_last_model_is_kept(tmp_path: Path) -> None:
    task = toy.ToyTask(held_out=False)
    result = toy.run(tmp_path, task)
    assert (result.best, result.evaluation) == (None, {})
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(stored["embed.weight"], task.model.embed.weight)


def test_resume_choices(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint to resume"):
        train(toy.ToyTask(), toy.config(), tmp_path, resume=True, progress=False)
    toy.run(tmp_path)
    with pytest.raises(ConfigError, match=r"already holds a run \(step-00000012\)"):
        train(toy.ToyTask(), toy.config(), tmp_path, resume=False, progress=False)
    with pytest.raises(ConfigError, match=r"lr = 0.5 differs from 0.01 of the run being resumed"):
        toy.run(tmp_path, lr=0.5)
    other = toy.ToyTask()
    other.model.ssm = torch.nn.Linear(toy.WIDTH, toy.WIDTH, bias=False)
    other.parameter_groups = lambda: {"ssm": ["ssm.weight"], "attention": ["embed.weight"],  # type: ignore
                                      "no_decay": ["norm.weight", "norm.bias"]}  # fmt: skip
    with pytest.raises(
        CheckpointError, match=r"another model: parameter 'ssm.bias' is \(8,\) in it"
    ):
        toy.run(tmp_path, other)


def test_a_damaged_newest_checkpoint_is_refused_with_the_way_out(tmp_path: Path) -> None:
    toy.run(tmp_path)
    state = tmp_path / "checkpoints" / "step-00000012" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    match = (
        r"state.safetensors is damaged \(cut short at \d+ of \d+ bytes\); remove .*step-00000010"
    )
    with pytest.raises(CheckpointError, match=match):
        toy.run(tmp_path)


def test_a_task_that_runs_out_is_told_so(tmp_path: Path) -> None:
    task = toy.ToyTask()
    endless = task.batches
    task.batches = lambda position: iter([next(endless(position))])  # type: ignore[method-assign]
    with pytest.raises(DataError, match="ran out of batches"):
        toy.run(tmp_path, task)


def test_accumulation_averages_gradients(tmp_path: Path) -> None:
    """Two batches of four rows and one batch of their eight rows give the same first update."""
    first, second = toy.ToyTask(), toy.ToyTask()
    for task in (first, second):
        task.model.dropout.p = 0.0
    stream = first.batches(None)
    rows = torch.cat([next(stream)[0][1], next(stream)[0][1]])
    second.batches = lambda _: iter([((0, rows), {})])  # type: ignore[method-assign]
    toy.run(tmp_path / "a", first, steps=1, warmup=0, accumulate=2)
    toy.run(tmp_path / "b", second, steps=1, warmup=0, accumulate=1)
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_config_round_trips_and_refuses() -> None:
    config = TrainConfig(steps=5, betas=(0.8, 0.9))
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    for changes, match in [
        ({"steps": 0}, "steps = 0 must be at least 1"),
        ({"lr": -1.0}, "lr = -1.0 must be above 0"),
        ({"precision": "fp8"}, "precision = 'fp8' is unknown; use one of auto"),
        ({"min_lr_ratio": 2.0}, "min_lr_ratio = 2.0 must lie between 0 and 1"),
        ({"betas": (0.9, 1.0)}, r"betas = \(0.9, 1.0\) must be two numbers"),
        ({"warmup": 2000}, "warmup = 2000 must lie between 0 and steps = 1000"),
        ({"grad_clip": -1.0}, "grad_clip = -1.0 must not be negative"),
    ]:
        with pytest.raises(ConfigError, match=match):
            TrainConfig(**changes)
