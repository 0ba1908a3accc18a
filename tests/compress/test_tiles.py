"""Tiles hold a matrix exactly, at every size, and have the bytes that FORMAT.md says."""

import numpy as np
import pytest

from solomonic.compress.matrix import GROUP, QuantisedMatrix
from solomonic.compress.tiles import (
    FORMATS,
    Tiles,
    choose_format,
    pack_floats,
    pack_tiles,
    unpack_floats,
    unpack_tiles,
)
from solomonic.core import ConfigError, ShapeError

SIZES = [(1, 1), (1, 200), (200, 1), (64, 64), (63, 31), (65, 33), (130, 100), (17, 4), (16, 640)]
QUANTISED = [name for name in FORMATS if name != "f32"]


def random_matrix(
    format: str, outputs: int, inputs: int, zeros: float = 0.5, seed: int = 0
) -> QuantisedMatrix:
    """A matrix that `format` can hold; zeros: part of the vectors that are zero, for v16."""
    rng = np.random.default_rng([seed, outputs, inputs])
    bits = 8 if format.endswith("8") else 4
    top = 127 if bits == 8 else 7
    levels = rng.integers(-top, top + 1, (outputs, inputs)).astype(np.int8)
    pattern = "dense"
    if format.startswith("s24"):
        pattern = "2:4"
        whole = np.zeros((outputs, -(-inputs // 4) * 4), np.int8)
        whole[:, :inputs] = levels
        rank = rng.random((outputs, whole.shape[1] // 4, 4)).argsort(axis=2)
        whole.reshape(rank.shape)[rank >= 2] = 0
        levels = whole[:, :inputs].copy()
    elif format.startswith("v16"):
        pattern = "vec16"
        dropped = rng.random((-(-outputs // 16), inputs)) < zeros
        levels[np.repeat(dropped, 16, axis=0)[:outputs]] = 0
    scales = rng.random(outputs).astype(np.float32) + 0.01
    if format == "q4":
        wide = rng.random((outputs, -(-inputs // GROUP))).astype(np.float32) + 0.01
        scales = (wide.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return QuantisedMatrix(levels, scales, bits, pattern)


def assert_same(a: QuantisedMatrix, b: QuantisedMatrix) -> None:
    np.testing.assert_array_equal(a.levels, b.levels)
    np.testing.assert_array_equal(a.scales, b.scales)
    assert a.levels.dtype == b.levels.dtype == np.int8
    assert (a.bits, a.pattern) == (b.bits, b.pattern)


@pytest.mark.parametrize("format", QUANTISED)
def test_a_matrix_comes_back_exactly(format: str) -> None:
    for outputs, inputs in SIZES:
        for zeros in (0, 0.5, 1):
            matrix = random_matrix(format, outputs, inputs, zeros)
            assert_same(unpack_tiles(pack_tiles(matrix, format)), matrix)


@pytest.mark.parametrize("format", QUANTISED)
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_empty_matrix(format: str, size: tuple[int, int]) -> None:
    matrix = random_matrix(format, *size)
    assert_same(unpack_tiles(pack_tiles(matrix, format)), matrix)


@pytest.mark.parametrize("format", QUANTISED)
def test_all_zero(format: str) -> None:
    matrix = random_matrix(format, 70, 70)
    matrix.levels[:] = 0
    tiles = pack_tiles(matrix, format)
    assert_same(unpack_tiles(tiles), matrix)
    if format.startswith("v16"):  # 5 blocks: six places to begin and two words of bits each
        assert len(tiles.data) == 64 + 128


@pytest.mark.parametrize(
    ("format", "bits"),
    [("q8", 8), ("q4", 4), ("q4r", 4), ("s24_4", 3), ("s24_8", 5)],
)
def test_bits_of_a_weight(format: str, bits: float) -> None:
    tiles = pack_tiles(random_matrix(format, 128, 256), format)
    assert len(tiles.data) * 8 == bits * 128 * 256
    assert len(tiles.scales) == (128 * 4 * 2 if format == "q4" else 128 * 4)


def test_bits_of_a_weight_in_vectors() -> None:
    matrix = random_matrix("v16_4", 64, 1024, 0)
    matrix.levels[:, ::2] = 0
    matrix.levels[0::16, 1::2] = 1
    assert len(pack_tiles(matrix, "v16_4").data) == 64 + 4 * 1024 // 8 + 4 * 512 // 8 * 64


def test_words_by_hand() -> None:
    """The examples of FORMAT.md."""
    levels = np.zeros((1, 8), np.int8)
    levels[0] = [1, -2, 3, -4, 5, -6, 7, -1]
    scales = np.ones(1, np.float32)
    q8 = pack_tiles(QuantisedMatrix(levels, scales, 8), "q8").data
    assert q8[:4] == bytes([1, 254, 3, 252])
    assert q8[256:260] == bytes([5, 250, 7, 255])
    q4r = pack_tiles(QuantisedMatrix(levels, scales, 4), "q4r").data
    assert q4r[:4] == bytes([0x51, 0xAE, 0x73, 0xFC])
    q4 = pack_tiles(QuantisedMatrix(levels, scales[:, None], 4), "q4")
    assert q4.data[:4] == bytes([0xD9, 0x26, 0xFB, 0x74])
    assert q4.scales[:2] == bytes([0x80, 0x3F])

    levels = np.zeros((1, 32), np.int8)
    levels[0, [1, 3]] = [5, -3]  # product 0, first four: places 1 and 3
    levels[0, 14] = 7  # product 1, last four: place 2
    levels[0, [24, 27]] = [-1, 2]  # product 3, first four: places 0 and 3
    data = pack_tiles(QuantisedMatrix(levels, scales, 4, "2:4"), "s24_4").data
    assert data[:4] == bytes([1, 3 | 3 << 6, 2 << 2, 0])
    assert data[256:260] == bytes([5, 13, 0x70, 0])
    assert data[512:516] == bytes([0xF0, 0x20, 0, 0])

    levels = np.zeros((16, 70), np.int8)
    levels[3, 2] = 4
    levels[0, 65] = -1
    data = pack_tiles(QuantisedMatrix(levels, np.ones(16, np.float32), 4, "vec16"), "v16_4").data
    assert data[:8] == bytes([0, 0, 0, 0, 1, 0, 0, 0])
    assert data[64:80] == bytes([4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0])
    assert data[128 + 12] == 4  # output 3, vector 0
    assert data[128 + 1] == 0x0F  # output 0, vector 1
    assert len(data) == 192


def test_the_format_is_chosen_by_pattern_bits_and_scales() -> None:
    for format in QUANTISED:
        assert choose_format(random_matrix(format, 64, 64)) == format
    assert choose_format(random_matrix("v16_4", 64, 64, 0.01)) == "q4r"
    grouped = random_matrix("q4", 64, 64)
    with pytest.raises(ConfigError, match="one scale an output"):
        choose_format(QuantisedMatrix(grouped.levels, grouped.scales, 8))


def test_a_codebook_is_looked_up_and_found_again() -> None:
    rng = np.random.default_rng(1)
    codebook = np.sort(rng.choice(np.arange(1, 128), 31, replace=False)).astype(np.int8)
    codebook = np.sort(np.append(codebook - 64, 0)).astype(np.int8)
    codebook = np.unique(codebook)
    while len(codebook) < 32:  # 0 may have been there already
        codebook = np.append(codebook, codebook[-1] + 1).astype(np.int8)
    matrix = QuantisedMatrix(
        rng.integers(0, 32, (70, 50)).astype(np.int8),
        np.ones(70, np.float32),
        5,
        "dense",
        codebook,
    )
    tiles = pack_tiles(matrix)
    assert tiles.format == "q8"
    assert_same(unpack_tiles(tiles), matrix)


def test_floats_come_back() -> None:
    weights = np.random.default_rng(2).standard_normal((70, 33)).astype(np.float32)
    np.testing.assert_array_equal(unpack_floats(pack_floats(weights)), weights)


def test_what_a_format_cannot_hold_is_refused() -> None:
    dense, grouped = random_matrix("q8", 20, 20), random_matrix("q4", 20, 20)
    with pytest.raises(ConfigError, match="-7 to 7"):
        pack_tiles(dense, "q4r")
    with pytest.raises(ConfigError, match="no 2:4"):
        pack_tiles(dense, "s24_8")
    with pytest.raises(ConfigError, match="one scale an output"):
        pack_tiles(grouped, "q4r")
    with pytest.raises(ConfigError, match="scales of groups"):
        pack_tiles(random_matrix("q4r", 20, 20), "q4")
    with pytest.raises(ConfigError, match="q9"):
        pack_tiles(dense, "q9")


@pytest.mark.parametrize("format", QUANTISED)
def test_bytes_that_are_no_matrix_are_refused(format: str) -> None:
    tiles = pack_tiles(random_matrix(format, 40, 40), format)
    for data in (tiles.data[:-1], tiles.data + b"\0", b""):
        broken = Tiles(format, 40, 40, data, tiles.scales, tiles.bits, tiles.pattern)
        with pytest.raises(ShapeError, match=format):
            unpack_tiles(broken)
