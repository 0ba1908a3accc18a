"""What a memory does, on every database: it keeps, finds, forgets and weighs."""

import math
from pathlib import Path

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError, ShapeError
from solomonic.memory import Memory, MemoryConfig, NewItem, NotFoundError
from solomonic.memory.forgetting import ExponentialDecay

DIM = 16


def test_an_item_comes_back_as_it_was_written(memory: Memory) -> None:
    vector = np.linspace(-1, 1, DIM)
    text = "Straße 「橋」 \n\t 'quoted' \"double\" ? % %s {} \U0001f600"
    id_ = memory.write(
        text,
        vector=vector,
        source="a/b c?.txt",
        offset=2**40,
        kind="fact",
        valid=(1.5, 2.5),
        time=1e9 + 0.25,
        meta={"a": [1, None, "ü"]},
    )
    item = memory.get(id_)
    assert (item.text, item.source, item.offset, item.kind) == (text, "a/b c?.txt", 2**40, "fact")
    assert (item.valid_from, item.valid_to, item.time) == (1.5, 2.5, 1e9 + 0.25)
    assert item.meta == {"a": [1, None, "ü"]}
    assert item.vector is not None and item.vector.dtype == np.float16
    np.testing.assert_array_equal(item.vector, vector.astype(np.float16))
    assert (item.log_weight, item.hits, item.segment) == (0.0, 0, 1)


def test_numbers_grow_and_never_come_again(memory: Memory) -> None:
    ids = memory.write_many(NewItem(text=str(n)) for n in range(5))
    assert ids == [1, 2, 3, 4, 5]
    memory.forget([4, 5])
    assert memory.write("new") == 6
    assert [item.id for item in memory.items()] == [1, 2, 3, 6]
    assert [item.id for item in memory.items(after=2)] == [3, 6]
    assert len(memory) == 4
    assert memory.write_many([]) == []


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_search_is_the_plain_definition(metric: str, random: np.random.Generator) -> None:
    keys = random.normal(size=(300, DIM)).astype(np.float16)
    query = random.normal(size=DIM).astype(np.float16)
    with Memory.open(":memory:", config=MemoryConfig(metric=metric)) as memory:
        memory.write_many(NewItem(text="", vector=key) for key in keys)
        hits = memory.search(query, 7)
    wide, q = keys.astype(np.float64), query.astype(np.float64)
    expected = {
        "dot": wide @ q,
        "cosine": wide @ q / np.linalg.norm(wide, axis=1) / np.linalg.norm(q),
        "l2": -np.square(wide - q).sum(axis=1),
    }[metric]
    order = np.argsort(-expected)[:7]
    assert [hit.item.id for hit in hits] == (order + 1).tolist()
    np.testing.assert_allclose([hit.similarity for hit in hits], expected[order], rtol=1e-4)
    assert all(hit.score == hit.similarity and hit.weight == 1 for hit in hits)


def test_words_find_texts(memory: Memory) -> None:
    texts = ["the cat sat on the mat", "a dog barked", "cats and dogs", "Die Brücke am Fluß"]
    ids = memory.write_many(NewItem(text=text) for text in texts)
    assert [hit.item.id for hit in memory.search("dog")] == [ids[1]]
    assert memory.search("mat cat")[0].item.id == ids[0]
    assert [hit.item.id for hit in memory.search("BRÜCKE")] == [ids[3]]
    assert memory.search("absent words") == []
    assert memory.search("") == [] and memory.search("?!") == []


@pytest.mark.parametrize(
    "query", ['"', "a AND", "NEAR(", "x*", "col:y", "'; DROP TABLE x", "-", "a\0b"]
)
def test_no_words_are_taken_for_commands(memory: Memory, query: str) -> None:
    memory.write("a text with x and y")
    memory.search(query)
    assert len(memory) == 1


def test_words_and_vectors_together(memory: Memory, random: np.random.Generator) -> None:
    keys = random.normal(size=(40, DIM))
    memory.write_many(NewItem(text=f"number n{n}", vector=keys[n]) for n in range(40))
    both = memory.search(text="n7", vector=keys[7])
    assert both[0].item.text == "number n7"
    assert both[0].similarity == pytest.approx(1.0)
    # Either alone finds something else first when they disagree; both are there.
    found = [hit.item.text for hit in memory.search(text="n3", vector=keys[5], k=2)]
    assert sorted(found) == ["number n3", "number n5"]


def test_filters_look_beyond_the_nearest(memory: Memory) -> None:
    key = np.ones(DIM)
    memory.write_many(NewItem(text=f"t{n}", vector=key, kind="many") for n in range(700))
    rare = memory.write("t rare", vector=-key, kind="rare", valid=(100.0, 200.0))
    assert [hit.item.id for hit in memory.search(key, 3, kind="rare")] == [rare]
    assert [hit.item.id for hit in memory.search("rare", kind="rare")] == [rare]
    assert memory.search("rare", kind="many") == []
    assert memory.search(key, 3, kind="rare", at=99.0) == []
    assert [h.item.id for h in memory.search(key, 3, kind="rare", at=100.0)] == [rare]
    assert memory.search(key, 3, kind="rare", at=200.0) == []
    assert [item.id for item in memory.items(kind="rare")] == [rare]


def test_what_is_forgotten_never_answers(memory: Memory, random: np.random.Generator) -> None:
    keys = random.normal(size=(200, DIM))
    memory.write_many(
        NewItem(text=f"word{n} same", vector=keys[n], source=f"s{n % 2}") for n in range(200)
    )
    memory.forget(8)
    assert 8 not in [hit.item.id for hit in memory.search(keys[7], 200)]
    assert memory.search("word7") == []
    assert memory.forget_source("s0") == 100
    for n in range(0, 200, 20):
        assert all(hit.item.source == "s1" for hit in memory.search(keys[n], 200))
    assert {hit.item.source for hit in memory.search("same", 200)} == {"s1"}
    assert memory.verify().ok


def test_forgetting_what_is_absent_is_one_sentence(memory: Memory) -> None:
    kept = memory.write("kept")
    with pytest.raises(
        NotFoundError, match=r"^there is no item 99 in .*; nothing was forgotten\.$"
    ):
        memory.forget([kept, 99])
    assert memory.get(kept).text == "kept"
    with pytest.raises(NotFoundError, match=r"^nothing in .* is from 'nowhere'; nothing was"):
        memory.forget_source("nowhere")
    with pytest.raises(NotFoundError, match="there is no item 99"):
        memory.get(99)


def test_another_dimension_is_refused(memory: Memory) -> None:
    memory.write("a", vector=np.ones(DIM))
    for attempt in (
        lambda: memory.write("b", vector=np.ones(8)),
        lambda: memory.search(np.ones(8)),
        lambda: memory.write_many(
            [NewItem(text="c", vector=np.ones(DIM)), NewItem(text="d", vector=np.ones(4))]
        ),
    ):
        with pytest.raises(ShapeError, match=r"dimensions and this memory has 16; use the model"):
            attempt()
    assert len(memory) == 1


BAD = [
    (NewItem(text="\ud800"), DataError, "lone surrogate"),
    (NewItem(text="a", vector=[math.nan] * DIM), DataError, "not finite"),
    (NewItem(text="a", vector=[1e6] * DIM), DataError, "float16"),
    (NewItem(text="a", vector=np.ones((2, 2))), ShapeError, "shape"),
    (NewItem(text="a", vector=[]), ShapeError, "shape"),
    (NewItem(text="a", valid=(2.0, 1.0)), DataError, "earlier"),
    (NewItem(text="a", time=math.inf), DataError, "unix seconds"),
    (NewItem(text="a", meta={"x": object()}), DataError, "JSON"),
    (NewItem(text="a", log_weight=0.5), ConfigError, "at most 0"),
    (NewItem(text=b"a"), DataError, "bytes"),  # pyright: ignore[reportArgumentType]
    (NewItem(text="a", offset=-1), DataError, "offset"),
    (NewItem(text="a", offset=2**63), DataError, "offset"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_cannot_be_kept_is_refused_whole(memory: Memory, number: int) -> None:
    new, error, said = BAD[number]
    with pytest.raises(error, match=said):
        memory.write_many([NewItem(text="good"), new])
    assert len(memory) == 0
    assert memory.write("next") == 1


def test_questions_that_make_no_sense(memory: Memory) -> None:
    with pytest.raises(ConfigError, match="nothing to look for"):
        memory.search()
    with pytest.raises(ConfigError, match="ask for one answer"):
        memory.search("a", 0)
    with pytest.raises(DataError, match="finite"):
        memory.observe(math.nan)
    assert memory.search(np.ones(3)) == []  # without vectors any dimension may come


def test_weights_fall_with_what_the_detector_says(place_of_weights: str | Path) -> None:
    decay = ExponentialDecay(10.0)
    with Memory.open(place_of_weights, forgetting=decay) as memory:
        key = np.ones(DIM)
        for n in range(5):
            memory.write(f"same {n}", vector=key)
            for _ in range(10):
                memory.observe(1.0)
        expected = 0.5 ** np.arange(5, 0, -1)
        np.testing.assert_allclose(memory.weights(), expected)
        hits = memory.search(key, 5)
        assert [hit.item.id for hit in hits] == [5, 4, 3, 2, 1]
        np.testing.assert_allclose([hit.weight for hit in hits], expected[::-1])
        np.testing.assert_allclose([h.score - h.similarity for h in hits], np.log(expected[::-1]))
        assert memory.get(1).log_weight == pytest.approx(5 * math.log(0.5))


@pytest.fixture(params=["sqlite", "postgresql"])
def place_of_weights(request: pytest.FixtureRequest) -> str | Path:
    """Where a memory outlives its process."""
    return request.getfixturevalue("path" if request.param == "sqlite" else "database")


def test_a_weight_can_outrank_any_similarity(random: np.random.Generator) -> None:
    """The best by score is not among the nearest: the search must widen until it is certain."""
    with Memory.open(":memory:", forgetting=ExponentialDecay(1.0)) as memory:
        query = np.eye(DIM)[0]
        near = query + 0.001 * random.normal(size=(900, DIM))
        memory.write_many(NewItem(text="old", vector=key) for key in near)
        for _ in range(20):
            memory.observe(1.0)
        late = memory.write("late", vector=np.eye(DIM)[1])
        assert memory.search(query, 1)[0].item.id == late


def test_observations_survive_the_process(place_of_weights: str | Path) -> None:
    """To the bit, whatever part of them was in the saved state."""
    values = np.random.default_rng(0).normal(size=9000).tolist()
    config = MemoryConfig(forgetting="changes:4")
    with Memory.open(":memory:", config=config) as whole:
        for n, value in enumerate(values):
            if n % 1000 == 0:
                whole.write(str(n))
            whole.observe(value)
        expected = whole.weights()
    for part in (slice(0, 5000), slice(5000, 5003), slice(5003, 9000)):
        with Memory.open(place_of_weights, config=config) as memory:
            for n, value in enumerate(values[part], part.start):
                if n % 1000 == 0:
                    memory.write(str(n))
                memory.observe(value)
    with Memory.open(place_of_weights, config=config) as memory:
        assert memory.stats()["step"] == 9000
        np.testing.assert_array_equal(memory.weights(), expected)


def test_items_weigh_alike_whoever_opens_the_memory(place_of_weights: str | Path) -> None:
    config = MemoryConfig(forgetting="changes:4")
    losses = np.random.default_rng(2).normal(1.0, 0.2, 80)
    losses[40:] += 3.0
    with Memory.open(place_of_weights, config=config) as memory:
        for number, value in enumerate(losses):
            memory.write(f"item {number}")
            memory.observe(value)
        wanted = memory.weights()
    assert wanted[0] < 0.01 < 0.9 < wanted[-1]
    with Memory.open(place_of_weights) as memory:
        np.testing.assert_array_equal(memory.weights(), wanted)


def test_segments_and_states(place_of_weights: str | Path) -> None:
    with Memory.open(place_of_weights) as memory:
        memory.write("a")
        memory.observe(1.0)
        assert memory.begin_segment(b"of one") == 2
        assert memory.get(memory.write("b")).segment == 2
        assert memory.state("x") is None
        memory.set_state("x", b"\0\xff")
        memory.set_state("x", b"two")
    with Memory.open(place_of_weights) as memory:
        assert memory.state("x") == b"two"
        assert memory.get(memory.write("c")).segment == 2
        first, second = memory.segments()
        assert (first.id, first.t0, first.t1, first.stats) == (1, 0, 1, b"of one")
        assert (second.id, second.t0, second.t1) == (2, 1, None)


def test_hits_are_counted_and_kept(place_of_weights: str | Path) -> None:
    with Memory.open(place_of_weights) as memory:
        memory.write_many([NewItem(text="one"), NewItem(text="two")])
        for _ in range(3):
            memory.search("one")
    with Memory.open(place_of_weights) as memory:
        assert [item.hits for item in memory.items()] == [3, 0]


def test_other_parts_keep_tables_in_the_same_file(place_of_weights: str | Path) -> None:
    with Memory.open(place_of_weights) as memory:
        with memory.transaction() as tables:
            tables.execute("CREATE TABLE claims_x (a BIGINT, b TEXT)")
            tables.execute_many("INSERT INTO claims_x VALUES (?, ?)", [(1, "?"), (2, "%")])
        with pytest.raises(RuntimeError, match="stop"), memory.transaction() as tables:
            tables.execute("DELETE FROM claims_x")
            raise RuntimeError("stop")
    with Memory.open(place_of_weights) as memory, memory.transaction() as tables:
        found = tables.execute("SELECT b FROM claims_x WHERE a = ?", [2]).fetchall()
        assert [tuple(row) for row in found] == [("%",)]


def test_a_closed_memory_says_so(memory: Memory) -> None:
    memory.close()
    memory.close()
    with pytest.raises(ConfigError, match=r"is closed; open it again\."):
        memory.write("a")
