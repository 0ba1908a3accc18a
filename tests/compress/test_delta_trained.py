"""Updates trained under a budget of bytes: they learn, they fit, and they leave alone what is
frozen."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from delta_support import matrix, pack
from solomonic.compress.delta import apply_update, diff
from solomonic.compress.delta.rules import Rule, movable, places
from solomonic.compress.delta.trained import KINDS, TrainedUpdate, UpdateConfig, train_update
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import Pack, build_pack
from solomonic.core import ConfigError

INPUTS, HIDDEN, OUTPUTS = 96, 64, 48
BUCKETS = 533  # of a hash under a budget of 900 bytes


class Toy:
    """A two-layer network that should do what another one does, a `Task`.

    The other one differs by what the kind of update can say: a few weights, or all of them by a
    hash or a low-rank product.
    """

    model: nn.Module

    def __init__(self, base: dict[str, QuantisedMatrix], kind: str) -> None:
        rng = torch.Generator().manual_seed(0)
        self.model = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, OUTPUTS))
        wanted = {name: torch.from_numpy(m.dequantised()) for name, m in base.items()}
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(wanted.get(name, torch.zeros_like(parameter)))
        first = wanted["0.weight"].clone()
        step = float(np.mean(base["0.weight"].scales))
        if kind == "mask":
            few = torch.rand(first.shape, generator=rng) < 0.02
            first += 4 * step * few * torch.from_numpy(movable(base["0.weight"]))
        elif kind == "hash":
            buckets, signs = places((HIDDEN, INPUTS), BUCKETS, seed=0)
            numbers = 3 * torch.randn(BUCKETS, generator=rng)
            first += step * numbers[torch.from_numpy(buckets)] * torch.from_numpy(signs)
        else:
            left = torch.randn(HIDDEN, 1, generator=rng)
            first += 2 * step * left @ torch.randn(INPUTS, 1, generator=rng).T
        self._wanted = first, wanted["2.weight"]

    def batches(self, position: Mapping[str, Any] | None) -> Iterator[tuple[Any, dict[str, Any]]]:
        rng = torch.Generator().manual_seed(1)
        while True:
            yield torch.randn(64, INPUTS, generator=rng) * 0.1, {}

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        first, second = self._wanted
        wanted = torch.tanh(batch @ first.T) @ second.T
        return ((self.model(batch) - wanted) ** 2).mean(), {}

    def evaluate(self) -> dict[str, float]:
        rng = torch.Generator().manual_seed(2)
        with torch.no_grad():
            loss, _ = self.loss(torch.randn(512, INPUTS, generator=rng) * 0.1)
        return {"loss": float(loss)}

    def parameter_groups(self) -> dict[str, list[str]]:
        return {}

    def save(self, directory: str) -> None:
        pass


def network(pattern: str, bits: int = 8) -> dict[str, QuantisedMatrix]:
    rng = np.random.default_rng(0)
    shapes = {"0.weight": (HIDDEN, INPUTS), "2.weight": (OUTPUTS, HIDDEN)}
    found = {name: matrix(rng, shape, bits, pattern) for name, shape in shapes.items()}
    return {
        name: dataclasses.replace(m, scales=(m.scales / 60).astype(np.float32))
        for name, m in found.items()
    }


def _pack(matrices: Mapping[str, QuantisedMatrix]) -> Pack:
    return dataclasses.replace(pack(), tensors=dict(matrices))


def learn(
    pattern: str, kind: str, budget: int, **changes: Any
) -> tuple[Toy, dict[str, QuantisedMatrix], TrainedUpdate, float]:
    base = network(pattern)
    task = Toy(base, kind)
    before = task.evaluate()["loss"]
    old = build_pack(_pack(base))

    def measure(matrices: Mapping[str, QuantisedMatrix], rules: Mapping[str, Rule]) -> int:
        return len(diff(old, build_pack(_pack({**base, **matrices})), rules).data)

    config = UpdateConfig(kind=kind, steps=240, lr=0.0006, **changes)
    return task, base, train_update(task, base, budget, measure, config), before


@pytest.mark.parametrize("pattern", ["dense", "2:4", "vec16"])
def test_few_levels_learn_what_changed(pattern: str) -> None:
    task, base, update, before = learn(pattern, "mask", budget=700)
    assert update.bytes <= 700
    assert task.evaluate()["loss"] < 0.4 * before
    for name, old in base.items():
        new = update.matrices[name]
        assert np.array_equal(new.scales, old.scales)
        assert not (new.levels != old.levels)[~movable(old)].any()
        assert new.pattern == pattern
        held = dict(task.model.named_parameters())[name].detach().numpy()
        assert np.array_equal(held, new.dequantised())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_lowers_the_loss_within_its_budget(kind: str) -> None:
    task, base, update, before = learn("dense", kind, budget=900)
    assert task.evaluate()["loss"] < 0.4 * before
    new = build_pack(_pack(update.matrices))
    old = build_pack(_pack(base))
    found = diff(old, new, update.rules)
    assert len(found.data) == update.bytes <= 900
    assert apply_update(old, found.data) == new
    assert bool(update.rules) == (kind != "mask")


def test_biases_stay() -> None:
    task, _, _, _ = learn("dense", "mask", budget=700)
    assert not any(p.any() for name, p in task.model.named_parameters() if name.endswith("bias"))


def test_too_few_bytes_learn_less() -> None:
    losses = [learn("dense", "mask", budget)[0].evaluate()["loss"] for budget in (260, 700)]
    assert losses[1] < 0.5 * losses[0]


def test_equal_seeds_give_equal_updates() -> None:
    first, second = (learn("dense", "low-rank", budget=900)[2] for _ in range(2))
    for name in first.matrices:
        assert np.array_equal(first.matrices[name].levels, second.matrices[name].levels)


def test_what_cannot_be_trained_is_refused() -> None:
    base = network("dense")
    task = Toy(base, "mask")
    with pytest.raises(ConfigError, match=r"'3.weight' of shape \(48, 64\) is no parameter"):
        train_update(task, {"3.weight": base["2.weight"]}, 900, lambda *_: 1)
    with pytest.raises(ConfigError, match="a budget of 10 bytes is too small for a hash"):
        train_update(task, base, 10, lambda *_: 1, UpdateConfig(kind="hash"))
    with pytest.raises(ConfigError, match="takes 5000 bytes and 900 are allowed"):
        train_update(task, base, 900, lambda *_: 5000, UpdateConfig(steps=4))
    with pytest.raises(ConfigError, match="kind = 'tiny' is unknown"):
        UpdateConfig(kind="tiny")
