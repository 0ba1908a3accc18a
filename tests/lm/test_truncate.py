"""Balanced truncation: exact where nothing is dropped, within its guarantees where something is."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError
from solomonic.lm.device_file import read_device_model, write_device_model
from solomonic.lm.native import NativeModel
from solomonic.lm.paths import engine
from solomonic.lm.pretrained import load_pretrained, save_pretrained
from solomonic.lm.probe.signals import recurrent_layers
from solomonic.lm.truncate import LayerCut, TruncateConfig, truncate
from solomonic.realization import Linear, balance, reduce, truncation
from solomonic.text import ByteTokenizer
from tiny import tiny_model, tokens

IDS = tokens(1, 400)[0]


@pytest.fixture(scope="module")
def cuts() -> list[LayerCut]:
    return truncate(tiny_model("MB", ssm_state_size=8), IDS, TruncateConfig(states=4))[1]


def test_nothing_dropped_is_the_same_model() -> None:
    model = tiny_model("MB")
    same, cuts = truncate(model, IDS, TruncateConfig(states=4))
    ids = tokens(2, 20, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(same(ids)[0], model(ids)[0], atol=1e-6, rtol=1e-6)
    assert all(cut.error < 1e-9 * cut.output and cut.bound == 0 for cut in cuts)


def test_what_nothing_drives_is_dropped_for_free() -> None:
    """Half of the state made useless: b is zero there in one layer, c in the other."""
    model = tiny_model("MB", ssm_state_size=8)
    with torch.no_grad():
        for module, first in zip(recurrent_layers(model).values(), (0, 8), strict=True):
            assert module.conv.bias is not None
            row = 2 * module.inner + first
            module.in_proj.weight[row : row + 4] = 0
            module.conv.bias[module.inner + first : module.inner + first + 4] = 0
    small, cuts = truncate(model, IDS)
    ids = tokens(2, 30, seed=5)
    with torch.no_grad():
        torch.testing.assert_close(small(ids)[0], model(ids)[0], atol=1e-5, rtol=1e-4)
    assert [cut.after for cut in cuts] == [4, 4]
    assert small.init_state(1).nbytes < model.init_state(1).nbytes


def test_losses_stay_within_what_is_guaranteed(cuts: list[LayerCut]) -> None:
    for cut in cuts:
        assert 0 < cut.error <= cut.guarantee * (1 + 1e-9)
        assert 0 < cut.frozen_error <= cut.bound * (1 + 1e-9)
        assert cut.error < cut.output
        dropped = sum(cut.singular_values[cut.after :])
        scale = np.sqrt(1 - cut.frozen_decay**2)
        assert cut.bound == pytest.approx(2 * dropped / scale, rel=1e-4)


def test_the_loss_of_a_layer_is_what_it_says(cuts: list[LayerCut]) -> None:
    """The first layer's inputs are the same in both models, so its outputs can be compared."""
    model = tiny_model("MB", ssm_state_size=8)
    small, _ = truncate(model, IDS, TruncateConfig(states=4))
    from solomonic.lm.probe.signals import watch
    from solomonic.lm.truncate import EVERY, _Moments

    outputs: dict[str, list[torch.Tensor]] = {"model": [], "small": []}
    weights: list[torch.Tensor] = []
    half = IDS[200:]
    for name, one in (("model", model), ("small", small)):

        def visit(layer: int, module, drive, name: str = name) -> None:
            if layer:
                return
            for stop, h in drive.states(EVERY):
                outputs[name].append(h @ drive.c[stop - 1])
                if name == "model":
                    weight = _Moments(module).weights(drive.gate[stop - 1])
                    weights.append(weight.view(h.shape[:2]))

        watch(one, half, visit)
    lost = torch.stack(outputs["model"]) - torch.stack(outputs["small"])
    measured = (torch.stack(weights) * lost.square()).sum((1, 2)).mean().sqrt()
    assert float(measured) == pytest.approx(cuts[0].error, rel=1e-6)


def test_the_choice_is_that_of_balanced_reduction() -> None:
    chance = np.random.default_rng(0)
    B, C = chance.standard_normal((6, 3)), chance.standard_normal((2, 6))
    system = Linear(
        0.9 * np.eye(6), np.hstack([B, np.eye(6) * 0.1]), np.vstack([C, 0.1 * np.eye(6)])
    )
    reached = system.B @ system.B.T / (1 - 0.81)
    seen = system.C.T @ system.C / (1 - 0.81)
    change, back, values = truncation(reached, seen, 2)
    small = Linear(change @ system.A @ back, change @ system.B, system.C @ back, system.D)
    expected = reduce(system, 2)
    assert isinstance(expected.system, Linear)
    np.testing.assert_allclose(values, balance(system).singular_values)
    np.testing.assert_allclose(small.markov(5), expected.system.markov(5), atol=1e-12)
    np.testing.assert_allclose(change @ back, np.eye(2), atol=1e-12)


def test_a_truncated_model_is_saved_and_read_by_torch(tmp_path: Path) -> None:
    model = tiny_model("MB").float()
    small, _ = truncate(model, IDS)
    save_pretrained(tmp_path / "small", small, ByteTokenizer())
    again, tokenizer = load_pretrained(tmp_path / "small")
    write_device_model(tmp_path / "small.solo", small, tokenizer, bits=32)
    packed, _ = read_device_model(tmp_path / "small.solo")
    ids = tokens(1, 12)
    with torch.no_grad():
        wanted = small(ids)[0]
        assert torch.equal(again(ids)[0], wanted)
        assert torch.equal(packed(ids)[0], wanted)
    assert again.config.ssm_state_rank == 2
    assert engine(again)[0] == "torch"
    with pytest.raises(ConfigError, match="truncated"):
        NativeModel(again)


def test_device_files_of_other_models_name_no_rank(tmp_path: Path) -> None:
    """Programs that know nothing of ranks go on reading them."""
    write_device_model(tmp_path / "m.solo", tiny_model("MB").float(), ByteTokenizer())
    assert b"ssm_state_rank" not in (tmp_path / "m.solo").read_bytes()


def test_what_cannot_be_cut_is_refused() -> None:
    small, _ = truncate(tiny_model("MB"), IDS)
    for model, config, message in (
        (small, TruncateConfig(), "truncated before"),
        (tiny_model("MB"), TruncateConfig(states=9), "more than the model's 4"),
        (tiny_model("W"), TruncateConfig(), "no selective state-space layer"),
        (tiny_model("BD", transition="delta"), TruncateConfig(), "no selective state-space layer"),
    ):
        with pytest.raises(ConfigError, match=message):
            truncate(model, IDS, config)
    with pytest.raises(ConfigError, match="at least 1"):
        TruncateConfig(states=0)
    config = tiny_model("MB").config
    with pytest.raises(ConfigError, match="ssm_state_rank = 5"):
        dataclasses.replace(config, ssm_state_rank=5)
    with pytest.raises(ConfigError, match="delta rule"):
        dataclasses.replace(config, ssm_state_rank=2, transition="delta")
