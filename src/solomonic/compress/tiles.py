"""Tiles: the bytes in which kernels read a quantised matrix, the same on every instruction set.

The layouts are specified in FORMAT.md, "Tile layouts"; the C++ twin is
native/src/runtime/tiles.cpp.
Outputs lie in panels of 64, in which each 32-bit word holds what one output needs next.
"""

import dataclasses

import numpy as np

from solomonic.compress.matrix import GROUP, VECTOR, QuantisedMatrix, by_vectors
from solomonic.core import ConfigError, ShapeError

PANEL = 64
"""Outputs of a panel."""
FORMATS = {
    "f32": 0,
    "q8": 1,
    "q4": 2,
    "q4r": 3,
    "s24_4": 4,
    "s24_8": 5,
    "v16_4": 6,
    "v16_8": 7,
}
"""Name of a format to its number in files."""
ALIGN = 64
"""Parts of a v16 matrix begin at multiples of this many bytes."""
WORTH_SKIPPING = 0.9
"""A vec16 matrix that keeps more of its vectors than this is stored dense: packing the inputs
would cost more than is skipped."""


@dataclasses.dataclass(frozen=True)
class Tiles:
    """A matrix as kernels read it.

    Attributes:
        format: a name of FORMATS.
        outputs, inputs: N, K.
        data: the tiles.
        scales: float32 (N filled up to 64) little-endian; for q4 bfloat16 [panel][group][64]; for
            f32 nothing.
        bits, pattern, codebook: as in QuantisedMatrix; not in the tiles, but needed to get back.
    """

    format: str
    outputs: int
    inputs: int
    data: bytes
    scales: bytes
    bits: int = 8
    pattern: str = "dense"
    codebook: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        return len(self.data) + len(self.scales)


def choose_format(matrix: QuantisedMatrix) -> str:
    """The format that multiplies `matrix` fastest.

    Raises:
        ConfigError: group scales with more than 4 bits, which no kernel has.
    """
    if matrix.grouped:
        if matrix.bits != 4:
            raise ConfigError(
                f"no tiles for scales of groups with {matrix.bits} bits; use one scale an output, "
                "or 4 bits."
            )
        return "q4"
    width = 4 if matrix.bits == 4 else 8
    if matrix.pattern == "2:4":
        return f"s24_{width}"
    if matrix.pattern == "vec16" and _kept(matrix.values).mean() < WORTH_SKIPPING:
        return f"v16_{width}"
    return "q4r" if width == 4 else "q8"


def pack_tiles(matrix: QuantisedMatrix, format: str | None = None) -> Tiles:
    """`matrix` in tiles of `format`, by default of choose_format.

    Raises:
        ConfigError: a format that cannot hold this matrix.
    """
    format = choose_format(matrix) if format is None else format
    if format not in FORMATS or format == "f32":
        raise ConfigError(
            f"format = '{format}' is none of quantised matrices; use one of "
            f"{', '.join(name for name in FORMATS if name != 'f32')}."
        )
    if (format == "q4") != matrix.grouped:
        raise ConfigError(
            f"'{format}' has {'scales of groups' if format == 'q4' else 'one scale an output'}, "
            f"the matrix has {'scales of groups' if matrix.grouped else 'one scale an output'}."
        )
    values = matrix.values
    if (
        format in ("q4", "q4r", "s24_4", "v16_4")
        and values.size
        and np.abs(values.astype(int)).max() > 7
    ):
        raise ConfigError(f"'{format}' holds levels from -7 to 7, the matrix has larger ones.")
    outputs, inputs = values.shape
    return Tiles(
        format,
        outputs,
        inputs,
        _PACK[format.split("_")[0]](values, format),
        _pack_scales(matrix.scales, format, inputs),
        matrix.bits,
        matrix.pattern,
        matrix.codebook,
    )


def pack_floats(weights: np.ndarray) -> Tiles:
    """float32 weights (N, K) in tiles of the format f32."""
    if weights.ndim != 2:
        raise ShapeError(f"weights of shape {weights.shape} are no matrix (outputs, inputs).")
    whole = _filled(weights.astype("<f4"), PANEL, 1)
    tiles = whole.reshape(len(whole) // PANEL, PANEL, weights.shape[1]).transpose(0, 2, 1)
    outputs, inputs = weights.shape
    return Tiles("f32", outputs, inputs, np.ascontiguousarray(tiles).tobytes(), b"")


def unpack_floats(tiles: Tiles) -> np.ndarray:
    """The weights (N, K) that pack_floats was given."""
    panels = -(-tiles.outputs // PANEL)
    whole = np.frombuffer(tiles.data, "<f4").reshape(panels, tiles.inputs, PANEL)
    rows = whole.transpose(0, 2, 1).reshape(panels * PANEL, tiles.inputs)
    return rows[: tiles.outputs].astype(np.float32)


def unpack_tiles(tiles: Tiles) -> QuantisedMatrix:
    """The matrix that pack_tiles was given, exactly.

    Raises:
        ShapeError: bytes that are no such matrix.
    """
    values = unpack_levels(tiles)
    if tiles.codebook is None:
        levels = values
    else:
        levels = np.searchsorted(tiles.codebook, values).astype(np.int8)
    return QuantisedMatrix(levels, unpack_scales(tiles), tiles.bits, tiles.pattern, tiles.codebook)


def unpack_levels(tiles: Tiles) -> np.ndarray:
    """(N, K) int8: the values in the tiles, a codebook's looked up.

    Raises:
        ShapeError: bytes that are no such matrix.
    """
    try:
        values = _UNPACK[tiles.format.split("_")[0]](tiles)
    except (ValueError, IndexError) as error:
        raise ShapeError(
            f"{len(tiles.data)} bytes are no tiles '{tiles.format}' of {tiles.outputs} outputs and "
            f"{tiles.inputs} inputs."
        ) from error
    return np.ascontiguousarray(values[: tiles.outputs, : tiles.inputs])


def unpack_scales(tiles: Tiles) -> np.ndarray:
    """float32 (N,), or for q4 (N, ceil(K / 64))."""
    if tiles.format != "q4":
        return np.frombuffer(tiles.scales, "<f4")[: tiles.outputs].astype(np.float32)
    groups = -(-tiles.inputs // GROUP)
    panels = -(-tiles.outputs // PANEL)
    half = np.frombuffer(tiles.scales, "<u2").reshape(panels, groups, PANEL).transpose(0, 2, 1)
    wide = half.reshape(panels * PANEL, groups)[: tiles.outputs].astype(np.uint32) << 16
    return np.ascontiguousarray(wide).view(np.float32)


def _filled(array: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """`array` with zeros up to multiples of `rows` and `columns`."""
    more = (-array.shape[0] % rows, -array.shape[1] % columns)
    return np.pad(array, ((0, more[0]), (0, more[1])))


def _panels(words: np.ndarray) -> bytes:
    """(N, S, parts, 4) bytes of the outputs to [panel][S][parts][64][4]."""
    rows, steps, parts, width = words.shape
    split = words.reshape(rows // PANEL, PANEL, steps, parts, width)
    return np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4)).tobytes()


def _outputs(data: bytes, outputs: int, steps: int, parts: int) -> np.ndarray:
    """The inverse of _panels: (N filled up, S, parts, 4) uint8."""
    panels = -(-outputs // PANEL)
    split = np.frombuffer(data, np.uint8).reshape(panels, steps, parts, PANEL, 4)
    return split.transpose(0, 3, 1, 2, 4).reshape(panels * PANEL, steps, parts, 4)


def _nibbles(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Levels in two's complement, two in a byte."""
    return ((low & 15) | ((high & 15) << 4)).astype(np.int8).view(np.uint8)


def _signed(nibbles: np.ndarray) -> np.ndarray:
    """Nibbles 0..15 as levels -8..7."""
    return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8)


def _pack_q8(values: np.ndarray, format: str) -> bytes:
    whole = _filled(values, PANEL, 4)
    return _panels(whole.view(np.uint8).reshape(len(whole), whole.shape[1] // 4, 1, 4))


def _unpack_q8(tiles: Tiles) -> np.ndarray:
    steps = -(-tiles.inputs // 4)
    words = _outputs(tiles.data, tiles.outputs, steps, 1)
    return words.reshape(len(words), 4 * steps).view(np.int8)


def _pack_q4(values: np.ndarray, format: str) -> bytes:
    whole = _filled(values, PANEL, 8)
    halves = whole.reshape(len(whole), whole.shape[1] // 8, 2, 4)
    words = _nibbles(halves[:, :, 0], halves[:, :, 1])
    if format == "q4":
        words = words ^ 0x88  # level + 8
    return _panels(words[:, :, None])


def _unpack_q4(tiles: Tiles) -> np.ndarray:
    steps = -(-tiles.inputs // 8)
    words = _outputs(tiles.data, tiles.outputs, steps, 1)[:, :, 0]
    if tiles.format == "q4":
        words = words ^ 0x88
    halves = np.stack([_signed(words & 15), _signed(words >> 4)], axis=2)
    return halves.reshape(len(words), 8 * steps)


def _pack_s24(values: np.ndarray, format: str) -> bytes:
    whole = _filled(values, PANEL, 32)
    quads = whole.reshape(len(whole), whole.shape[1] // 32, 8, 4)
    order = np.argsort(quads == 0, axis=3, kind="stable")[..., :2].astype(np.uint8)
    kept = np.take_along_axis(quads, order.astype(np.int64), axis=3)
    if np.count_nonzero(kept) != np.count_nonzero(whole):
        raise ConfigError("more than two of four inputs are not zero: no 2:4 matrix.")
    order[kept == 0] = 0
    shape = (len(whole), quads.shape[1], 4, 4)  # output, step, product, byte of the word
    order, kept = order.reshape(shape), np.ascontiguousarray(kept).reshape(shape)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    places = np.bitwise_or.reduce(order << shifts, axis=2, keepdims=True)
    if format == "s24_4":
        stored = _nibbles(
            np.ascontiguousarray(kept[:, :, ::2]), np.ascontiguousarray(kept[:, :, 1::2])
        )
    else:
        stored = kept.view(np.uint8)
    return _panels(np.concatenate([places, stored], axis=2))


def _unpack_s24(tiles: Tiles) -> np.ndarray:
    steps = -(-tiles.inputs // 32)
    words = _outputs(tiles.data, tiles.outputs, steps, 3 if tiles.format == "s24_4" else 5)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    places = (words[:, :, :1] >> shifts) & 3  # output, step, product, byte
    if tiles.format == "s24_4":
        stored = np.stack([_signed(words[:, :, 1:] & 15), _signed(words[:, :, 1:] >> 4)], axis=3)
    else:
        stored = words[:, :, 1:].view(np.int8)
    shape = (len(words), steps, 8, 2)  # output, step, quad, slot
    places, stored = places.reshape(shape), stored.reshape(shape)
    quads = np.zeros((len(words), steps, 8, 4), np.int8)
    for slot in (1, 0):  # an unused second slot (0 at place 0) must not overwrite the first
        at = places[..., slot : slot + 1].astype(np.int64)
        np.put_along_axis(quads, at, stored[..., slot : slot + 1], axis=3)
    return quads.reshape(len(words), steps * 32)


def _kept(values: np.ndarray) -> np.ndarray:
    """(ceil(N / 16), K) bool: which vectors of 16 outputs are not all zero."""
    return (by_vectors(values) != 0).any(axis=1)


def _pack_v16(values: np.ndarray, format: str) -> bytes:
    in_word = 8 if format == "v16_4" else 4
    kept = _kept(values)
    count = kept.sum(axis=1)
    begin = np.zeros(len(kept) + 1, np.int64)
    begin[1:] = np.cumsum(-(-count // in_word))
    block, at = np.nonzero(kept)
    slot = np.arange(len(block)) - np.repeat(np.cumsum(count) - count, count)
    levels = by_vectors(values)[block, :, at]
    # (step, part of the word, output)
    words = np.zeros((int(begin[-1]), in_word, VECTOR), np.int8)
    words[begin[block] + slot // in_word, slot % in_word] = levels
    words = words.transpose(0, 2, 1)
    if format == "v16_4":
        stored = _nibbles(
            np.ascontiguousarray(words[..., :4]), np.ascontiguousarray(words[..., 4:])
        )
    else:
        stored = np.ascontiguousarray(words).view(np.uint8)
    maps = np.packbits(_filled(kept, 1, 64), axis=1, bitorder="little")
    return _aligned(begin.astype("<u4").tobytes()) + _aligned(maps.tobytes()) + stored.tobytes()


def _unpack_v16(tiles: Tiles) -> np.ndarray:
    in_word = 8 if tiles.format == "v16_4" else 4
    blocks, width = -(-tiles.outputs // VECTOR), -(-tiles.inputs // 64) * 8
    begin = np.frombuffer(tiles.data, "<u4", blocks + 1).astype(np.int64)
    head = len(_aligned(bytes(4 * (blocks + 1))))
    maps = np.frombuffer(tiles.data, np.uint8, blocks * width, head).reshape(blocks, width)
    kept = np.unpackbits(maps, axis=1, bitorder="little")[:, : tiles.inputs].astype(bool)
    count = kept.sum(axis=1)
    if (np.diff(begin) != -(-count // in_word)).any():
        raise ValueError("the vectors do not fit the bits")
    base = head + len(_aligned(bytes(blocks * width)))
    words = np.frombuffer(tiles.data, np.uint8, offset=base).reshape(int(begin[-1]), VECTOR, 4)
    if tiles.format == "v16_4":
        levels = np.concatenate([_signed(words & 15), _signed(words >> 4)], axis=2)
    else:
        levels = words.view(np.int8)
    block, at = np.nonzero(kept)
    slot = np.arange(len(block)) - np.repeat(np.cumsum(count) - count, count)
    values = np.zeros((blocks, VECTOR, tiles.inputs), np.int8)
    values[block, :, at] = levels[begin[block] + slot // in_word, :, slot % in_word]
    return values.reshape(blocks * VECTOR, tiles.inputs)


def _aligned(part: bytes) -> bytes:
    return part + bytes(-len(part) % ALIGN)


def _pack_scales(scales: np.ndarray, format: str, inputs: int) -> bytes:
    if format != "q4":
        whole = np.zeros(-(-len(scales) // PANEL) * PANEL, "<f4")
        whole[: len(scales)] = scales
        return whole.tobytes()
    bits = np.ascontiguousarray(scales, dtype=np.float32).view(np.uint32)
    if (bits & 0xFFFF).any():
        raise ConfigError("a scale of a group is no bfloat16; round the scales first.")
    half = _filled((bits >> 16).astype("<u2"), PANEL, 1)
    panels = half.reshape(len(half) // PANEL, PANEL, scales.shape[1])
    return np.ascontiguousarray(panels.transpose(0, 2, 1)).tobytes()


_PACK = {"q8": _pack_q8, "q4": _pack_q4, "q4r": _pack_q4, "s24": _pack_s24, "v16": _pack_v16}
_UNPACK = {
    "q8": _unpack_q8,
    "q4": _unpack_q4,
    "q4r": _unpack_q4,
    "s24": _unpack_s24,
    "v16": _unpack_v16,
}
