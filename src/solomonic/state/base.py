"""The state of a stream as a typed tree of tensors, batch dimension first.

A state is a value: layers take one and return another, and nothing is hidden in a module. Rows are
independent streams, so one batch can hold streams that start, stop and stall at different times.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor


def field(fill: float = 0.0, grows: bool = False) -> Any:
    """Declare a tensor of a state: what an empty entry holds, and whether dimension 1 grows.

    Only the key/value cache of full attention grows; every other tensor has a constant size.
    """
    return dataclasses.field(metadata={"fill": fill, "grows": grows})


@dataclasses.dataclass
class State:
    """Base of every state: a dataclass of tensors (B, ...), of further states, or of None."""

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Yield (dotted name, tensor) in a fixed order."""
        for name, tensor, _ in self.entries(prefix):
            yield name, tensor

    def entries(self, prefix: str = "") -> Iterator[tuple[str, Tensor, bool]]:
        """Yield (dotted name, tensor, whether its dimension 1 grows) in the order of `map`."""
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            name = f"{prefix}{spec.name}"
            if isinstance(value, Tensor):
                yield name, value, bool(spec.metadata.get("grows"))
            elif isinstance(value, State):
                yield from value.entries(f"{name}.")
            elif isinstance(value, tuple):
                for index, part in enumerate(value):
                    if part is not None:
                        yield from part.entries(f"{name}.{index}.")

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(x.numel() * x.element_size() for _, x in self.leaves())

    def map(self, function: Callable[..., Tensor], *others: Self) -> Self:
        """Apply `function(fill, tensor, *tensors of others)` to every tensor; keep the tree."""
        changes = {}
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            peers = [getattr(other, spec.name) for other in others]
            if isinstance(value, Tensor):
                if spec.metadata.get("grows"):
                    value, peers = _same_length(value, peers, spec.metadata["fill"])
                changes[spec.name] = function(spec.metadata.get("fill", 0.0), value, *peers)
            elif isinstance(value, State):
                changes[spec.name] = value.map(function, *peers)
            elif isinstance(value, tuple):
                parts = zip(value, *peers, strict=True)
                changes[spec.name] = tuple(
                    part and part.map(function, *rest) for part, *rest in parts
                )
        return dataclasses.replace(self, **changes)


def _same_length(value: Tensor, peers: list[Tensor], fill: float) -> tuple[Tensor, list[Tensor]]:
    """Pad growing tensors on the right of dimension 1 to the longest among them."""
    length = max(tensor.shape[1] for tensor in (value, *peers))
    padded = [_pad(tensor, length, fill) for tensor in (value, *peers)]
    return padded[0], padded[1:]


def _pad(tensor: Tensor, length: int, fill: float) -> Tensor:
    missing = length - tensor.shape[1]
    if missing == 0:
        return tensor
    shape = (tensor.shape[0], missing, *tensor.shape[2:])
    return torch.cat((tensor, tensor.new_full(shape, fill)), dim=1)
