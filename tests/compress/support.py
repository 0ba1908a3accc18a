"""A student that learns a small network by heart: minutes of training in a second."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from solomonic.layers import Linear

INPUTS, WIDTH, OUTPUTS = 32, 64, 32


class Net(nn.Module):
    """Two matrices, and a running mean of them where asked."""

    def __init__(self, mean: bool = False) -> None:
        super().__init__()
        self.first = Linear(INPUTS, WIDTH)
        self.second = Linear(WIDTH, OUTPUTS)
        self.bias = nn.Parameter(torch.zeros(OUTPUTS))
        if mean:
            self.register_buffer("mean_first", self.first.weight.detach().clone())
            self.register_buffer("mean_second", self.second.weight.detach().clone())
            self.shadows = lambda: {"first.weight": "mean_first", "second.weight": "mean_second"}

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x))) + self.bias


class Imitation:
    """A `Task`: what another network of the same size, with few important weights, answers."""

    def __init__(self, mean: bool = False, seed: int = 0) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.teacher = Net().requires_grad_(False)
            for weight in (self.teacher.first.weight, self.teacher.second.weight):
                # Vectors of 16 outputs that matter, so that every pattern can find them.
                matters = torch.rand(len(weight) // 16, weight.shape[1]) < 0.4
                weight *= torch.where(matters.repeat_interleave(16, 0), 3.0, 0.3)
            # Any: `Task.model` is assignable by its protocol, so no subclass of Module will do.
            self.model: Any = Net(mean)
        self.generator = torch.Generator().manual_seed(seed + 1)
        self.held_out = torch.randn(256, INPUTS, generator=self.generator)
        self.saved: list[dict[str, Tensor]] = []

    def batches(self, position: Any) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        step = 0 if position is None else position["step"]
        while True:
            generator = torch.Generator().manual_seed(1000 + step)
            step += 1
            yield torch.randn(64, INPUTS, generator=generator), {"step": step}

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        if hasattr(self.model, "mean_first"):
            with torch.no_grad():
                for name in ("first", "second"):
                    weight = getattr(self.model, name).weight
                    self.model.get_buffer(f"mean_{name}").lerp_(weight, 0.1)
        return mse_loss(self.model(batch), self.teacher(batch)), {"tokens": float(len(batch))}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        net = self.model
        if hasattr(net, "mean_first"):
            net = Net()
            net.load_state_dict(self.model.state_dict(), strict=False)
            net.first.weight.copy_(self.model.get_buffer("mean_first"))
            net.second.weight.copy_(self.model.get_buffer("mean_second"))
        return {"loss": float(mse_loss(net(self.held_out), self.teacher(self.held_out)))}

    def parameter_groups(self) -> dict[str, list[str]]:
        return {"attention": [name for name, _ in self.model.named_parameters()]}

    def save(self, directory: str) -> None:
        self.saved.append({k: v.clone() for k, v in self.model.state_dict().items()})
        (Path(directory) / "model.txt").write_text("saved\n")


def train(task: Any, steps: int, lr: float = 1e-2) -> list[float]:
    """AdamW with a cosine; the losses."""
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=lr, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=lr * 0.05)
    losses = []
    for _, (batch, _) in zip(range(steps), task.batches(None), strict=False):
        loss, _ = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        losses.append(float(loss.detach()))
    return losses
