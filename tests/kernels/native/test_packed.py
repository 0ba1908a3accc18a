"""Products with packed matrices: bit for bit what integers give, and no zero multiplied."""

from typing import Any

import numpy as np
import pytest

from solomonic.compress.matrix import GROUP, QuantisedMatrix
from solomonic.compress.tiles import FORMATS, Tiles, pack_floats, pack_tiles
from solomonic.kernels import native

CORE: Any = native.load()
QUANTISED = [name for name in FORMATS if name != "f32"]
SIZES = [(1, 1), (1, 200), (200, 1), (63, 31), (65, 33), (130, 100), (17, 4), (128, 512)]


def random_matrix(format: str, outputs: int, inputs: int, zeros: float = 0.5) -> QuantisedMatrix:
    """A matrix that `format` can hold; zeros: part of the vectors of 16 that are zero (v16)."""
    rng = np.random.default_rng([outputs, inputs])
    bits = 8 if format.endswith("8") else 4
    top = 127 if bits == 8 else 7
    levels = rng.integers(-top, top + 1, (outputs, inputs)).astype(np.int8)
    pattern = "dense"
    if format.startswith("s24"):
        pattern = "2:4"
        for begin in range(0, inputs, 4):
            part = levels[:, begin : begin + 4]
            part[rng.random(part.shape).argsort(axis=1).argsort(axis=1) >= 2] = 0
    elif format.startswith("v16"):
        pattern = "vec16"
        dropped = rng.random((-(-outputs // 16), inputs)) < zeros
        levels[np.repeat(dropped, 16, axis=0)[:outputs]] = 0
    scales = rng.random(outputs).astype(np.float32) + np.float32(0.01)
    if format == "q4":
        wide = rng.random((outputs, -(-inputs // GROUP))).astype(np.float32) + np.float32(0.01)
        scales = (wide.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return QuantisedMatrix(levels, scales, bits, pattern)


def packed(tiles: Tiles) -> Any:
    return CORE.PackedMatrix(tiles.format, tiles.outputs, tiles.inputs, tiles.data, tiles.scales)


def reference(matrix: QuantisedMatrix, x: np.ndarray) -> np.ndarray:
    """FORMAT.md, "The product", in numpy: integers, and the roundings it names."""
    top = np.abs(x).max(axis=1, initial=0).astype(np.float32)
    inverse = np.divide(np.float32(127), top, out=np.zeros_like(top), where=top > 0)
    levels = np.rint(x * inverse[:, None]).astype(np.int64)
    size = top / np.float32(127)
    values = matrix.values.astype(np.int64)
    if not matrix.grouped:
        return (levels @ values.T).astype(np.float32) * (size[:, None] * matrix.scales)
    total = np.zeros((len(x), len(values)), np.float32)
    for group in range(matrix.scales.shape[1]):
        part = slice(group * GROUP, (group + 1) * GROUP)
        sums = (levels[:, part] @ values[:, part].T).astype(np.float32)
        total += sums * matrix.scales[:, group]
    return total * size[:, None]


@pytest.mark.parametrize("format", QUANTISED)
def test_products_are_exact(isa: str, format: str) -> None:
    rng = np.random.default_rng(1)
    for outputs, inputs in SIZES:
        for zeros in (0, 0.5, 1):
            if zeros != 0.5 and not format.startswith("v16"):
                continue
            matrix = random_matrix(format, outputs, inputs, zeros)
            weights = packed(pack_tiles(matrix, format))
            for rows in (1, 3, 8):
                x = rng.standard_normal((rows, inputs)).astype(np.float32)
                want = reference(matrix, x)
                np.testing.assert_array_equal(weights.multiply(x), want)
                np.testing.assert_array_equal(weights.multiply(x, 2, True), want + np.float32(1))


@pytest.mark.parametrize("format", QUANTISED)
def test_zeros_everywhere(isa: str, format: str) -> None:
    matrix = random_matrix(format, 70, 70)
    x = np.random.default_rng(2).standard_normal((2, 70)).astype(np.float32)
    weights = packed(pack_tiles(matrix, format))
    assert (weights.multiply(np.zeros_like(x)) == 0).all()
    matrix.levels[:] = 0
    assert (packed(pack_tiles(matrix, format)).multiply(x) == 0).all()


def test_floats(isa: str) -> None:
    rng = np.random.default_rng(3)
    weights = rng.standard_normal((70, 33)).astype(np.float32)
    x = rng.standard_normal((3, 33)).astype(np.float32)
    y = packed(pack_floats(weights)).multiply(x)
    np.testing.assert_allclose(y, x @ weights.T, atol=1e-5)


@pytest.mark.parametrize("format", QUANTISED)
def test_both_languages_write_the_same_tiles_and_read_them(format: str) -> None:
    for outputs, inputs in [*SIZES, (0, 5), (5, 0)]:
        matrix = random_matrix(format, outputs, inputs)
        tiles = pack_tiles(matrix, format)
        assert CORE.packed_levels(format, matrix.values) == tiles.data
        weights = packed(tiles)
        for output in range(0, outputs, 17):
            np.testing.assert_array_equal(weights.row(output), matrix.dequantised()[output])


@pytest.mark.parametrize("zeros", [0.5, 0.75])
def test_zeros_are_not_multiplied(isa: str, zeros: float) -> None:
    """The kernels count what they multiply: stored vectors, and at most 7 more in 16 outputs."""
    matrix = random_matrix("v16_4", 256, 512, zeros)
    kept = int((matrix.levels.reshape(16, 16, 512) != 0).any(axis=1).sum()) * 16
    weights = packed(pack_tiles(matrix, "v16_4"))
    assert weights.stored == kept
    x = np.ones((3, 512), np.float32)
    CORE.count_macs(True)
    weights.multiply(x, 2)
    count = CORE.mac_count()
    CORE.count_macs(False)
    assert count["dense"] == 3 * 256 * 512
    assert count["stored"] == 3 * kept
    assert 3 * kept <= count["executed"] <= 3 * (kept + 16 * 7 * 16)
    weights.multiply(x)
    assert CORE.mac_count() == count, "counted although switched off"


def test_half_of_two_of_four_is_not_multiplied(isa: str) -> None:
    weights = packed(pack_tiles(random_matrix("s24_4", 128, 512), "s24_4"))
    CORE.count_macs(True)
    weights.multiply(np.ones((2, 512), np.float32))
    count = CORE.mac_count()
    CORE.count_macs(False)
    assert 2 * count["executed"] == 2 * count["stored"] == count["dense"] == 2 * 128 * 512


def test_what_does_not_fit_is_refused() -> None:
    tiles = pack_tiles(random_matrix("v16_4", 40, 100), "v16_4")
    weights = packed(tiles)
    with pytest.raises(ValueError, match="99 columns"):
        weights.multiply(np.ones((1, 99), np.float32))
    with pytest.raises(ValueError, match="no such output"):
        weights.row(40)
    with pytest.raises(ValueError, match="v17"):
        CORE.PackedMatrix("v17", 40, 100, tiles.data, tiles.scales)
    for data in (tiles.data[:-1], tiles.data + b"\0", b""):
        with pytest.raises(ValueError, match="bytes"):
            CORE.PackedMatrix("v16_4", 40, 100, data, tiles.scales)
    with pytest.raises(ValueError, match="scales"):
        CORE.PackedMatrix("v16_4", 40, 100, tiles.data, b"")
