"""Compression without training: what the inputs say makes the rounding better."""

import numpy as np
import pytest
import torch

from solomonic.compress.activations import quantise_inputs
from solomonic.compress.calibrate import choose_masks, compress_matrix, compress_weights, watch
from solomonic.compress.config import CompressConfig, Plan
from solomonic.compress.masks import keep_mask
from solomonic.compress.matrix import fits
from solomonic.compress.quantise import Scheme
from solomonic.layers import LSTM, Linear, ModelConfig


def inputs(count: int = 2000, size: int = 96, seed: int = 0) -> torch.Tensor:
    """Vectors whose parts go together, as real activations do."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(size // 3, size, generator=torch.Generator().manual_seed(9))
    own = 0.5 * torch.randn(count, size, generator=generator)
    return torch.randn(count, size // 3, generator=generator) @ common + own


def weights(outputs: int = 48, size: int = 96) -> torch.Tensor:
    return torch.randn(outputs, size, generator=torch.Generator().manual_seed(7))


PLANS = [
    Plan(Scheme(bits=4), "dense", 0.0),
    Plan(Scheme(bits=4, grouped=True), "dense", 0.0),
    Plan(Scheme(bits=5, codebook=True), "dense", 0.0),
    Plan(Scheme(bits=4), "unstructured", 0.5),
    Plan(Scheme(bits=4), "2:4", 0.5),
    Plan(Scheme(bits=4), "vec16", 0.5),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_what_the_inputs_say_makes_outputs_better(plan: Plan) -> None:
    x, weight = inputs(), weights()
    moment = (x.T @ x).double()
    fresh = inputs(count=500, seed=1)
    wanted = fresh @ weight.T

    def error(matrix) -> float:
        found = fresh @ torch.from_numpy(matrix.dequantised()).T
        return float((found - wanted).square().mean() / wanted.square().mean())

    plain, corrected = compress_matrix(weight, plan), compress_matrix(weight, plan, moment)
    assert error(corrected) < 0.7 * error(plain)
    assert fits(corrected.values != 0, plan.pattern)
    assert (corrected.values == 0).mean() >= plan.sparsity - 1e-3
    assert corrected.scales.shape == plain.scales.shape


def test_inputs_that_do_not_go_together_need_no_correction() -> None:
    weight = weights()
    plan = Plan(Scheme(bits=4), "dense", 0.0)
    same = compress_matrix(weight, plan, torch.eye(96, dtype=torch.float64))
    assert np.array_equal(same.levels, compress_matrix(weight, plan).levels)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    x = inputs()
    x[:, 10:20] = 0
    matrix = compress_matrix(weights(), PLANS[3], (x.T @ x).double())
    assert np.isfinite(matrix.dequantised()).all()


def test_masks_can_be_chosen_beforehand() -> None:
    net = torch.nn.Sequential(Linear(96, 48))
    moments = {"0.weight": inputs().T.double() @ inputs().double()}
    config = CompressConfig(sparsity=0.5, pattern="vec16")
    masks = choose_masks(net, config, moments)
    one = compress_weights(net, config, moments)["0.weight"]
    two = compress_weights(net, config, moments, masks)["0.weight"]
    assert np.array_equal(one.levels, two.levels)
    assert masks["0.weight"].float().mean() == 0.5
    assert not torch.equal(masks["0.weight"], choose_masks(net, config)["0.weight"])
    assert choose_masks(net, CompressConfig()) == {}


def test_a_given_mask_is_kept_to() -> None:
    mask = keep_mask(torch.rand(48, 96, generator=torch.Generator().manual_seed(2)), 0.5)
    for moment in (None, inputs().T.double() @ inputs().double()):
        matrix = compress_matrix(weights(), PLANS[3], moment, mask)
        assert not matrix.values[~mask.numpy()].any()


def test_what_matrices_read_is_seen() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = Linear(32, 32)
            self.lstm = LSTM(
                ModelConfig(vocab_size=1, hidden_size=32, num_attention_heads=1, pattern="L")
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(self.linear(x))[0]

    net, x = Net().eval(), torch.randn(3, 9, 32)
    with torch.no_grad(), watch(net) as moments:
        y = net(x)
        net(x)
        middle = net.linear(x).double().flatten(0, 1)
    assert set(moments) == {"linear.weight", "lstm.cell.weight_ih_l0", "lstm.cell.weight_hh_l0"}
    rows = x.double().flatten(0, 1)
    assert torch.allclose(moments["linear.weight"], 3 * rows.T @ rows)
    assert torch.allclose(moments["lstm.cell.weight_ih_l0"], 2 * middle.T @ middle)
    before = y[:, :-1].double().flatten(0, 1)
    assert torch.allclose(moments["lstm.cell.weight_hh_l0"], 2 * before.T @ before)
    found = compress_weights(net, CompressConfig(), moments)
    assert set(found) == set(moments)
    net(x)
    assert torch.allclose(moments["linear.weight"], 3 * rows.T @ rows)  # nobody watches any more
    hooks = quantise_inputs(net, {net.linear, net.lstm.cell})
    with torch.no_grad():
        rounded = net(x)[0]
        assert len(hooks) == 2 and not torch.equal(rounded, y)
        for hook in hooks:
            hook.remove()
        assert torch.equal(net(x), y)
