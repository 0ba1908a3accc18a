"""A stand-in task for the training loop: dropout (so generators matter), tied weights, a buffer.

Run as a script it trains in a process of its own, to be killed:
    python toy.py OUT STEPS [--crawl | --stand BATCHES]
"""

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from solomonic.train import TrainConfig, TrainResult, train

VOCAB, WIDTH, LENGTH, ROWS = 11, 8, 6, 4


class ToyModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.ssm = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.head.weight = self.embed.weight
        self.dropout = nn.Dropout(0.2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, tokens: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return self.head(self.norm(self.dropout(torch.tanh(self.ssm(self.embed(tokens))))))


class ToyTask:
    """Next = token + 1 (mod VOCAB), with noise; batches are a function of the position alone."""

    def __init__(self, seed: int = 0, crawl: float = 0.0, held_out: bool = True) -> None:
        torch.manual_seed(seed)
        self.model = ToyModel()
        self.crawl, self.held_out = crawl, held_out
        self.spoil_at: int | None = None
        self.stand_after: int | None = None
        self.saved = 0

    def batches(self, position: Mapping[str, Any] | None) -> Iterator[tuple[Any, dict[str, Any]]]:
        index = position["index"] if position else 0
        while True:
            generator = torch.Generator().manual_seed(1000 + index)
            start = torch.randint(VOCAB, (ROWS, 1), generator=generator)
            tokens = (start + torch.arange(LENGTH + 1)) % VOCAB
            index += 1
            yield (index, tokens), {"index": index}

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        index, tokens = batch
        time.sleep(self.crawl if self.stand_after is None or index <= self.stand_after else 3600)
        logits = self.model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        if index == self.spoil_at:
            loss = loss * float("nan")
        return loss, {"tokens": float(ROWS * LENGTH)}

    def evaluate(self) -> dict[str, float]:
        assert not self.model.training
        if not self.held_out:
            return {}
        tokens = torch.arange(VOCAB).repeat(2)[None]
        logits = self.model(tokens[:, :-1])
        return {"loss": float(F.cross_entropy(logits[0], tokens[0, 1:]))}

    def parameter_groups(self) -> dict[str, list[str]]:
        return {
            "ssm": ["ssm.weight", "ssm.bias"],
            "attention": ["embed.weight"],
            "no_decay": ["norm.weight", "norm.bias", "ssm.bias"],
        }

    def save(self, directory: str) -> None:
        self.saved += 1
        weights = {name: p.detach() for name, p in self.model.named_parameters()}
        save_file(weights, Path(directory) / "model.safetensors")


def config(**changes: Any) -> TrainConfig:
    """Small steps; float32 so that machines with bfloat16 give the same figures."""
    settings = {"steps": 12, "lr": 1e-2, "ssm_lr": 5e-3, "warmup": 3, "precision": "float32",
                "save_every": 5, "eval_every": 4, "log_every": 1, "accumulate": 2}  # fmt: skip
    return TrainConfig(**{**settings, **changes})


def run(out: Path, task: ToyTask | None = None, **changes: Any) -> TrainResult:
    return train(task or ToyTask(), config(**changes), out, progress=False)


if __name__ == "__main__":
    crawling = ToyTask(crawl=0.05 if "--crawl" in sys.argv else 0.0)
    if "--stand" in sys.argv:  # so that who kills it is never late
        crawling.stand_after = int(sys.argv[-1])
    outcome = run(Path(sys.argv[1]), crawling, steps=int(sys.argv[2]))
    print("interrupted" if outcome.interrupted else "finished", flush=True)
