"""Grids, centroids, 8-bit inputs: rounding is what the kernels do and nothing else."""

import numpy as np
import pytest
import torch

from solomonic.compress.activations import activation_levels, fake_activations, product
from solomonic.compress.codebook import fit_codebook
from solomonic.compress.files import read_matrices, write_matrices
from solomonic.compress.matrix import LARGEST
from solomonic.compress.quantise import Grid, Scheme, fit_grid, quantise
from solomonic.core import CheckpointError, ConfigError

SCHEMES = [
    *(Scheme(bits=bits) for bits in LARGEST),
    Scheme(bits=4, grouped=True),
    Scheme(bits=5, codebook=True),
    Scheme(bits=4, clip="max"),
    Scheme(bits=6, clip="percentile"),
]


def weights(outputs: int = 24, inputs: int = 150, seed: int = 0) -> torch.Tensor:
    """Gaussian rows of different sizes, some weights zero."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(outputs, inputs, generator=generator)
    rows *= torch.rand(outputs, 1, generator=generator) + 0.05
    return rows.masked_fill(torch.rand(outputs, inputs, generator=generator) < 0.2, 0.0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_rounding_twice_is_rounding_once(scheme: Scheme) -> None:
    weight = weights()
    grid = fit_grid(weight, scheme)
    once = grid.nearest(weight)
    assert torch.equal(grid.levels(once), grid.levels(weight))
    assert torch.equal(grid.nearest(once), once)
    assert not torch.equal(once, weight)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_zeros_stay_zeros_and_the_object_means_the_same_weights(scheme: Scheme) -> None:
    weight = weights()
    weight[3] = 0.0
    matrix = quantise(weight, scheme, "unstructured")
    kept = weight.numpy() != 0
    assert not matrix.values[~kept].any()
    assert np.array_equal(matrix.dequantised(), fit_grid(weight, scheme).nearest(weight).numpy())
    assert matrix.grouped == scheme.grouped


def test_group_scales_are_bfloat16() -> None:
    scales = torch.from_numpy(quantise(weights(), Scheme(grouped=True)).scales)
    assert scales.shape == (24, 3)
    assert torch.equal(scales.bfloat16().float(), scales)


def test_nearest_is_the_nearest_of_all_values() -> None:
    weight = weights(4, 30)
    for scheme in (Scheme(bits=4), Scheme(bits=5, codebook=True)):
        grid = fit_grid(weight, scheme)
        count = 32 if scheme.codebook else 15
        book = grid.codebook if grid.codebook is not None else torch.arange(count) - 7
        every = book.float()[None] * grid.scales[:, None]
        best = (weight[:, :, None] - every[:, None]).abs().amin(2)
        assert torch.allclose((grid.nearest(weight) - weight).abs(), best, atol=1e-6)


def test_least_squares_beats_the_largest_weight_and_finer_grids_beat_coarser() -> None:
    weight = weights(inputs=256)
    weight[:, 0] *= 6  # outliers

    def error(**settings: object) -> float:
        matrix = quantise(weight, Scheme(**settings))  # type: ignore[arg-type]
        return float(((torch.from_numpy(matrix.dequantised()) - weight) ** 2).mean())

    assert error(bits=4) < 0.8 * error(bits=4, clip="max")
    assert error(bits=4, grouped=True) < error(bits=4)
    assert error(bits=8) < error(bits=6) < error(bits=5) < error(bits=4)
    assert error(bits=5, codebook=True) < error(bits=5, clip="max")


def test_centroids_are_means_of_what_is_nearest() -> None:
    weight = weights(64, 400, seed=3)
    scales, book = fit_codebook(weight)
    values = book.tolist()
    assert values == sorted(set(values)) and 0 in values and len(values) == 32
    units = (weight / scales[:, None]).round()
    cost = (scales**2)[:, None].expand_as(units)
    nearest = Grid(5, scales, book).levels(units * scales[:, None]).long()
    for index, centre in enumerate(values):
        where = (nearest == index) & (units != 0)
        if centre and where.any():
            mean = float((units[where] * cost[where]).sum() / cost[where].sum())
            assert abs(mean - centre) <= 2.0


def test_a_codebook_of_few_values_is_filled_up() -> None:
    weight = torch.tensor([[1.0, -1.0, 0.5, 0.0]])
    matrix = quantise(weight, Scheme(bits=5, codebook=True))
    assert np.allclose(matrix.dequantised(), weight, atol=0.01)


def test_inputs_are_rounded_half_to_even_by_their_largest() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, -2.5, 126.4], [0.0, 0.0, 0.0, 0.0, 0.0]])
    levels, scale = activation_levels(x)
    assert levels.tolist() == [[127, 0, 2, -2, 126], [0, 0, 0, 0, 0]]
    assert scale[:, 0].tolist() == [1.0, 0.0]
    x = torch.randn(5, 40, requires_grad=True)
    fake_activations(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", [Scheme(bits=4), Scheme(bits=8), Scheme(bits=5, codebook=True)])
def test_the_product_of_integers_is_the_product_of_fakes_exactly(scheme: Scheme) -> None:
    x = torch.randn(7, 150, generator=torch.Generator().manual_seed(1))
    matrix = quantise(weights(), scheme, "unstructured")
    levels, scale = activation_levels(x)
    integers = levels.numpy().astype(np.int32) @ matrix.values.astype(np.int32).T
    expected = integers.astype(np.float32) * (scale.numpy() * matrix.scales)
    assert np.array_equal(product(x, matrix).numpy(), expected)
    # The same in floats, as training computes it, where every factor is exact in float64.
    fake = fake_activations(x).double() @ torch.from_numpy(matrix.dequantised()).double().T
    assert torch.allclose(product(x, matrix).double(), fake, rtol=1e-4, atol=1e-5)


def test_group_scales_multiply_their_own_sums() -> None:
    x = torch.randn(3, 150, generator=torch.Generator().manual_seed(1))
    matrix = quantise(weights(), Scheme(grouped=True), "unstructured")
    fake = fake_activations(x).double() @ torch.from_numpy(matrix.dequantised()).double().T
    assert torch.allclose(product(x, matrix).double(), fake, rtol=1e-4, atol=1e-5)


def test_files_come_back_as_they_were(tmp_path) -> None:
    stored = {
        "a.weight": quantise(weights(), Scheme(bits=5, codebook=True)),
        "b.weight": quantise(weights(), Scheme(grouped=True)),
    }
    write_matrices(tmp_path / "m.safetensors", stored)
    again = read_matrices(tmp_path / "m.safetensors")
    assert list(again) == list(stored)
    for name, matrix in stored.items():
        assert np.array_equal(again[name].dequantised(), matrix.dequantised())
        assert (again[name].bits, again[name].pattern) == (matrix.bits, matrix.pattern)
    data = (tmp_path / "m.safetensors").read_bytes()
    for cut in (0, 5, len(data) // 2, len(data) - 1):
        (tmp_path / "m.safetensors").write_bytes(data[:cut])
        with pytest.raises(CheckpointError, match="compress again"):
            read_matrices(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 3}, "bits = 3 is unknown"),
        ({"clip": "hope"}, "use one of squares, percentile, max"),
        ({"codebook": True}, "takes bits = 5"),
        ({"bits": 5, "codebook": True, "grouped": True}, "a scale a row"),
    ],
)
def test_impossible_schemes_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scheme(**settings)
