"""The memory of chunks: words against a plain count, ties, limits, weights, files that lie."""

import math
from itertools import pairwise

import numpy as np
import pytest

from solomonic.core import CheckpointError, ShapeError, StorageError
from solomonic.memory.attention.chunks import ChunkMemory, ChunkPlace, Shape
from solomonic.memory.attention.files import load_chunks, save_chunks

SHAPE = Shape(tokens=8, layers=(1, 3), groups=2, size=4, vector=5)


def filled(count: int = 40, seed: int = 0) -> ChunkMemory:
    chance = np.random.default_rng(seed)
    memory = ChunkMemory(SHAPE)
    for number in range(count):
        pairs = {i: chance.normal(size=(8, 2, 2, 4)).astype(np.float16) for i in SHAPE.layers}
        source = "a" if number < count // 2 else "b"
        memory.add(
            chance.integers(0, 30, 8), pairs, chance.normal(size=5),
            ChunkPlace(source, 10 * number, 10 * number + 10),
        )  # fmt: skip
    return memory


def by_hand(memory: ChunkMemory, query: list[int], limit: int) -> list[float]:
    """BM25 with binary counts of tokens and pairs of neighbours, from the chunks alone."""

    def terms(line: list[int]) -> set:
        return set(line) | set(pairwise(line))

    chunks = [terms(line) for line in memory.tokens[:limit].tolist()]
    scores = []
    for chunk in chunks:
        total = 0.0
        for term in terms(query) & chunk:
            held = sum(term in other for other in chunks)
            total += math.log1p((limit - held + 0.5) / (held + 0.5))
        scores.append(total)
    return scores


@pytest.mark.parametrize("limit", [40, 17, 1, 0])
def test_words_are_scored_as_by_hand(limit: int) -> None:
    memory = filled()
    query = [3, 3, 7, *memory.tokens[9, 2:5].tolist(), 29, 11, 1000]
    expected = by_hand(memory, query, limit)
    order = sorted(range(limit), key=lambda i: (-np.float32(expected[i]), i))
    wanted = [i for i in order if expected[i] > 0][:6]
    hits = memory.search(np.array(query), 6, limit=limit)
    assert [hit.score for hit in hits] == pytest.approx([expected[i] for i in wanted], rel=1e-5)
    assert {hit.chunk for hit in hits if hit.score > (hits[-1].score + 1e-4)} <= set(wanted)


def test_chunks_beyond_the_limit_have_no_influence() -> None:
    """Not through their number either: a search at a limit is a search in the shorter memory."""
    memory, query = filled(), np.array([3, 7, 29, 11])
    short = memory.copy(23)
    assert len(short) == 23
    assert memory.search(query, 5, limit=23) == short.search(query, 5)
    vector = np.arange(5.0)
    one = memory.search(vector, 5, by="vector", limit=23)
    two = short.search(vector, 5, by="vector")
    assert [hit.chunk for hit in one] == [hit.chunk for hit in two]
    short.add(
        memory.tokens[0],
        {i: memory.pairs(i, [0])[0] for i in (1, 3)},
        vector,
        ChunkPlace("c", 0, 1),
    )
    assert len(memory) == 40


def test_vectors_are_compared_about_their_mean() -> None:
    memory = filled()
    vectors = memory.vectors.astype(np.float64)
    mean = vectors.mean(0)
    query = vectors[11] + 100 * 0
    cosines = (vectors - mean) @ (query - mean)
    cosines /= np.linalg.norm(vectors - mean, axis=1) * np.linalg.norm(query - mean)
    hits = memory.search(query, 4, by="vector")
    assert [hit.chunk for hit in hits] == np.argsort(-cosines)[:4].tolist()
    assert hits[0].chunk == 11 and hits[0].score == pytest.approx(1, abs=1e-3)
    with pytest.raises(ShapeError, match=r"shape \(3,\)"):
        memory.search(np.zeros(3), 1, by="vector")


def test_a_faded_chunk_is_found_later() -> None:
    memory = filled()
    query = np.array(memory.tokens[5])
    first = memory.search(query, 1)[0]
    assert first.chunk == 5 and first.log_weight == 0
    memory.log_weight[5] = -50
    assert memory.search(query, 1)[0].chunk != 5
    memory.log_weight[5] = -np.inf
    assert 5 not in {hit.chunk for hit in memory.search(query, 40)}


def test_ties_go_to_the_earlier_chunk() -> None:
    memory = filled(4)
    for _ in range(3):
        pairs = {i: memory.pairs(i, [2])[0] for i in SHAPE.layers}
        memory.add(memory.tokens[2], pairs, np.zeros(5), ChunkPlace("c", 0, 1))
    hits = memory.search(memory.tokens[2], 3)
    assert [hit.chunk for hit in hits] == [2, 4, 5]


def test_what_follows_stays_in_its_source() -> None:
    memory = filled()
    assert memory.following(3) == 4
    assert memory.following(19) is None  # the next one is of another source
    assert memory.following(39) is None
    assert memory.following(3, limit=4) is None


def test_another_size_is_named() -> None:
    memory = filled(2)
    pairs = {i: memory.pairs(i, [0])[0] for i in SHAPE.layers}
    with pytest.raises(ShapeError, match=r"tokens of shape \(8,\), not \(7,\)"):
        memory.add(memory.tokens[0][:7], pairs, np.zeros(5), ChunkPlace("", 0, 1))
    with pytest.raises(ShapeError, match="pairs.3"):
        memory.add(memory.tokens[0], {**pairs, 3: pairs[3][:2]}, np.zeros(5), ChunkPlace("", 0, 1))
    assert len(memory) == 2


def test_files_come_back_bit_for_bit_and_lies_are_refused(tmp_path) -> None:
    memory, path = filled(), tmp_path / "chunks.npz"
    memory.log_weight[7] = -1.5
    save_chunks(memory, path, "model")
    back = load_chunks(path, "model")
    assert back.places == memory.places and back.shape == memory.shape
    for one, two in ((back.tokens, memory.tokens), (back.vectors, memory.vectors)):
        assert np.array_equal(one, two)
    assert np.array_equal(back.pairs(3, [4, 9]), memory.pairs(3, [4, 9]))
    assert back.search(np.array([3, 7]), 5) == memory.search(np.array([3, 7]), 5)
    with pytest.raises(CheckpointError, match="another model"):
        load_chunks(path, "other")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_chunks(tmp_path / "none", "model")
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="cut short"):
            load_chunks(path, "model")
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError):
        load_chunks(path, "model")
    with pytest.raises(StorageError, match="could not be written"):
        save_chunks(memory, tmp_path / "no folder" / "x", "model")
    assert [p.name for p in tmp_path.iterdir()] == ["chunks.npz"]
