"""States of forgettings: bit-exact, bounded, refused when damaged or foreign; no pickle."""

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import solomonic.memory.forgetting as package
from solomonic.core import CheckpointError
from solomonic.memory.forgetting import (
    ChangePoints,
    ChangePointsConfig,
    ExponentialDecay,
    Forgetting,
    NoForgetting,
    SymbolChangePoints,
    SymbolChangePointsConfig,
    restore,
)

MAKERS: dict[str, Callable[[], Forgetting]] = {
    "none": NoForgetting,
    "exponential": lambda: ExponentialDecay(30),
    "losses": lambda: ChangePoints(ChangePointsConfig(every=3, runs=24)),
    "vectors": lambda: ChangePoints(ChangePointsConfig(width=2, regimes=3, runs=24)),
    "symbols": lambda: SymbolChangePoints(
        SymbolChangePointsConfig(alphabet=3, regimes=3, runs=24, pooled=1.5)
    ),
}
every = pytest.mark.parametrize("name", MAKERS)


def stream(name: str, length: int) -> list:
    """Values with a change every 90."""
    chance = np.random.default_rng(7)
    shift = 4 * ((np.arange(length) // 90) % 2)
    if name == "symbols":
        return ((chance.random(length) < 0.15) + shift // 4).tolist()
    if name == "vectors":
        return list(chance.normal(3, 1, (length, 2)) + shift[:, None])
    return (chance.normal(3, 1, length) + shift).tolist()


@every
def test_a_state_goes_on_to_the_last_bit(name: str) -> None:
    values = stream(name, 500)
    one = MAKERS[name]()
    for value in values[:301]:
        one.observe(value)
    data = one.to_bytes()
    same, other = type(one).from_bytes(data), restore(data)
    assert type(other) is type(one)
    for value in values[301:]:
        for each in (one, same, other):
            each.observe(value)
    steps = np.arange(one.step + 1)
    assert one.step == same.step == other.step
    assert (one.survival(steps) == same.survival(steps)).all()
    assert (one.survival(steps) == other.survival(steps)).all()
    assert one.changes() == same.changes() == other.changes()
    assert one.to_bytes() == other.to_bytes()


@every
def test_cut_damaged_newer_and_foreign_states_are_refused(name: str) -> None:
    one = MAKERS[name]()
    for value in stream(name, 20):
        one.observe(value)
    data = one.to_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for bad in (b"", data[:3], data[:11], data[: len(data) // 2], data[:-1], bytes(flipped)):
        with pytest.raises(CheckpointError, match="cut short|damaged"):
            restore(bad)
    with pytest.raises(CheckpointError, match="update solomonic"):
        restore(data[:4] + b"\x63" + data[5:])
    foreign = NoForgetting if name != "none" else ExponentialDecay
    with pytest.raises(CheckpointError, match="forgetting"):
        foreign.from_bytes(data)


def test_a_predictor_refuses_the_state_of_other_settings() -> None:
    one = SymbolChangePoints(SymbolChangePointsConfig(alphabet=3))
    other = SymbolChangePoints(SymbolChangePointsConfig(alphabet=3, alpha=0.25))
    with pytest.raises(CheckpointError, match="alpha"):
        other.load(one.state())


def test_memory_is_bounded() -> None:
    """A state after 12,000 symbols with 120 changes is hardly larger than after 3,000."""
    config = SymbolChangePointsConfig(
        alphabet=2, order=0, regimes=4, runs=32, most_changes=8, hazards=(0.01,)
    )
    one, chance = SymbolChangePoints(config), np.random.default_rng(0)
    sizes = []
    for part in range(4):
        for t in range(3000):
            odds = 0.1 + 0.8 * ((t // 100) % 2)
            one.update(int(chance.random() < odds))
        sizes.append(len(one.to_bytes()))
        assert len(one.changes()) <= 9, part
    # Rows of the posterior, counts, and at most 8 remembered segments.
    assert max(sizes) < 12_000
    assert len(one.changes()) == 9


def test_no_pickle() -> None:
    folder = Path(package.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not {"pickle", "dill", "marshal", "shelve"} & set(names), path
            keywords = {word.arg for word in getattr(node, "keywords", [])}
            assert "allow_pickle" not in keywords, path
