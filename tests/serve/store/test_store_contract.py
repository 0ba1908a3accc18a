"""What every store does, whatever keeps it."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from solomonic.core import DataError, StorageError
from solomonic.serve.store import Store, StoreConfig, UserMemory, UserUsage, Utterance, open_store


def said(count: int) -> list[Utterance]:
    return [Utterance(f"sentence {index}", f"sentence {index}?", 100.0 + index, "phone")
            for index in range(count)]  # fmt: skip


def test_an_unknown_user_has_an_empty_record_and_asking_creates_none(store: Store) -> None:
    assert store.memory("ana") == UserMemory("ana")
    assert store.memory("ana").revision == 0
    assert store.users() == []


def test_what_was_committed_is_remembered(store: Store, state) -> None:
    first, second = Utterance("call siobhan", "call sue von", 7.5, "watch"), Utterance("hang up")
    assert store.commit("ana", first, state=state(1), fingerprint="model-a") == 1
    assert store.commit("ana", second, state=state(2), fingerprint="model-a") == 2
    memory = store.memory("ana")
    assert memory.revision == memory.state_revision == 2
    assert memory.utterances[0] == first
    assert [u.text for u in memory.utterances] == ["call siobhan", "hang up"]
    assert [u.revision for u in memory.utterances] == [1, 2]
    assert memory.utterances[1].time > 1e9  # 0 is now
    assert (memory.state, memory.fingerprint) == (state(2), "model-a")


def test_a_commit_without_a_state_keeps_the_one_before_and_says_how_far_it_read(
    store: Store, state
) -> None:
    store.commit("ana", Utterance("one"), state=state(1), fingerprint="model-a")
    store.commit("ana", Utterance("two"))
    memory = store.memory("ana")
    assert (memory.state, memory.state_revision, memory.revision) == (state(1), 1, 2)
    unread = [u.text for u in memory.utterances if u.revision > memory.state_revision]
    assert unread == ["two"]


def test_the_state_of_another_model_comes_as_it_is_with_its_fingerprint(
    store: Store, state
) -> None:
    store.commit("ana", Utterance("a"), state=state(1, fingerprint="a"), fingerprint="a")
    store.commit("ana", Utterance("b"), state=state(2, fingerprint="b"), fingerprint="b")
    memory = store.memory("ana")
    assert (memory.state, memory.fingerprint) == (state(2, fingerprint="b"), "b")
    with pytest.raises(DataError, match="another model"):
        store.commit("ana", Utterance("c"), state=state(3, fingerprint="a"), fingerprint="b")
    assert store.memory("ana") == memory


def test_the_last_utterances_come_oldest_first(store: Store) -> None:
    for utterance in said(5):
        store.commit("ana", utterance)
    assert store.memory("ana", last=2).utterances == tuple(said(5)[-2:])
    assert store.memory("ana", last=0).utterances == ()
    assert store.memory("ana", last=99).utterances == tuple(said(5))


def test_a_state_can_be_left_out(store: Store, state) -> None:
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    memory = store.memory("ana", state=False)
    assert (memory.state, memory.fingerprint, len(memory.utterances)) == (None, "", 1)


def test_personal_words_replace_each_other_and_change_the_revision(store: Store) -> None:
    store.set_phrases("ana", ["Siobhan", "kettle :2.5", "日本"])
    assert store.memory("ana").phrases == ("Siobhan", "kettle :2.5", "日本")
    store.set_phrases("ana", ["b"])
    assert store.memory("ana").phrases == ("b",)
    assert store.memory("ana").revision == 2
    store.set_phrases("ana", [])
    assert store.memory("ana").phrases == ()
    assert store.commit("ana", Utterance("x")) == 4


def test_users_do_not_see_each_other(store: Store, state) -> None:
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    store.commit("Ana", Utterance("b"))
    store.commit("zoë 'x'; --", Utterance("c"))
    assert store.users() == ["Ana", "ana", "zoë 'x'; --"]
    assert [u.text for u in store.memory("Ana").utterances] == ["b"]
    assert store.memory("Ana").state is None
    assert store.memory("zoë 'x'; --").revision == 1


def test_deleting_a_user_leaves_the_others(store: Store, state) -> None:
    for user in ("ana", "bo"):
        for utterance in said(3):
            store.commit(user, utterance, state=state(len(user)), fingerprint="model-a")
        store.set_phrases(user, ["x", "y"])
        store.add_key(user.encode() * 16, f"phone of {user}", user)
    before = store.memory("bo")
    counts = {"users": 1, "utterances": 3, "phrases": 2, "states": 1, "keys": 1}
    assert store.delete_user("ana") == counts
    assert store.memory("ana") == UserMemory("ana")
    assert store.memory("bo") == before
    assert store.users() == ["bo"]
    kept = store.keys()
    assert [key.user for key in kept] == ["bo"]
    assert store.delete_user("ana") == dict.fromkeys(counts, 0)
    assert store.commit("ana", Utterance("back")) == 1


def test_how_much_is_kept(store: Store, state) -> None:
    data = state(1)
    store.commit("ana", Utterance("äb", "c", source="d"), state=data, fingerprint="model-a")
    store.commit("ana", Utterance("e"))
    store.set_phrases("bo", ["x"])
    assert store.usage() == [
        UserUsage("ana", 2, utterances=2, history_bytes=6, state_bytes=len(data)),
        UserUsage("bo", 1, utterances=0, history_bytes=0, state_bytes=0),
    ]


def test_the_oldest_are_forgotten_by_number(place: str | Path | None) -> None:
    store = open_store(place, StoreConfig(max_utterances=3))
    for utterance in said(10):
        store.commit("ana", utterance)
    assert store.memory("ana").utterances == tuple(said(10)[-3:])
    assert store.usage()[0].utterances == 3
    store.close()


def test_the_oldest_are_forgotten_by_bytes(place: str | Path | None) -> None:
    config = StoreConfig(max_history_bytes=1000, max_text_bytes=1000)
    store = open_store(place, config)
    rng = np.random.default_rng(0)
    kept: list[Utterance] = []
    for index in range(60):
        utterance = Utterance(f"{index:03} " + "x" * int(rng.integers(0, 120)), time=1.0)
        kept.append(utterance)
        while sum(u.nbytes for u in kept) > 1000:
            kept.pop(0)
        store.commit("ana", utterance)
    assert store.memory("ana").utterances == tuple(kept)
    assert store.usage()[0].history_bytes == sum(u.nbytes for u in kept)
    whole = Utterance("y" * 1000)
    store.commit("ana", whole)
    assert [u.text for u in store.memory("ana").utterances] == [whole.text]
    store.close()


def test_smaller_limits_take_effect_at_once_for_a_long_history(place: str | Path | None) -> None:
    if place is None:
        pytest.skip("nothing lasts in memory")
    store = open_store(place)
    for utterance in said(40):
        store.commit("ana", utterance)
    store.close()
    store = open_store(place, StoreConfig(max_utterances=2))
    store.commit("ana", Utterance("last"))
    assert [u.text for u in store.memory("ana").utterances] == ["sentence 39", "last"]
    store.close()


@pytest.mark.parametrize("counts", ["utterances = 99", "history_bytes = 5000"])
def test_wrong_counts_end_in_right_ones(counts: str) -> None:
    """As after somebody's own SQL: the oldest are forgotten, and nothing hangs."""
    config = StoreConfig(max_utterances=5, max_history_bytes=1000, max_text_bytes=1000)
    store = open_store(None, config)
    for utterance in said(3):
        store.commit("ana", utterance)
    store.write(lambda c, _: c.exec_driver_sql(f"UPDATE solomonic_users SET {counts}"))
    for turn in range(9):
        store.commit("ana", Utterance(f"{turn}"))
        assert store.memory("ana").utterances[-1].text == f"{turn}"
    assert [u.text for u in store.memory("ana").utterances] == ["4", "5", "6", "7", "8"]
    assert store.usage()[0].utterances == 5
    store.close()


REFUSED = [
    (Utterance("a\0b"), "NUL"),
    (Utterance("a\ud800"), "Unicode"),
    (Utterance("x" * 70_000), "over the limit"),
    (Utterance("é" * 40_000), "over the limit"),
    (Utterance("x", source="y" * 201), "source"),
    (Utterance("x", time=float("nan")), "time"),
    (Utterance("x", time=-1.0), "time"),
]


@pytest.mark.parametrize(("utterance", "message"), REFUSED)
def test_utterances_that_cannot_be_kept_are_refused(utterance: Utterance, message: str) -> None:
    store = open_store(None)
    with pytest.raises(DataError, match=message):
        store.commit("ana", utterance)
    assert store.users() == []
    store.close()


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "a\0", "\x7f", "\udc00"])
def test_names_that_cannot_be_kept_are_refused(name: str) -> None:
    store = open_store(None)
    for call in (
        lambda: store.commit(name, Utterance("a")),
        lambda: store.memory(name),
        lambda: store.set_phrases(name, []),
        lambda: store.delete_user(name),
        lambda: store.add_key(b"h" * 32, name),
    ):
        with pytest.raises(DataError, match="name"):
            call()
    store.close()


def test_states_that_are_none_are_refused(store: Store, state) -> None:
    good = state(1)
    store.commit("ana", Utterance("a"), state=good, fingerprint="model-a")
    before = store.memory("ana")
    huge = (1 << 62).to_bytes(8, "little") + good[8:]
    for bad in (b"", b"short", good[:-1], good + b"x", huge, b"\x02" + b"\0" * 7 + b"[]", good[:8]):
        with pytest.raises(DataError, match="state"):
            store.commit("ana", Utterance("b"), state=bad, fingerprint="model-a")
    assert store.memory("ana") == before


def test_a_state_over_the_limit_is_refused(place: str | Path | None, state) -> None:
    store = open_store(place, StoreConfig(max_state_bytes=3000))
    store.commit("ana", Utterance("a"), state=state(1), fingerprint="model-a")
    with pytest.raises(DataError, match="max_state_bytes"):
        store.commit("ana", Utterance("a"), state=state(1, 3000), fingerprint="model-a")
    assert store.memory("ana").revision == 1
    store.close()


def test_personal_words_over_the_limit_are_refused(store: Store) -> None:
    store.set_phrases("ana", ["fine"] * 5000)
    for bad in (["fine"] * 5001, [""], [" "], ["x" * 201], ["a\0"], ["\ud800"]):
        with pytest.raises(DataError, match="personal word"):
            store.set_phrases("ana", bad)
    assert store.memory("ana").phrases == ("fine",) * 5000


def test_keys(store: Store) -> None:
    store.add_key(b"h" * 32, "phone", "ana", {"requests_per_minute": 5})
    store.add_key(b"g" * 32, "laptop")
    with pytest.raises(DataError, match="already"):
        store.add_key(b"i" * 32, "phone")
    with pytest.raises(DataError, match="already"):
        store.add_key(b"h" * 32, "other")
    kept = store.keys()
    assert [key.name for key in kept] == ["laptop", "phone"]
    found = store.find_key(b"h" * 32)
    assert found is not None and found.created > 1e9
    assert (found.name, found.user, found.limits) == ("phone", "ana", {"requests_per_minute": 5})
    assert "hhh" not in repr(found)
    assert store.find_key(b"?" * 32) is None
    assert store.users() == []  # a key makes no user
    assert store.revoke_key("phone") and not store.revoke_key("phone")
    assert store.find_key(b"h" * 32) is None


def test_threads_get_growing_revisions_and_lose_nothing(store: Store, state) -> None:
    revisions: list[int] = []
    errors: list[BaseException] = []

    def speak(index: int) -> None:
        try:
            for turn in range(6):
                text = f"{index}-{turn}"
                mine = store.commit(
                    "ana",
                    Utterance(text),
                    state=state(100 * index + turn),
                    fingerprint="model-a",
                )
                revisions.append(mine)
                memory = store.memory("ana")
                assert memory.revision >= mine
                assert text in [u.text for u in memory.utterances]
                assert memory.state is not None
                assert memory.state_revision == memory.revision
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=speak, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(revisions) == list(range(1, 25))
    texts = [u.text for u in store.memory("ana").utterances]
    assert sorted(texts) == sorted(f"{index}-{turn}" for index in range(4) for turn in range(6))
    for index in range(4):
        order = [text for text in texts if text.startswith(f"{index}-")]
        assert order == sorted(order)


def test_a_store_is_checked_and_closed(store: Store) -> None:
    store.check()
    store.close()
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.check()
    with pytest.raises(StorageError, match="closed"):
        store.commit("ana", Utterance("a"))


def test_records_are_values() -> None:
    assert Utterance("a", revision=3) == Utterance("a")
    assert Utterance("a") != Utterance("b")
    assert "secret" not in repr(UserMemory("ana", state=b"secret"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Utterance("a").text = "b"  # pyright: ignore[reportAttributeAccessIssue]
