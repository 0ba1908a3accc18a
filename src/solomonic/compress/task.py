"""Any training task, with its model compressed on the way: a `solomonic.core.Task` around another.

The figures on held-out data and what is saved are those of the finished model, at full sparsity and
on the grid, so that the best checkpoint is never one that only looks good because it is still
dense.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from solomonic.compress.compressor import Compressor
from solomonic.compress.config import CompressConfig
from solomonic.compress.files import write_matrices
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.core import Task

MATRICES = "matrices.safetensors"
"""File beside a saved model with its matrices as integers."""
_INNER = "inner."
_ALIGN = 64  # bytes


class Compressing(nn.Module):
    """A model and its compressor: one module, one checkpoint."""

    def __init__(self, inner: nn.Module, compressor: Compressor) -> None:
        super().__init__()
        self.inner = inner
        self.compressor = compressor


def _share(compressor: Compressor) -> None:
    """Move masks, scales and counters to memory that processes forked later see too."""
    buffers = [b for b in compressor.buffers() if b.device.type == "cpu" and b.numel()]
    starts = [0]
    for buffer in buffers:
        starts.append(starts[-1] + -(-buffer.nbytes // _ALIGN) * _ALIGN)
    memory = mmap.mmap(-1, max(starts[-1], 1))
    for buffer, start in zip(buffers, starts, strict=False):
        place = torch.frombuffer(memory, dtype=buffer.dtype, count=buffer.numel(), offset=start)
        buffer.data = place.view(buffer.shape).copy_(buffer)


class CompressedTask:
    """`task`, compressing `task.model`.

    A model with a method `shadows()` (parameter -> buffer with its running mean) has its means
    masked and rounded too.

    Raises:
        ConfigError: there is nothing to compress.
    """

    def __init__(self, task: Task, config: CompressConfig) -> None:
        self.task = task
        means = getattr(task.model, "shadows", None)
        self.compressor = Compressor(task.model, config, means() if means is not None else None)
        self.model: Any = Compressing(task.model, self.compressor)
        _share(self.compressor)

    def batches(self, position: Mapping[str, Any] | None) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Those of the task; before each one weights are pruned and put in their bounds.

        Here and not in `loss`, because processes that share the batches of an update call `loss`
        side by side, and one alone draws batches.
        """
        for item in self.task.batches(position):
            self.compressor.advance()
            yield item

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The task's loss of the weights as they are trained, and the regulariser."""
        with self.compressor.training_weights():
            loss, figures = self.task.loss(batch)
        for name, term in self.compressor.terms().items():
            loss = loss + term
            figures[name] = float(term.detach())
        if self.compressor.config.sparsity:
            figures["sparsity"] = self.compressor.sparsity()
        return loss, figures

    def evaluate(self) -> dict[str, float]:
        """The task's figures, of the finished model."""
        with self.compressor.deployed():
            return self.task.evaluate()

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """The task's."""
        groups = self.task.parameter_groups()
        return {key: [_INNER + name for name in names] for key, names in groups.items()}

    def save(self, directory: str) -> None:
        """What the task writes, with weights on the grid, and the matrices as integers."""
        with self.compressor.deployed():
            self.task.save(directory)
        write_matrices(Path(directory) / MATRICES, self.export())

    def export(self) -> dict[str, QuantisedMatrix]:
        """The matrices as integers, by their names in the task's model."""
        return self.compressor.export()
