"""Tensors as the bytes that a device file stores."""

from typing import NamedTuple

import numpy as np

from solomonic.compress import tiles
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack.contents import Tensor
from solomonic.compress.pack.layout import FORMATS
from solomonic.core import ConfigError

_NAMES = {number: name for name, number in FORMATS.items()}


class Payload(NamedTuple):
    """A tensor's bytes.

    format: its number (layout.FORMATS).
    data, scales, table: bytes of the weights, of their scales, and of the codebook; the last two
        may be empty.
    """

    format: int
    data: bytes
    scales: bytes = b""
    table: bytes = b""


class Shape(NamedTuple):
    """What the directory says of a tensor."""

    shape: tuple[int, ...]
    bits: int
    pattern: str


def encode_tensor(tensor: Tensor) -> tuple[Shape, Payload]:
    """A tensor as the file holds it.

    Raises:
        ConfigError: a matrix that no format holds.
    """
    if isinstance(tensor, QuantisedMatrix):
        shape = Shape(tensor.levels.shape, tensor.bits, tensor.pattern)
        return shape, _encode_matrix(tensor)
    data = np.ascontiguousarray(tensor).astype("<f4", copy=False).tobytes()
    return Shape(tensor.shape, 32, "dense"), Payload(FORMATS["f32"], data)


def decode_tensor(shape: Shape, payload: Payload) -> Tensor:
    """The reverse of `encode_tensor`.

    Raises:
        ConfigError, ShapeError: bytes that do not fit the shape.
    """
    if payload.format == FORMATS["f32"]:
        count = int(np.prod(shape.shape, dtype=object))
        if len(payload.data) != 4 * count or payload.scales or payload.table:
            raise ConfigError(f"{len(payload.data)} bytes do not fit {count} float32 numbers")
        if shape.bits != 32 or shape.pattern != "dense":
            raise ConfigError(f"float32 numbers of {shape.bits} bits")
        array = np.frombuffer(payload.data, "<f4").reshape(shape.shape).astype(np.float32)
        if not np.isfinite(array).all():
            raise ConfigError("it holds NaN or infinity")
        return array
    if len(shape.shape) != 2:
        raise ConfigError("it is quantised and no matrix")
    matrix = _decode_matrix(shape, payload)
    if not np.isfinite(matrix.scales).all():
        raise ConfigError("a scale is NaN or infinity")
    return matrix


def _encode_matrix(matrix: QuantisedMatrix) -> Payload:
    table = b"" if matrix.codebook is None else matrix.codebook.tobytes()
    if matrix.codebook is not None and not _skips(matrix):
        if matrix.grouped:
            raise ConfigError("a matrix with a codebook has one scale an output, not of groups.")
        scales = tiles.pack_tiles(QuantisedMatrix(matrix.levels[:, :0], matrix.scales, 8)).scales
        return Payload(FORMATS["q5"], five(matrix.levels), scales, table)
    packed = tiles.pack_tiles(matrix)
    return Payload(FORMATS[packed.format], packed.data, packed.scales, table)


def _skips(matrix: QuantisedMatrix) -> bool:
    """Whether tiles that leave zeros out hold this matrix with a codebook, and give it back.

    They hold what the levels stand for; from that a level is only known where no two stand for the
    same.
    """
    assert matrix.codebook is not None
    return tiles.choose_format(matrix) != "q8" and bool(
        (np.diff(matrix.codebook.astype(int)) > 0).all()
    )


def _decode_matrix(shape: Shape, payload: Payload) -> QuantisedMatrix:
    outputs, inputs = shape.shape
    name = _NAMES[payload.format]
    panels = -(-outputs // tiles.PANEL)
    groups = -(-inputs // tiles.GROUP) if name == "q4" else 2  # 2 bytes a number, or 4
    if len(payload.scales) != panels * tiles.PANEL * 2 * groups:
        raise ConfigError(f"{len(payload.scales)} bytes of scales do not fit {outputs} outputs")
    books = {"q5": (32,), "s24_8": (0, 32), "v16_8": (0, 32)}.get(name, (0,))
    if len(payload.table) not in books:
        raise ConfigError(f"a codebook of {len(payload.table)} bytes")
    table = np.frombuffer(payload.table, np.int8).copy() if payload.table else None
    if table is not None and ((np.diff(table.astype(int)) < 0).any() or table[0] < -127):
        raise ConfigError("its codebook is out of order")
    packed = tiles.Tiles(
        "q8" if name == "q5" else name,
        outputs,
        inputs,
        payload.data,
        payload.scales,
        shape.bits,
        shape.pattern,
        table,
    )
    if name != "q5":
        return tiles.unpack_tiles(packed)
    levels = from_five(payload.data, outputs, inputs)
    return QuantisedMatrix(levels, tiles.unpack_scales(packed), shape.bits, shape.pattern, table)


def five(levels: np.ndarray) -> bytes:
    """Indices 0..31 in row order: their low nibbles, two in a byte, then their high bits."""
    flat = np.ascontiguousarray(levels).view(np.uint8).reshape(-1)
    low = np.append(flat & 15, np.zeros(len(flat) % 2, np.uint8))
    return (low[::2] | low[1::2] << 4).tobytes() + np.packbits(
        flat >> 4, bitorder="little"
    ).tobytes()


def from_five(data: bytes, outputs: int, inputs: int) -> np.ndarray:
    count = outputs * inputs
    half = (count + 1) // 2
    if len(data) != half + (count + 7) // 8:
        raise ConfigError(f"{len(data)} bytes do not fit {count} numbers of five bits")
    pairs = np.frombuffer(data, np.uint8, half)
    low = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:count]
    high = np.unpackbits(np.frombuffer(data, np.uint8, offset=half), bitorder="little")[:count]
    return (low | high << 4).astype(np.int8).reshape(outputs, inputs)
