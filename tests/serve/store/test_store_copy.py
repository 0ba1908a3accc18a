"""Moving everything from one store to another."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from solomonic.core import DataError
from solomonic.serve.store import Store, StoreConfig, Utterance, copy_store, open_store
from solomonic.serve.store import copying as copying_module
from solomonic.serve.store.sql import SqlStore


def fill(store: Store, state) -> None:
    for user in range(5):
        for turn in range(4):
            store.commit(f"user {user}", Utterance(f"{turn}", "h", 50.0 + turn, "phone"))
        if user % 2:
            store.set_phrases(f"user {user}", ["a", "b"])
            store.commit(f"user {user}", Utterance("s"), state=state(user), fingerprint="model-a")
            store.commit(f"user {user}", Utterance("after"))
    store.add_key(b"a" * 32, "one", "user 1", {"max_streams": 2})
    store.add_key(b"b" * 32, "two")


@pytest.fixture
def opened() -> Iterator[Callable[..., SqlStore]]:
    """`open_store`; what it opens is closed."""
    stores: list[SqlStore] = []

    def open_(*arguments: Any) -> SqlStore:
        stores.append(open_store(*arguments))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def contents(store: Store) -> tuple:
    memories = [store.memory(user) for user in store.users()]
    revisions = [[u.revision for u in memory.utterances] for memory in memories]
    return memories, revisions, store.keys(), store.usage()


def test_everything_is_copied_and_again_is_nothing(
    store: Store, tmp_path: Path, state, opened
) -> None:
    source = opened(tmp_path / "source.db")
    fill(source, state)
    assert copy_store(source, store) == {"users": 5, "keys": 2, "present": 0}
    assert contents(store) == contents(source)
    assert copy_store(source, store) == {"users": 0, "keys": 0, "present": 7}
    assert store.commit("user 1", Utterance("next")) == source.memory("user 1").revision + 1


def test_back_into_a_file(store: Store, tmp_path: Path, state, opened) -> None:
    fill(store, state)
    target = opened(tmp_path / "target.db")
    copy_store(store, target)
    assert contents(target) == contents(store)
    target.close()
    target = opened(tmp_path / "target.db")
    assert contents(target) == contents(store)
    target.close()


def test_a_copy_that_broke_off_is_run_again(
    tmp_path: Path, state, opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = opened(None), opened(tmp_path / "target.db")
    fill(source, state)
    copy, calls = copying_module._copy_user, []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return copy(*arguments)

    monkeypatch.setattr(copying_module, "_copy_user", broken)
    with pytest.raises(KeyboardInterrupt):
        copy_store(source, target)
    assert len(target.users()) == 2
    assert copy_store(source, target) == {"users": 3, "keys": 2, "present": 2}
    assert contents(target) == contents(source)


def test_long_histories_are_copied_whole(tmp_path: Path, opened) -> None:
    source = opened(None)
    for turn in range(1203):  # more than `memory` gives unasked
        source.commit("ana", Utterance(f"{turn}", time=1.0))
    target = opened(tmp_path / "t.db", StoreConfig(max_utterances=10))
    copy_store(source, target)
    assert target.memory("ana", last=None) == source.memory("ana", last=None)
    assert len(target.memory("ana", last=None).utterances) == 1203


def test_other_records_of_the_same_name_are_not_touched(state, opened) -> None:
    source, target = opened(None), opened(None)
    fill(source, state)
    target.commit("user 1", Utterance("another"))
    before = target.memory("user 1")
    with pytest.raises(DataError, match="another record of a user"):
        copy_store(source, target)
    assert target.memory("user 1") == before
    target.delete_user("user 1")
    target.add_key(b"c" * 32, "one")
    with pytest.raises(DataError, match="another key 'one'"):
        copy_store(source, target)
