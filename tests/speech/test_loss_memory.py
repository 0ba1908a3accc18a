"""The tensor of all logits is never held twice, and by the joint and pruned forms never at all."""

# pyright: reportCallIssue=false, reportArgumentType=false

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from solomonic.speech import loss
from solomonic.speech.loss import (
    joint_transducer_loss,
    pruned_transducer_loss,
    transducer_loss,
)


def _logits(acoustic: Tensor, label: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.tanh(acoustic[:, :, None] + label[:, None]) @ weight.T + bias


class Largest(TorchDispatchMode):
    """Bytes / 4 of the largest tensor any operator makes, and of all that live at once."""

    def __init__(self) -> None:
        super().__init__()
        self.single = self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._keep((args, kwargs), new=False)
        result = func(*args, **(kwargs or {}))
        self._keep(result, new=True)
        return result

    def _keep(self, values: Any, new: bool) -> None:
        for x in tree_leaves(values):
            if not isinstance(x, Tensor) or x.untyped_storage()._cdata in self.sizes:
                continue
            storage = x.untyped_storage()
            size = storage.nbytes() // 4 if new else 0
            self.sizes[storage._cdata] = size
            weakref.finalize(storage, self._drop, storage._cdata)
            self.single, self.now = max(self.single, size), self.now + size
            self.peak = max(self.peak, self.now)

    def _drop(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def memory(body: Callable[[], None]) -> Largest:
    with Largest() as seen:
        body()
    return seen


def test_the_tensor_of_all_logits_never_exists() -> None:
    """Joint and pruned form: the largest tensor is a block or a plane. The form that is given them
    makes no second one."""
    rows, frames, labels, outputs, width = 4, 60, 20, 512, 32
    everything = rows * frames * (labels + 1) * outputs
    shapes = (rows, frames, width), (rows, labels + 1, width), (outputs, width), (outputs,)
    inputs: Any = [torch.randn(*shape, requires_grad=True) for shape in shapes]
    simple = torch.randn(rows, frames, outputs), torch.randn(rows, labels + 1, outputs)
    rest = (
        torch.randint(1, outputs, (rows, labels)),
        torch.full((rows,), frames),
        torch.full((rows,), labels),
    )

    def joint() -> None:
        joint_transducer_loss(*inputs, *rest).backward()

    def pruned() -> None:
        found = pruned_transducer_loss(*inputs, *simple, *rest)
        found.pruned.backward()

    for body in (joint, pruned):
        seen = memory(body)
        assert seen.single <= loss.BLOCK < everything / 4
        assert loss.BLOCK / 8 < seen.peak <= everything / 2

    logits = _logits(*(x.detach() for x in inputs)).requires_grad_()
    changed = logits * 1.0  # no leaf: its memory may be taken
    value = transducer_loss(changed, *rest)
    with Largest() as seen:
        (slope,) = torch.autograd.grad(value, changed)
    assert seen.peak <= everything / 4
    assert slope.data_ptr() == changed.data_ptr(), "the gradient lies over the logits"
