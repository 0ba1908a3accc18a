"""Deltas: they come off bit for bit, in any order, and belong to one model."""

from pathlib import Path

import pytest
import torch

from solomonic.core import CheckpointError, ConfigError
from solomonic.lm.adapt import AdaptConfig, Delta, adapt, applied, base_fingerprint
from solomonic.lm.adapt.config import PARAMETERS
from solomonic.lm.model import LanguageModel
from tiny import tiny_model, tokens


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def learned(model: LanguageModel, seed: int = 2, **settings: object) -> Delta:
    config = AdaptConfig(segment=16, rate=0.01, **settings)  # type: ignore[arg-type]
    delta = adapt(model, tokens(40, seed=seed), config=config).delta
    assert delta is not None
    return delta


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_a_delta_comes_off_bit_for_bit(parameters: str, dtype: torch.dtype) -> None:
    model = tiny_model("MB").to(dtype)
    before = weights(model)
    delta = learned(model, parameters=parameters)
    assert equal(weights(model), before)
    delta.apply(model)
    changed = weights(model)
    assert not equal(changed, before)
    delta.drop(model)
    assert equal(weights(model), before)
    delta.apply(model)
    assert equal(weights(model), changed)


def test_dropping_one_of_two_leaves_exactly_the_other() -> None:
    model = tiny_model("MB")
    one, two = learned(model, seed=2), learned(model, seed=3, parameters="last")
    one.apply(model)
    alone_one = weights(model)
    two.apply(model)
    both = weights(model)
    assert [d.identity for d in applied(model)] == [one.identity, two.identity]
    one.drop(model)
    alone_two = weights(model)
    two.drop(model)
    two.apply(model)
    assert equal(weights(model), alone_two)
    two.drop(model)
    one.apply(model)
    assert equal(weights(model), alone_one)
    two.apply(model)
    assert equal(weights(model), both)


def test_a_model_with_deltas_is_still_known(tmp_path: Path) -> None:
    model = tiny_model("MB")
    mark = model.fingerprint()
    with learned(model).applied_to(model):
        assert model.fingerprint() != mark
        assert base_fingerprint(model) == mark
        assert model.fingerprint() != mark
    assert model.fingerprint() == mark


def test_a_delta_is_learned_on_top_of_another(tmp_path: Path) -> None:
    model = tiny_model("MB")
    first = learned(model)
    with first.applied_to(model):
        second = learned(model, seed=3)
        assert second.over == (first.identity,)
        assert second.fingerprint == base_fingerprint(model)
        with second.applied_to(model):
            both = weights(model)
            with pytest.raises(ConfigError, match="drop that first"):
                first.drop(model)
    with pytest.raises(ConfigError, match="on top of another"):
        second.apply(model)
    first.apply(model)
    second.apply(model)
    assert equal(weights(model), both)


@pytest.mark.parametrize("parameters", ["all", "low_rank"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_file_gives_back_the_same_weights(tmp_path: Path, parameters: str, stored: str) -> None:
    model = tiny_model("MB").float()
    delta = learned(model, parameters=parameters, stored=stored)
    delta.save(tmp_path / "d")
    found = Delta.load(tmp_path / "d")
    assert found.identity == delta.identity
    assert (found.over, dict(found.notes)) == (delta.over, dict(delta.notes))
    with delta.applied_to(model):
        expected = weights(model)
    with found.applied_to(model):
        assert equal(weights(model), expected)
    small = learned(model, parameters="low_rank", stored=stored)
    assert small.nbytes < learned(model, stored=stored).nbytes / 2


def test_another_model_refuses_it(tmp_path: Path) -> None:
    model, other = tiny_model("MB"), tiny_model("MB", seed=1)
    delta = learned(model)
    before = weights(other)
    with pytest.raises(CheckpointError, match="another model"):
        delta.apply(other)
    assert equal(weights(other), before)
    assert applied(other) == ()


def test_twice_or_never_applied_is_said(tmp_path: Path) -> None:
    model = tiny_model("MB")
    delta = learned(model)
    with pytest.raises(ConfigError, match="not applied"):
        delta.drop(model)
    delta.apply(model)
    with pytest.raises(ConfigError, match="already"):
        delta.apply(model)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    model = tiny_model("B")
    learned(model).save(tmp_path / "d")
    whole = (tmp_path / "d").read_bytes()
    for place in range(3, len(whole), len(whole) // 20):
        (tmp_path / "d").write_bytes(whole[:place])
        with pytest.raises(CheckpointError, match=f"delta file .* byte {place}"):
            Delta.load(tmp_path / "d")
        (tmp_path / "d").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError):
            Delta.load(tmp_path / "d")


def test_weights_come_back_after_an_error() -> None:
    model = tiny_model("MB")
    before = weights(model)
    delta = learned(model)
    with pytest.raises(RuntimeError), delta.applied_to(model):
        raise RuntimeError
    assert equal(weights(model), before)
