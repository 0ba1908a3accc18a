"""What a device file spends its bytes on, tensor by tensor."""

import dataclasses
from pathlib import Path

import numpy as np

from solomonic.compress.matrix import VECTOR, QuantisedMatrix
from solomonic.compress.pack.layout import FORMATS
from solomonic.compress.pack.reader import PackParser, pack_identity, read_pack

_NAMES = {number: name for name, number in FORMATS.items()}


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One tensor.

    Attributes:
        format, pattern, bits: as the file has them.
        weights: numbers.
        zeros: share of them that are zero.
        bytes: of data, scales and codebook.
        macs: weights that are multiplied for one row of inputs; 0 for what is no matrix.
        entropy: bits a level would need if levels were independent; 32 for float32.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    bits: int
    pattern: str
    weights: int
    zeros: float
    bytes: int
    macs: int
    entropy: float

    @property
    def bits_per_weight(self) -> float:
        """Scales and the filling of tiles included."""
        return 8 * self.bytes / self.weights


@dataclasses.dataclass(frozen=True)
class PackInfo:
    """The whole file.

    Attributes:
        identity: SHA-256, as in `pack_identity`.
        bytes: of the file.
        float_bytes: what the same numbers take as float32.
        signed: whether it has a signature (which is not verified here).
        pieces: of the vocabulary.
        overhead: bytes that are no tensor's: header, settings, vocabulary, directory, padding.
    """

    identity: str
    config: dict[str, str]
    bytes: int
    float_bytes: int
    signed: bool
    pieces: int
    overhead: int
    tensors: tuple[TensorInfo, ...]

    @property
    def weights(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.weights for tensor in self.tensors)

    @property
    def macs(self) -> int:
        """One row of inputs through every matrix once."""
        return sum(tensor.macs for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Of the whole file."""
        return 8 * self.bytes / max(self.weights, 1)


def describe_pack(path: str | Path) -> PackInfo:
    """Sizes, zeros and products of a device file.

    Raises:
        CheckpointError: it is no sound device file.
    """
    pack = read_pack(path)
    data = Path(path).read_bytes()
    found = []
    for name, shape, payload, _ in PackParser(data, str(path)).entries():
        tensor = pack.tensors[name]
        values = tensor.values if isinstance(tensor, QuantisedMatrix) else tensor
        kind = _NAMES[payload.format]
        found.append(
            TensorInfo(
                name=name,
                format=kind,
                shape=shape.shape,
                bits=shape.bits,
                pattern=shape.pattern,
                weights=values.size,
                zeros=1 - np.count_nonzero(values) / values.size,
                bytes=sum(len(part) for part in payload[1:]),
                macs=_macs(kind, values),
                entropy=_entropy(tensor),
            )
        )
    used = sum(tensor.bytes for tensor in found)
    return PackInfo(
        identity=pack_identity(path),
        config=dict(pack.config),
        bytes=len(data),
        float_bytes=4 * sum(tensor.weights for tensor in found),
        signed=pack.signature is not None,
        pieces=0 if pack.vocabulary is None else len(pack.vocabulary.pieces),
        overhead=len(data) - used,
        tensors=tuple(found),
    )


def _macs(kind: str, values: np.ndarray) -> int:
    """As the native counter counts (`stored_weights`): without what fills up the last tile."""
    if values.ndim != 2:
        return 0
    outputs, inputs = values.shape
    if kind.startswith("s24"):
        return outputs * inputs // 2
    if not kind.startswith("v16"):
        return outputs * inputs
    macs = 0
    for first in range(0, outputs, VECTOR):
        block = values[first : first + VECTOR]
        macs += len(block) * int((block != 0).any(axis=0).sum())
    return macs


def _entropy(tensor: np.ndarray | QuantisedMatrix) -> float:
    if not isinstance(tensor, QuantisedMatrix):
        return 32.0
    counts = np.bincount(tensor.levels.reshape(-1).view(np.uint8), minlength=256)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())
