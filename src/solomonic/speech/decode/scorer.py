"""The decoder's way into the model: prediction network and joint network for many prefixes at once.

Exactness. The last bits of a matrix product depend on how many rows it has, so rows of different
streams must not decide each other's numbers. The joint network is therefore computed one product a
stream, of that stream's rows alone; what is done element by element is shared. The prediction
network is run in blocks of exactly `BLOCK` rows, the last one filled up; within a block of fixed
size a row's result does not depend on the others (measured with MKL and oneDNN; docs/decoding.md).

NumPy is used because a frame needs many small operations, each of which costs PyTorch several
microseconds of overhead.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solomonic.core import ShapeError
from solomonic.speech.decode.prefix import Prefix
from solomonic.state import gather

BLOCK = 8


class Scorer:
    """Log-probabilities of the next symbol, from a model that does not change meanwhile.

    A joint network with `weight` (V, J) and `bias` (V,) is tanh(acoustic + label) W^T + b and is
    computed here from a copy of them; one with `log_probs` (frame, label vectors) is asked for the
    normalised rows themselves; any other is called as it is, with tensors.
    """

    def __init__(self, model: Any) -> None:
        self._predictor, self._joint = model.predictor, model.joint
        with torch.inference_mode():
            label, self._start_states = self._predictor.start(BLOCK)
        self._device = label.device
        self._start_label = _array(label)[0]
        self.dtype = self._start_label.dtype
        self.size: int = len(self._start_label)
        self._whole = getattr(self._joint, "log_probs", None)
        weight, bias = getattr(self._joint, "weight", None), getattr(self._joint, "bias", None)
        self._weight: Tensor | None = None
        if isinstance(weight, Tensor) and isinstance(bias, Tensor):
            self._weight = torch.from_numpy(_array(weight).T).contiguous().clone()
            self._joint_bias = _array(bias).copy()
            self.vocab_size: int = len(self._joint_bias)
        else:
            self.vocab_size = self._call_joint(self._start_label[None], self._start_label).shape[1]

    def rows(self, acoustic: Tensor) -> np.ndarray:
        """Acoustic vectors (B, T, J) as the array that `log_probs` takes rows of."""
        if acoustic.dim() != 3 or acoustic.shape[2] != self.size:
            raise ShapeError(
                f"acoustic vectors must have the shape (streams, frames, {self.size}), not "
                f"{tuple(acoustic.shape)}; give what the model's `acoustic` returns."
            )
        return _array(acoustic).astype(self.dtype, copy=False)

    def predict(self, prefixes: Sequence[Prefix]) -> None:
        """Fill in `label` and the state of prefixes that have none; those of their parents exist.

        (`Prefix.label` of a parent may have been forgotten: then it is found again, from above.)
        """
        waiting = list(dict.fromkeys(p for p in prefixes if p.label is None))
        orphans = [p.parent for p in waiting if p.parent is not None and p.parent.states is None]
        if orphans:
            self.predict(orphans)
        roots = [p for p in waiting if p.parent is None]
        for root in roots:
            root.label, root.states, root.row = self._start_label, self._start_states, 0
        rest = [p for p in waiting if p.parent is not None]
        for first in range(0, len(rest), BLOCK):
            self._step(rest[first : first + BLOCK])

    def _step(self, prefixes: list[Prefix]) -> None:
        parents = [p.parent for p in prefixes if p.parent is not None]
        batches = list({id(p.states): p.states for p in parents}.values())
        offset = {id(states): BLOCK * i for i, states in enumerate(batches)}
        fill = [0] * (BLOCK - len(prefixes))
        index = torch.tensor([offset[id(p.states)] + p.row for p in parents] + fill)
        states = batches[0]
        if len(batches) > 1:
            states = states.map(lambda _, *tensors: torch.cat(tensors), *batches[1:])
        tokens = torch.tensor([p.token for p in prefixes] + [prefixes[0].token] * len(fill))
        label, after = self._predictor.step(
            tokens.to(self._device), gather(states, index.to(self._device))
        )
        labels = _array(label)
        for row, prefix in enumerate(prefixes):
            prefix.label, prefix.states, prefix.row = labels[row], after, row

    def log_probs(
        self, acoustic: Sequence[np.ndarray], groups: Sequence[Sequence[Prefix]]
    ) -> list[np.ndarray]:
        """For each stream i the log-probabilities (len(groups[i]), V) of the next symbol.

        Args:
            acoustic: the frame (J,) that each stream is at.
            groups: the prefixes that each stream asks for; all have a label vector.
        """
        if self._whole is not None:
            return [
                self._whole(row, [prefix.label for prefix in group])
                for row, group in zip(acoustic, groups, strict=True)
            ]
        counts = [len(group) for group in groups]
        ends = np.cumsum(counts).tolist()
        slices = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        x = np.array([prefix.label for group in groups for prefix in group], self.dtype)
        logits = np.empty((len(x), self.vocab_size), self.dtype)
        for row, part in zip(acoustic, slices, strict=True):
            if self._weight is None:
                logits[part] = self._call_joint(x[part], row)
                continue
            x[part] += row
        if self._weight is not None:
            np.tanh(x, out=x)
            for part in slices:
                # PyTorch's product, because its threads can be limited (`Recognizer`); on copies,
                # because MKL's last bits depend on where in a cache line an array begins.
                rows = torch.from_numpy(x[part]).clone()
                logits[part] = torch.mm(rows, self._weight).numpy()
            logits += self._joint_bias
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return [logits[part] for part in slices]

    def _call_joint(self, labels: np.ndarray, acoustic: np.ndarray) -> np.ndarray:
        label = torch.from_numpy(labels).to(self._device)
        frame = torch.from_numpy(np.ascontiguousarray(acoustic)).to(self._device)
        with torch.inference_mode():
            return _array(self._joint(frame.expand(len(label), -1), label))


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.numpy()
