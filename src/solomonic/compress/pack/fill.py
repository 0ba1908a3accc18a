"""The tensors of a device file into those of a model."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack.contents import Pack
from solomonic.core import CheckpointError


def fill_tensors(path: str | Path, state: Mapping[str, Tensor], pack: Pack) -> None:
    """Copy the file's tensors into the model's, each checked by name and shape.

    Raises:
        CheckpointError: they are not those of the model.
    """
    for name in sorted(state.keys() | pack.tensors.keys()):
        stored = pack.tensors.get(name)
        if isinstance(stored, QuantisedMatrix):
            stored = stored.dequantised()
        wanted = tuple(state[name].shape) if name in state else "absent"
        if stored is None or stored.shape != wanted:
            raise CheckpointError(
                f"{path}: '{name}' is {'absent' if stored is None else stored.shape} and should be "
                f"{wanted}; make the file again."
            )
        with torch.no_grad():
            state[name].copy_(torch.from_numpy(stored))
