"""Derived indexes: as their definition, in step with the truth, and never believed blindly."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from solomonic.core import CheckpointError, ConfigError, StorageError
from solomonic.memory import Memory, MemoryConfig, NewItem, sqlite
from solomonic.memory.exact import ExactIndex, Rows
from solomonic.memory.index import DerivedIndex

DIM = 24
SMALL = MemoryConfig(exact_limit=500)


def clustered(random: np.random.Generator, n: int, centres: int = 40) -> np.ndarray:
    """(n, DIM) float16 about some centres."""
    middle = random.normal(size=(centres, DIM))
    return (middle[random.integers(0, centres, n)] + 0.4 * random.normal(size=(n, DIM))).astype(
        "f2"
    )


def index_of(memory: Memory) -> DerivedIndex:
    found = memory._index  # pyright: ignore
    assert isinstance(found, DerivedIndex)
    return found


def write(memory: Memory, keys: np.ndarray, batch: int = 300) -> list[int]:
    ids: list[int] = []
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        ids += memory.write_many(NewItem(text="", vector=key) for key in part)
    return ids


def recall(memory: Memory, queries: np.ndarray, keys: dict[int, np.ndarray], metric: str) -> float:
    ids = np.array(sorted(keys))
    exact = ExactIndex(Rows.of(ids, np.array([keys[n] for n in ids.tolist()])), metric)
    found = 0
    for query in queries:
        right = set(exact.search(query.astype(np.float32), 10)[0].tolist())
        found += len(right & {hit.item.id for hit in memory.search(query, 10)})
    return found / (10 * len(queries))


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_lists_find_what_the_definition_finds_while_items_come_and_go(
    metric: str, random: np.random.Generator
) -> None:
    config = SMALL.replace(metric=metric)
    with Memory.open(":memory:", config=config) as memory:
        first = clustered(random, 2000)
        keys = dict(zip(write(memory, first), first, strict=True))
        assert memory.stats()["index"]["kind"] == "ivf"
        lists = memory.stats()["index"]["lists"]
        late = clustered(random, 3000) + np.float16(2.0)  # the subject changes altogether
        keys.update(zip(write(memory, late, 1000), late, strict=True))
        assert memory.stats()["index"]["lists"] > 1.3 * lists  # the lists have followed
        gone = random.choice(sorted(keys), 1500, replace=False).tolist()
        memory.forget(gone)
        keys = {n: key for n, key in keys.items() if n not in set(gone)}
        more = clustered(random, 50)
        keys.update(zip(write(memory, more, 1), more, strict=True))
        for queries in (first[:100], late[:100], more):
            assert recall(memory, queries, keys, metric) > 0.95
        answers = {hit.item.id for key in first[:50] for hit in memory.search(key, 100)}
        assert not answers & set(gone)
        assert memory.verify().ok


def test_lists_begin_with_what_is_left(random: np.random.Generator) -> None:
    """Some had been forgotten when there became enough for lists."""
    with Memory.open(":memory:", config=SMALL) as memory:
        keys = clustered(random, 900)
        write(memory, keys[:450], 450)
        memory.forget(range(1, 200))
        write(memory, keys[450:], 450)
        assert memory.stats()["index"]["kind"] == "ivf"
        assert memory.verify().ok
        assert memory.search(keys[899], 1)[0].item.id == 900


def test_a_list_of_equal_vectors_does_no_harm() -> None:
    with Memory.open(":memory:", config=SMALL) as memory:
        write(memory, np.ones((3000, DIM)))
        write(memory, np.zeros((10, DIM)))
        assert len(memory.search(np.ones(DIM), 20)) == 20
        assert memory.verify().ok


@pytest.mark.parametrize("count", [50, 900])
def test_a_snapshot_saves_the_work(path: Path, random: np.random.Generator, count: int) -> None:
    keys = clustered(random, count + 20)
    with Memory.open(path, config=SMALL) as memory:
        write(memory, keys[:count])
        index_of(memory).save_now()
        write(memory, keys[count:])  # what came after the snapshot
        memory.forget([3, 5, count + 1])
        expected = [[h.item.id for h in memory.search(key, 5)] for key in keys]
    with Memory.open(path, config=SMALL) as memory:
        assert memory.stats()["notices"] == []
        assert [[h.item.id for h in memory.search(key, 5)] for key in keys] == expected
        assert memory.verify().ok
    with Memory.open(path, config=SMALL, read_only=True) as reader:
        assert [[h.item.id for h in reader.search(key, 5)] for key in keys] == expected


def damage(index: Path, kind: str) -> None:
    data = index.read_bytes()
    if kind == "empty":
        index.write_bytes(b"")
    elif kind == "cut":
        index.write_bytes(data[: len(data) // 2])
    elif kind == "cut in its header":
        index.write_bytes(data[:30])
    elif kind == "changed":
        middle = len(data) // 2
        index.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif kind == "version":
        index.write_bytes(b"SOLMIDX9" + data[8:])
    elif kind == "folder":
        index.unlink()
        index.mkdir()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "is empty"),
        ("cut", "is cut short"),
        ("cut in its header", "is cut short"),
        ("changed", "has changed since it was written"),
        ("version", "is no index of this version"),
        ("folder", "cannot be read"),
    ],
)
def test_a_damaged_index_is_made_again_and_said(path: Path, kind: str, said: str) -> None:
    keys = clustered(np.random.default_rng(0), 700)
    with Memory.open(path, config=SMALL) as memory:
        write(memory, keys)
        index_of(memory).save_now()
    index = path.with_name("m.db-index")
    damage(index, kind)
    with Memory.open(path, config=SMALL) as memory:
        (notice,) = memory.stats()["notices"]
        assert said in notice and "it was made again in" in notice
        assert memory.search(keys[5], 1)[0].item.id == 6
        assert memory.verify().ok


def test_the_index_of_another_memory_is_not_believed(folder: Path) -> None:
    for name, seed in (("a.db", 1), ("b.db", 2)):
        with Memory.open(folder / name) as memory:
            write(memory, clustered(np.random.default_rng(seed), 30))
            index_of(memory).save_now()
    shutil.copy(folder / "b.db-index", folder / "a.db-index")
    with Memory.open(folder / "a.db") as memory:
        assert "belongs to another memory" in memory.stats()["notices"][0]
        assert memory.verify().ok


def test_an_index_newer_than_a_restored_backup_is_not_believed(folder: Path) -> None:
    """The numbers would fit, the contents would not."""
    random = np.random.default_rng(3)
    with Memory.open(folder / "m.db") as memory:
        write(memory, clustered(random, 30))
        index_of(memory).save_now()
    shutil.copy(folder / "m.db", folder / "backup")
    with Memory.open(folder / "m.db") as memory:
        write(memory, clustered(random, 30))
        index_of(memory).save_now()
    shutil.copy(folder / "backup", folder / "m.db")
    with Memory.open(folder / "m.db") as memory:
        assert "was made of another state of this memory" in memory.stats()["notices"][0]
        keys = clustered(random, 30)
        ids = write(memory, keys)
        assert memory.search(keys[0], 1)[0].item.id == ids[0]
        assert memory.verify().ok


def test_a_snapshot_too_old_for_the_log_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solomonic.memory.index.KEPT_LOG", 10)
    keys = clustered(np.random.default_rng(0), 100)
    with Memory.open(path) as memory:
        write(memory, keys)
        reader = Memory.open(path, read_only=True)
        index_of(memory).save_now()
        old = path.with_name("m.db-index").read_bytes()
        memory.forget(range(1, 51))
        index_of(memory).save_now()  # the log is cut: the reader cannot follow it and begins again
        found = {h.item.id for h in reader.search(keys[60], 100)}
        assert found == set(range(51, 101))
        assert reader.verify().ok
        reader.close()
        known = memory._truth.about()["snapshots"]  # pyright: ignore
        assert len(known.split()) == 2
    path.with_name("m.db-index").write_bytes(old)
    with Memory.open(path) as memory:
        assert "too old to follow" in memory.stats()["notices"][0]
        assert memory.verify().ok


def test_verify_sees_an_index_that_differs_and_repairs_it(path: Path) -> None:
    keys = clustered(np.random.default_rng(0), 600)
    with Memory.open(path, config=SMALL) as memory:
        write(memory, keys)
        index = index_of(memory).index
        assert index is not None and index.name == "ivf"
        index.remove(np.array([7, 8]))
        index.rows.raw(slice(0, 1))[0, 0] += 1
        found = memory.verify()
        assert found.problems == (
            "the index lacks 2 vectors.",
            "the index has other values for 1 vectors.",
        )
        mended = memory.verify(repair=True)
        assert mended.ok and len(mended.repaired) == 2
        assert memory.verify().ok
        index = index_of(memory).index
        assert index is not None
        index.add(np.array([9999]), keys[:1])
        assert memory.verify().problems == ("the index has too many: 1 vectors.",)
        assert memory.search(keys[0], 2)[0].item.id == 1  # 9999 is no item, so no answer


def test_words_that_stand_everywhere_are_left_out_of_long_readings(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large memory only the rarest words are read; what they find is what all would find."""
    monkeypatch.setattr(sqlite, "READ", 50)
    texts = [f"the place in Málaga n{n}" for n in range(90)]
    with Memory.open(path) as memory:
        ids = memory.write_many(
            NewItem(text=text) for text in [*texts, "a zebra in a place of MALAGA"]
        )
        for _ in range(2):  # the second time after everything was written anew
            found = memory.search("the zebra in the n7", 20)
            assert {hit.item.id for hit in found} == {ids[90], ids[7]}
            found = memory.search("málaga", 100)  # alone it is read, however many it has
            assert len(found) == 91
            assert len(memory.search("Malaga the", 100)) == 90  # "the" has one entry less
            memory.compact()
        monkeypatch.setattr(sqlite, "READ", 10_000)
        wide = [hit.item.id for hit in memory.search("the zebra in the n7", 100)]
        assert len(wide) == 91 and set(wide[:2]) == {ids[90], ids[7]}


def test_verify_sees_words_that_differ_and_repairs_them(path: Path) -> None:
    with Memory.open(path) as memory:
        memory.write_many(NewItem(text=text) for text in ("alpha beta", "gamma"))
        with memory.transaction() as tables:
            tables.execute("DROP TRIGGER memory_item_gone")
            tables.execute("DELETE FROM memory_item WHERE id = 2")
        assert memory.verify().problems == (
            "the index of words differs from the texts; verify with repair mends it.",
        )
        assert memory.search("gamma") == []  # no item, no answer
        assert memory.verify(repair=True).ok
        assert memory.verify().ok


def test_damaged_tables_are_said(path: Path) -> None:
    with Memory.open(path) as memory:
        memory.write_many(NewItem(text=f"{n} " * 500) for n in range(200))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 5000] = b"\xa5" * 5000
    path.write_bytes(data)
    for read_only in (False, True):
        with pytest.raises(CheckpointError, match="damaged .* restore a backup"):
            Memory.open(path, read_only=read_only)


def test_verify_reads_the_tables_too(path: Path) -> None:
    with Memory.open(path) as memory:
        memory.write_many(NewItem(text="a", vector=np.ones(8)) for _ in range(3))
        with memory.transaction() as tables:
            tables.execute("UPDATE memory_item SET vector = x'0000'")
        (said,) = memory.verify(repair=True).problems
        assert said.startswith("3 vectors in") and said.endswith("restore a backup.")
        sql = "SELECT rootpage FROM sqlite_master WHERE name = 'memory_item_source'"
        page = memory._truth.one(sql)  # pyright: ignore
    data = bytearray(path.read_bytes())
    data[4096 * (page - 1) : 4096 * page] = bytes(4096)  # opening does not read it
    path.write_bytes(data)
    with Memory.open(path, read_only=True) as memory:
        (said, *_) = memory.verify().problems
        assert "is damaged" in said and said.endswith("restore a backup.")


def test_what_is_no_memory_is_refused_and_left_alone(folder: Path) -> None:
    other = folder / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE x (y)")
    connection.close()
    for name, data in (
        ("text.txt", b"hello\n"),
        ("long.bin", b"hello\n" * 1000),
        ("other.db", other.read_bytes()),
    ):
        file = folder / name
        file.write_bytes(data)
        for read_only in (False, True):
            with pytest.raises(CheckpointError, match=r"\.$"):
                Memory.open(file, read_only=read_only)
        assert file.read_bytes() == data


def test_another_version_is_refused(path: Path) -> None:
    Memory.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(CheckpointError, match=r"has version 2 and this solomonic reads version 1"):
        Memory.open(path)


def test_places_that_cannot_be(folder: Path) -> None:
    with pytest.raises(StorageError, match=r"there is no memory at .*nowhere\.db"):
        Memory.open(folder / "nowhere.db", read_only=True)
    assert not (folder / "nowhere.db").exists()
    with pytest.raises(StorageError, match="is a folder"):
        Memory.open(folder)
    assert not list(folder.parent.glob(f"{folder.name}-*"))
    with pytest.raises(ConfigError, match="does not speak 'mysql'"):
        Memory.open("mysql://x")
    with pytest.raises(ConfigError, match="there is no path"):
        Memory.open("")
    with pytest.raises(ConfigError, match="begins empty"):
        Memory.open(":memory:", read_only=True)
    with pytest.raises(StorageError, match=r"postgresql://nobody"):
        Memory.open("postgresql://me:secret@nobody.invalid/x", config=MemoryConfig(timeout=1))
    with Memory.open(folder / "new" / "deep" / "m.db", dim=3) as memory:
        assert memory.write("a", vector=[1, 2, 3]) == 1
    with pytest.raises(ConfigError, match="vectors of 3 dimensions, not 4"):
        Memory.open(folder / "new" / "deep" / "m.db", dim=4)


def test_without_faiss_all_are_compared(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solomonic.memory.ivf.available", lambda: False)
    with Memory.open(":memory:", config=SMALL) as memory:
        keys = clustered(random, 900)
        write(memory, keys)
        assert memory.stats()["index"] == {"kind": "exact", "vectors": 900}
        (said,) = memory.stats()["notices"]
        assert "pip install 'solomonic[memory]'" in said
        assert memory.search(keys[3], 1)[0].item.id == 4
