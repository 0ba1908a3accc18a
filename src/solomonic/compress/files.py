"""Quantised matrices in a safetensors file: `<name>.levels`, `.scales`, `.codebook`, and a header.

An exchange between training and what writes device files; the device file itself is `pack`'s.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.core import CheckpointError

_HEAD = "matrices"


def write_matrices(file: str | Path, matrices: Mapping[str, QuantisedMatrix]) -> None:
    """Write them in place; whoever needs it whole or not at all writes elsewhere and renames."""
    tensors: dict[str, np.ndarray] = {}
    head = {}
    for name, matrix in matrices.items():
        tensors[f"{name}.levels"] = np.ascontiguousarray(matrix.levels)
        tensors[f"{name}.scales"] = np.ascontiguousarray(matrix.scales, np.float32)
        if matrix.codebook is not None:
            tensors[f"{name}.codebook"] = matrix.codebook
        head[name] = [matrix.bits, matrix.pattern]
    save_file(tensors, file, metadata={_HEAD: json.dumps(head)})


def read_matrices(file: str | Path) -> dict[str, QuantisedMatrix]:
    """What `write_matrices` wrote.

    Raises:
        CheckpointError: the file is missing, cut short or foreign.
    """
    try:
        with safe_open(file, framework="numpy") as stored:
            head = json.loads((stored.metadata() or {})[_HEAD])
            kept = set(stored.keys())
            return {
                name: QuantisedMatrix(
                    stored.get_tensor(f"{name}.levels"),
                    stored.get_tensor(f"{name}.scales"),
                    bits,
                    pattern,
                    stored.get_tensor(book) if (book := f"{name}.codebook") in kept else None,
                )
                for name, (bits, pattern) in head.items()
            }
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file} holds no quantised matrices ({error}); compress again."
        ) from error
