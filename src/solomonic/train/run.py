"""One run in progress: everything that changes during training; how it is saved and restored."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from solomonic.core import CheckpointError, ConfigError, DataError, SolomonicError, Task
from solomonic.train.atomic import write_files
from solomonic.train.checkpoint import Snapshot, list_checkpoints, save_checkpoint
from solomonic.train.config import MAY_CHANGE, TrainConfig
from solomonic.train.log import TrainLog
from solomonic.train.optim import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_lr,
)
from solomonic.train.plot import plot_loss
from solomonic.train.precision import autocast, choose_precision
from solomonic.train.rng import load_rng_tensors, rng_tensors
from solomonic.train.schedule import lr_factor
from solomonic.train.workers import Workers, refuse

CHECKPOINTS = "checkpoints"
_PLOT_SECONDS = 60.0  # a picture costs about half a second


class DivergenceError(SolomonicError):
    """The loss or its gradient is no longer a number; the last checkpoint is still good."""


class Run:
    """A training run. `train` drives it; see there for arguments and errors."""

    def __init__(
        self, task: Task, config: TrainConfig, out: Path, snapshot: Snapshot | None
    ) -> None:
        self.task, self.config, self.out = task, config, out
        self.step = 0
        self.tokens = 0
        self.last_loss: float | None = None
        self.evaluation: dict[str, float] = {}
        self.best: dict[str, float] | None = None
        self.position: dict[str, Any] | None = None
        self._pending: dict[str, float] = {}  # sums since the last record
        self._evaluated = self._saved = -1
        self._tokens_logged = 0
        self._spent = 0.0  # seconds before this process
        self.device = next(task.model.parameters()).device
        self._parameters = dict(task.model.named_parameters())
        if why := refuse(config.processes, self.device):
            raise ConfigError(why)
        self._optimizer = build_optimizer(task.model, task.parameter_groups(), config)
        self.precision, reason = choose_precision(config.precision, self.device)
        if snapshot is None:
            torch.manual_seed(config.seed)
        else:
            reason = self._restore(snapshot, reason)
        self._batches = task.batches(self.position)
        out.mkdir(parents=True, exist_ok=True)
        self._log = TrainLog(out, None if snapshot is None else self.step)
        self._log.write(
            "start",
            step=self.step,
            resumed=snapshot is not None,
            config=config.to_json(),
            precision=self.precision,
            reason=reason,
            device=str(self.device),
            torch=torch.__version__,
            parameters=sum(p.numel() for p in self._parameters.values()),
        )
        self._clock = self._logged_at = self._plotted_at = time.monotonic()
        self.finished = self._is_finished()
        task.model.train()
        others = config.processes - 1
        self._workers = Workers(task, others, self.precision, config.seed) if others else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._workers is not None:
            self._workers.close()
        self._log.close()

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self._spent + time.monotonic() - self._clock

    def _is_finished(self) -> bool:
        limit = self.config.max_seconds
        return self.step >= self.config.steps or (limit is not None and self.elapsed >= limit)

    def caption(self) -> str:
        """The figures beside the progress bar."""
        loss = "" if self.last_loss is None else f"loss {self.last_loss:.3f}"
        best = "" if self.best is None else f"  best held-out {self.best['loss']:.3f}"
        return f"{loss}{best}"

    def update(self) -> None:
        """One step: gradients of `accumulate` batches, clipped, applied.

        Raises:
            DivergenceError: before the weights are touched.
        """
        rates = set_lr(self._optimizer, lr_factor(self.config, self.step, self.elapsed))
        figures = self._gradients()
        parameters = [p for p in self._parameters.values() if p.grad is not None]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.config.grad_clip or math.inf))
        for name, value in (("loss", figures["loss"]), ("gradient norm", norm)):
            if not math.isfinite(value):
                raise DivergenceError(self._divergence(name, value))
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += int(figures.pop("tokens", 0))
        for name, value in {**figures, "grad_norm": norm, "count": 1.0}.items():
            self._pending[name] = self._pending.get(name, 0.0) + value
        if self.step % self.config.log_every == 0 or self.step == self.config.steps:
            self._write_step(rates)
        self.finished = self._is_finished()

    def periodic(self) -> None:
        """Evaluate and save if it is time; the end has its own way (`conclude`)."""
        config = self.config
        if self.finished:
            return
        if config.eval_every and self.step % config.eval_every == 0:
            self._evaluate()
        if config.save_every and self.step % config.save_every == 0:
            self._save()

    def conclude(self, evaluate: bool) -> None:
        """Evaluate (unless interrupted), save, draw the loss."""
        if evaluate:
            if self._pending:
                self._write_step(set_lr(self._optimizer, self._optimizer_factor()))
            self._evaluate()
        self._save()
        self._log.write(
            "end",
            step=self.step,
            tokens=self.tokens,
            elapsed=self.elapsed,
            interrupted=not evaluate,
        )
        self._plot()

    def _gradients(self) -> dict[str, float]:
        """Back-propagate; means of the figures over the batches, tokens as a sum."""
        count = self.config.accumulate
        batches = [self._next() for _ in range(count)] if self._workers else None
        share = count // self.config.processes
        if self._workers and batches:
            self._workers.send(batches[share:], self.step, 1 / count)
        results: list[tuple[Tensor | float, dict[str, float]]] = []
        for index in range(share):
            batch = batches[index] if batches else self._next()
            with autocast(self.precision, self.device):
                loss, figures = self.task.loss(batch)
            (loss / count).backward()
            results.append((loss.detach(), figures))
        if self._workers:
            results.extend(self._workers.collect())
        total: Tensor | float = 0.0
        sums: dict[str, float] = {}
        for loss, figures in results:
            total = total + loss
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + (value if name == "tokens" else value / count)
        return {**sums, "loss": float(total) / count}

    def _next(self) -> Any:
        """The next batch; `position` is then the place after it."""
        try:
            batch, self.position = next(self._batches)
        except StopIteration as error:
            raise DataError("the task ran out of batches, which must go on for ever.") from error
        return batch

    def _write_step(self, rates: Mapping[str, float]) -> None:
        count = self._pending.pop("count")
        means = {name: value / count for name, value in self._pending.items()}
        now = time.monotonic()
        since = max(now - self._logged_at, 1e-9)
        speed = (self.tokens - self._tokens_logged) / since
        self.last_loss = means["loss"]
        self._log.write(
            "step",
            step=self.step,
            tokens=self.tokens,
            **means,
            lr=rates.get("attention"),
            ssm_lr=rates.get("ssm"),
            tokens_per_second=speed,
            elapsed=self.elapsed,
        )
        self._pending = {}
        self._logged_at, self._tokens_logged = now, self.tokens

    def _evaluate(self) -> None:
        if self._evaluated == self.step:
            return
        self.task.model.eval()
        try:
            with torch.no_grad():
                self.evaluation = self.task.evaluate()
        finally:
            self.task.model.train()
        self._evaluated = self.step
        loss = self.evaluation.get("loss", math.inf)
        if self.evaluation:
            figures = {**self.evaluation, "step": self.step, "tokens": self.tokens}
            self._log.write("eval", **figures)
        if math.isfinite(loss) and (self.best is None or loss < self.best["loss"]):
            self.best = {**self.evaluation, "step": self.step}
            self._export()

    def _export(self) -> None:
        write_files(
            self.out,
            lambda folder: self.task.save(str(folder)),
            "the model that was there and the checkpoints are unharmed; free some space and resume",
        )

    def _save(self) -> None:
        if self._saved == self.step:
            return
        if self.best is None:  # nothing to choose by: the newest is the best there is
            self._export()
        save_checkpoint(self.out / CHECKPOINTS, self._snapshot(), self.config.keep)
        self._saved = self.step
        if time.monotonic() - self._plotted_at > _PLOT_SECONDS:
            self._plot()

    def _plot(self) -> None:
        if self.last_loss is not None:
            plot_loss(self.out)
            self._plotted_at = time.monotonic()

    def _snapshot(self) -> Snapshot:
        tensors: dict[str, Tensor] = {f"model/{k}": p for k, p in self._weights().items()}
        tensors |= {f"optimizer/{k}": t for k, t in optimizer_tensors(self._optimizer).items()}
        tensors |= {f"rng/{k}": t for k, t in rng_tensors(self.device).items()}
        record = {
            "config": self.config.to_json(),
            "position": self.position,
            "tokens": self.tokens,
            "elapsed": self.elapsed,
            "precision": self.precision,
            "last_loss": self.last_loss,
            "pending": self._pending,
            "tokens_logged": self._tokens_logged,
            "evaluation": self.evaluation,
            "evaluated": self._evaluated,
            "best": self.best,
        }
        return Snapshot(step=self.step, tensors=tensors, record=record)

    def _weights(self) -> dict[str, Tensor]:
        """Parameters and the buffers that belong to the model, tied ones once."""
        kept = self.task.model.state_dict(keep_vars=True)
        buffers = {k: b for k, b in self.task.model.named_buffers() if k in kept}
        return {**self._parameters, **buffers}

    def _restore(self, snapshot: Snapshot, reason: str) -> str:
        record = snapshot.record
        _check_config(self.config, record["config"])
        weights, stored = self._weights(), snapshot.under("model")
        _check_weights(weights, stored)
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(stored[name])
        load_optimizer_tensors(self._optimizer, snapshot.under("optimizer"))
        load_rng_tensors(snapshot.under("rng"), self.device)
        self.step = self._saved = snapshot.step
        self.position, self.tokens = record["position"], record["tokens"]
        self._spent, self.last_loss = record["elapsed"], record["last_loss"]
        self._pending, self._tokens_logged = dict(record["pending"]), record["tokens_logged"]
        self.evaluation, self._evaluated = record["evaluation"], record["evaluated"]
        self.best = record["best"]
        if self.config.precision == "auto" and record["precision"] != self.precision:
            self.precision = record["precision"]
            return "as before the resume"
        return reason

    def _optimizer_factor(self) -> float:
        return lr_factor(self.config, max(self.step - 1, 0), self.elapsed)

    def _divergence(self, name: str, value: float) -> str:
        kept = list_checkpoints(self.out / CHECKPOINTS)
        advice = (
            f"the last good checkpoint is {kept[-1]}; start again with a lower learning rate"
            if kept
            else "no checkpoint had been written yet; start again with a lower learning rate"
        )
        return f"the {name} is {value} at step {self.step + 1}; {advice}."


def _check_config(config: TrainConfig, stored: Mapping[str, Any]) -> None:
    now = json.loads(json.dumps(config.to_json()))
    changed = [k for k, v in now.items() if k not in MAY_CHANGE and stored.get(k, v) != v]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"{name} = {now[name]} differs from {stored[name]} of the run being resumed, which "
            f"would change its curve; set {name} = {stored[name]} or choose another directory."
        )


def _check_weights(weights: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    for name in sorted(set(weights) | set(stored)):
        here = tuple(weights[name].shape) if name in weights else "absent"
        there = tuple(stored[name].shape) if name in stored else "absent"
        if here != there:
            raise CheckpointError(
                f"the checkpoint is of another model: parameter '{name}' is {there} in it and "
                f"{here} here; resume with the settings of that run or choose another directory."
            )
