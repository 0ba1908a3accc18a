"""Neighbour memories are the sum over all that is kept, and their files are whole or refused."""

from pathlib import Path

import numpy as np
import pytest

from solomonic.core import CheckpointError, ConfigError, ShapeError
from solomonic.memory.reader.definition import neighbour_distribution
from solomonic.memory.reader.neighbours import (
    Datastore,
    NeighbourConfig,
    TokenMemory,
    distribution,
)


def filled(count: int, capacity: int, dim: int = 5, seed: int = 0) -> tuple[TokenMemory, list]:
    rng, memory, kept = np.random.default_rng(seed), TokenMemory(dim, capacity), []
    for position in range(count):
        key, token = rng.normal(size=dim).astype(np.float32), int(rng.integers(7))
        memory.add(key, token, 10 + position)
        kept.append((key, token, 10 + position))
    return memory, kept


@pytest.mark.parametrize("count", [1, 37, 300, 700])
def test_the_distribution_is_that_of_the_definition(count: int) -> None:
    memory, kept = filled(count, 400)
    kept = kept[-400:]
    query = np.random.default_rng(9).normal(size=5).astype(np.float32)
    omega = -0.01 * np.arange(len(memory))[::-1]
    order = {position: i for i, position in enumerate(memory.positions.tolist())}
    weights = [omega[order[position]] for _, _, position in kept]
    wanted = neighbour_distribution(
        np.array([key for key, _, _ in kept]), [t for _, t, _ in kept], weights, query, 0.7, 7
    )
    found = memory.search(query, omega)
    np.testing.assert_allclose(distribution(found, 0.7, 7), wanted, atol=1e-6)
    assert sorted(found.positions.tolist()) == [position for _, _, position in kept]


def test_a_ring_forgets_the_oldest_and_a_copy_goes_its_own_way() -> None:
    memory, _ = filled(10, 8)
    assert sorted(memory.positions.tolist()) == list(range(12, 20))
    other = memory.copy()
    other.add(np.ones(5, dtype=np.float32), 1, 99)
    assert 99 not in memory.positions and 99 in other.positions
    fresh = TokenMemory(5, 8)
    fresh.load_arrays(memory.to_arrays())
    query = np.ones(5, dtype=np.float32)
    for mine, theirs in zip(memory.search(query), fresh.search(query), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    fresh.add(query, 2, 50)
    memory.add(query, 2, 50)
    np.testing.assert_array_equal(fresh.positions, memory.positions)
    with pytest.raises(ShapeError, match="do not fit"):
        TokenMemory(5, 4).load_arrays(memory.to_arrays())


def test_inverted_lists_find_what_a_scan_finds() -> None:
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(20, 8)) * 4
    keys = (centres[rng.integers(0, 20, 4000)] + rng.normal(size=(4000, 8))).astype(np.float16)
    tokens = rng.integers(0, 50, 4000)
    exact, fast = Datastore(keys, tokens, 16), Datastore(keys, tokens, 16, lists=20, probes=6)
    hits = 0
    for key in keys[:100].astype(np.float32):
        a, b = exact.search(key), fast.search(key)
        hits += len(set(a.positions.tolist()) & set(b.positions.tolist()))
        assert (a.tokens == tokens[a.positions]).all()
    assert hits >= 0.95 * 1600


def test_a_datastore_comes_back_and_a_cut_one_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    store = Datastore(rng.normal(size=(50, 4)).astype(np.float16), rng.integers(0, 9, 50), 5)
    store.save(tmp_path / "keys.npz")
    again = Datastore.load(tmp_path / "keys.npz", 5)
    query = rng.normal(size=4).astype(np.float32)
    for mine, theirs in zip(store.search(query), again.search(query), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    whole = (tmp_path / "keys.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:200])
    for name in ("cut.npz", "absent.npz"):
        with pytest.raises(CheckpointError, match=r"\.npz is no datastore"):
            Datastore.load(tmp_path / name)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"this memory's keys are \(5,\)"):
        TokenMemory(5, 8).add(np.ones(4, dtype=np.float32), 1, 0)
    with pytest.raises(ShapeError, match="with n > 0"):
        Datastore(np.zeros((0, 4)), np.zeros(0))
    with pytest.raises(ConfigError, match="capacity = 0"):
        NeighbourConfig(capacity=0)
    with pytest.raises(ConfigError, match="sharpness"):
        NeighbourConfig(sharpness=(-1.0,))
