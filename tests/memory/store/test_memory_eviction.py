"""A budget of bytes: copies become one, then what counts least goes, and nothing else ever does."""

from pathlib import Path

import numpy as np
import pytest

from solomonic.core import ConfigError
from solomonic.memory import Memory, NewItem
from solomonic.memory.forgetting import ExponentialDecay

DIM = 64


def fill(memory: Memory, count: int = 1500) -> None:
    keys = np.random.default_rng(0).normal(size=(count, DIM))
    memory.write_many(
        NewItem(text=f"item{n} " + f"word{n % 97} " * 20, vector=keys[n]) for n in range(count)
    )


def test_nothing_goes_while_it_fits(path: Path) -> None:
    with Memory.open(path) as memory:
        fill(memory, 200)
        memory.write_many([NewItem(text="copy"), NewItem(text="copy")])
        done = memory.compact(100_000_000)
        assert (done.consolidated, done.evicted, done.items) == (0, (), 202)
        assert memory.compact().items == 202


@pytest.mark.parametrize("where", ["path", "database"])
def test_a_budget_is_kept_and_not_by_far(where: str, request: pytest.FixtureRequest) -> None:
    with Memory.open(request.getfixturevalue(where)) as memory:
        fill(memory)
        budget = memory.compact().after * 2 // 3
        done = memory.compact(budget)
        assert 0.85 * budget < done.after <= budget
        assert done.items == len(memory) == 1500 - len(done.evicted)
        # All count alike, so the oldest went.
        assert sorted(done.evicted) == list(range(1, len(done.evicted) + 1))
        assert memory.verify().ok
        assert memory.search("item3") == []
        if where == "path":
            path = request.getfixturevalue("path")
            assert path.stat().st_size <= budget


def test_what_counts_least_goes_first(path: Path) -> None:
    """The weight halves five times from the first third to the last, but use outweighs that."""
    with Memory.open(path, forgetting=ExponentialDecay(10.0)) as memory:
        for third in range(3):
            keys = np.random.default_rng(third).normal(size=(300, DIM))
            memory.write_many(
                NewItem(text=f"item{third}x{n} " * 30, vector=keys[n]) for n in range(300)
            )
            for _ in range(10):
                memory.observe(1.0)
        for _ in range(20):
            memory.search("item0x7", 1)
        memory.write_many(NewItem(text="trusted less", log_weight=-9.0) for _ in range(1))
        weights = dict(zip((i.id for i in memory.items()), memory.weights(), strict=True))
        hits = {item.id: item.hits for item in memory.items()}
        done = memory.compact(memory.compact().after * 3 // 4)
        assert 8 not in done.evicted  # item0x7: weight 1/8, used twenty times
        assert 901 in done.evicted
        gone = set(done.evicted)
        worth = {n: weights[n] * (1 + (20 if n == 8 else hits[n])) for n in weights}
        assert max(worth[n] for n in gone) <= min(worth[n] for n in weights if n not in gone) + 1e-9


def test_copies_become_one_that_knows_their_places(path: Path) -> None:
    with Memory.open(path) as memory:
        key = np.ones(DIM)
        for n in range(4):
            memory.write("the same", vector=key, source=f"s{n}", offset=n, time=float(n))
        memory.write("the same", vector=-key)  # another key: another thing
        memory.write("the same", vector=key, valid=(1.0, 2.0))
        memory.write("the same", vector=key, kind="other")
        assert len(memory.search("the same", 10)) == 7
        fill(memory, 300)
        done = memory.compact(memory.compact().after - 5000)
        assert done.consolidated == 3
        one = memory.get(4)
        assert one.hits == 4 and one.source == "s3"
        assert one.meta["also"] == [["s2", 2, 2.0], ["s1", 1, 1.0], ["s0", 0, 0.0]]
        assert memory.verify().ok


def test_a_budget_that_cannot_be_kept(path: Path) -> None:
    with Memory.open(path) as memory:
        fill(memory, 10)
        for budget in (-1, 0, 1000, 99_999):
            with pytest.raises(ConfigError, match=f"a budget of {budget} bytes is hardly more"):
                memory.compact(budget)
        assert len(memory) == 10


def test_what_was_forgotten_leaves_no_bytes_after_compaction(path: Path) -> None:
    with Memory.open(path) as memory:
        fill(memory, 300)
        secret = memory.write("mymostsecretword stands here", vector=np.full(DIM, 3.25))
        memory._index.save_now()  # pyright: ignore
        memory.forget(secret)
        memory.compact()
        pattern = np.full(DIM, 3.25, dtype="<f2").tobytes()
        for file in path.parent.iterdir():
            data = file.read_bytes()
            assert b"mymostsecret" not in data and pattern not in data, file
        assert memory.verify().ok
