"""What a user said: probabilities of the cache, bytes that give the same bits, nobody else's."""

import dataclasses
import gc
import json
import threading
import weakref
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load

from lattice_support import command_lattice
from needs import needs_core
from rescore_support import native_lm, random_lm
from solomonic.core import CheckpointError, DataError
from solomonic.serve.rescore import Memory, RerankConfig, Reranker
from solomonic.serve.rescore.cache import BASE_MASS, HALF_LIFE, Said, WordCache, weight
from solomonic.speech.lattice import Arc, Lattice, build_lattice

ENGINES = [
    random_lm,
    pytest.param(native_lm, marks=needs_core),
]


def said(text: str, surprise: float = 12.0, time: float = 0.0) -> Said:
    words = tuple(text.split())
    return Said(words, (surprise,) * len(words), time)


def contents(data: bytes) -> tuple[dict[str, bytes], dict]:
    """Tensors and header of a safetensors file, whose order is left to chance."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = {name: part.numpy().tobytes() for name, part in load(data).items()}
    return tensors, header["__metadata__"]


def names(*rivals: str) -> Lattice:
    """ "call NAME", the names as likely as their order says."""
    arcs = [Arc(0, 1, "call", -0.5)]
    arcs += [Arc(1, 2, name, -1.0 - place) for place, name in enumerate(rivals)]
    return build_lattice([0, 5, 12], arcs, 2, frame_seconds=0.06)


@pytest.mark.parametrize("before", [(), ("call",), ("please", "call"), ("never", "heard")])
def test_a_cache_is_a_distribution(before: tuple[str, ...]) -> None:
    model = {"call": 0.2, "siobhan": 0.001, "the": 0.5, "light": 0.2, "": 0.099}
    cache = WordCache()
    for text in ("call siobhan", "please call siobhan", "turn the light"):
        cache.add(said(text))
    others = {"please": 0.0, "turn": 0.0}
    total = sum(cache.probability(before, word, p) for word, p in (model | others).items())
    assert total == pytest.approx(1.0)


def test_what_was_said_after_the_same_words_is_likeliest() -> None:
    cache = WordCache()
    cache.add(said("call siobhan"))
    cache.add(said("play jazz"))
    after_call = cache.probability(("call",), "siobhan", 1e-6)
    elsewhere = cache.probability(("meet",), "siobhan", 1e-6)
    assert after_call > 0.5 > elsewhere > 1 / (BASE_MASS + 10)
    assert cache.probability(("call",), "jazz", 1e-6) < elsewhere
    assert cache.probability(("siobhan",), "", 1e-6) > 0.5
    assert cache.probability((), "call", 1e-6) > 0.3


def test_surprise_and_time_weigh() -> None:
    assert weight(0.0) == weight(3.0) == 0.01
    assert weight(10.0) == weight(50.0) == 1.0
    cache = WordCache()
    cache.add(Said(("the", "zebra"), (0.5, 12.0)))
    assert cache.probability(("x",), "zebra", 0.0) > 20 * cache.probability(("x",), "the", 0.0)
    fresh = cache.probability(("x",), "zebra", 0.0)
    for _ in range(int(HALF_LIFE)):
        cache.add(Said(("stop",), (0.0,)))
    assert cache.probability(("x",), "zebra", 0.0) < 0.6 * fresh


def test_the_least_telling_sentence_is_forgotten_first() -> None:
    cache = WordCache(limit=6)
    cache.add(said("call siobhan", 12.0))
    for place in range(9):
        cache.add(said(f"stop now{place}", 1.0))
    assert [" ".join(one.words) for one in cache.said] == [
        "call siobhan",
        "stop now7",
        "stop now8",
    ]
    cache.add(said("one long sentence of more than six words", 2.0))
    assert len(cache.said) == 1


def test_phrases_replace_each_other() -> None:
    memory = Memory.new(random_lm())
    memory.set_phrases(["Aaron Abernathy", "Zoë", ""])
    assert memory.words.phrases == ("aaron abernathy", "zoe")
    high = memory.words.probability(("aaron",), "abernathy", 1e-9)
    assert high > 0.5
    memory.set_phrases(["zoe"])
    assert memory.words.probability(("aaron",), "abernathy", 1e-9) < 1e-6


@pytest.mark.parametrize("engine", ENGINES)
def test_a_name_is_found_again(engine: object) -> None:
    lm = engine()
    config = RerankConfig(lm_scale=0.0, memory_scale=1.0, recall=1.0)
    reranker = Reranker(lm, config)
    lattice = names("shove", "siobhan")
    assert reranker.rerank(lattice).text == "call shove"
    memory = Memory.new(lm).read("Ring Siobhan!", 17.5)
    found = reranker.rerank(lattice, memory)
    assert found.text == "call siobhan"
    assert found.one_best == "call shove"
    assert found.best.memory > 1.0
    hits = found.to_json()["memory_hits"]
    assert [(hit["text"], hit["time"]) for hit in hits] == [("siobhan", 17.5)]
    # Listed names help as well, and have no time.
    listed = Memory.new(lm)
    listed.set_phrases(["siobhan"])
    assert reranker.rerank(lattice, listed).hits[0].time is None
    assert reranker.rerank(lattice, listed).text == "call siobhan"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_memory_in_bytes_gives_the_same_bits(engine: object) -> None:
    lm = engine()
    memory = Memory.new(lm)
    for text in ("call siobhan", "turn on the lights", "what's the weather", "call siobhan again"):
        memory.read(text, 3.0)
    memory.set_phrases(["aaron abernathy"])
    data = memory.to_bytes()
    again = Memory.from_bytes(lm, data)
    assert contents(again.to_bytes()) == contents(data)
    reranker = Reranker(lm, RerankConfig(recall=0.7))
    lattice = command_lattice(0, words=("turn", "on", "the", "light"))
    assert reranker.rerank(lattice, again) == reranker.rerank(lattice, memory)
    # And both go on alike.
    again.read("dim the lights")
    after = contents(memory.read("dim the lights").to_bytes())
    assert contents(again.to_bytes()) == after != contents(data)
    assert reranker.rerank(lattice, again) == reranker.rerank(lattice, memory)
    assert reranker.rerank(lattice, memory) != reranker.rerank(lattice)


def test_the_state_alone_matters_too() -> None:
    """Without the words, what was read still changes what the model expects."""
    lm = random_lm()
    lattice = names("shove", "siobhan")
    memory = Memory.new(lm).read("ring siobhan")
    reranker = Reranker(lm, RerankConfig(share=0.0, recall=1.0))
    with_it, without = reranker.rerank(lattice, memory), reranker.rerank(lattice)
    assert with_it.best.memory == 0.0
    assert with_it.best.lm != without.best.lm
    fresh = Reranker(lm, RerankConfig(share=0.0, recall=0.0))
    assert fresh.rerank(lattice, memory).best == without.best


def test_the_mixture_is_the_models_weighted() -> None:
    lm, lattice = random_lm(), names("siobhan")
    memory = Memory.new(lm).read("ring siobhan")
    by_share = {
        share: Reranker(lm, RerankConfig(share=0.0, recall=share)).rerank(lattice, memory).best.lm
        for share in (0.0, 0.5, 1.0)
    }
    low, high = sorted((by_share[0.0], by_share[1.0]))
    assert low < by_share[0.5] < high


@pytest.mark.parametrize("engine", ENGINES)
def test_users_are_strangers_to_each_other(engine: object) -> None:
    """Whatever one user's requests do, another's results are bit for bit as if alone."""
    lm = engine()
    lattice = names("shove", "siobhan", "chevonne")
    reranker = Reranker(lm, RerankConfig(recall=0.5))
    texts = {"ann": ["call siobhan", "ring siobhan"], "bob": ["call chevonne"], "cat": []}

    def alone(user: str) -> object:
        memory = Memory.new(lm)
        for text in texts[user]:
            memory.read(text)
        return reranker.rerank(lattice, memory), contents(memory.to_bytes())

    expected = {user: alone(user) for user in texts}
    assert len({result.text for result, _ in expected.values()}) == 3
    nobody = reranker.rerank(lattice)
    # In turns ...
    memories = {user: Memory.new(lm) for user in texts}
    for place in range(2):
        for user, memory in memories.items():
            reranker.rerank(lattice, memory)
            if place < len(texts[user]):
                memory.read(texts[user][place])
    for user, memory in memories.items():
        assert (reranker.rerank(lattice, memory), contents(memory.to_bytes())) == expected[user]
        assert all(
            name not in memory.to_bytes()
            for name in (b"siobhan", b"chevonne")
            if name.decode() not in " ".join(texts[user])
        )
    # ... at the same time ...
    found: dict[str, object] = {}
    threads = [
        threading.Thread(target=lambda user=user: found.setdefault(user, alone(user)))
        for user in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    # ... and who has no memory has none.
    assert reranker.rerank(lattice) == nobody
    assert nobody.hits == () and nobody.best.memory == 0.0


def test_a_memory_leaves_nothing_behind() -> None:
    lm = random_lm()
    reranker = Reranker(lm)
    memory = Memory.new(lm).read("call siobhan")
    reranker.rerank(names("shove", "siobhan"), memory)
    left = [weakref.ref(memory), weakref.ref(memory.words)]
    del memory
    gc.collect()
    assert [one() for one in left] == [None, None]


def test_from_a_record() -> None:
    lm = random_lm()
    memory = Memory.new(lm).read("call siobhan", 5.0)
    said_ = [SimpleNamespace(text="call siobhan", time=5.0)]
    record = SimpleNamespace(
        phrases=["zoe"], utterances=said_, state=memory.to_bytes(), fingerprint=lm.fingerprint
    )
    stored = Memory.from_record(lm, record)
    record.fingerprint = "another model's"  # the server has a new model: read the texts again
    read = Memory.from_record(lm, record)
    record.state = None
    again = Memory.from_record(lm, record)
    first, *others = (contents(one.to_bytes()) for one in (stored, read, again))
    assert others == [first, first]
    assert stored.words.phrases == ("zoe",)
    assert stored.words.last_said("siobhan") == 5.0
    assert stored.nbytes > 0


def test_names_for_the_recogniser() -> None:
    memory = Memory.new(random_lm())
    memory.words.add(Said(("call", "siobhan"), (1.0, 15.0)))
    memory.words.add(Said(("ring", "aoife"), (1.0, 15.0)))
    assert memory.names() == ["aoife", "siobhan"]
    assert memory.names(1) == ["aoife"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:100], "cut short or corrupted"),
        (lambda data: b"", "cut short or corrupted"),
        (lambda data: b"\xff" * 64, "cut short or corrupted"),
        (lambda data: data.replace(b"solomonic-state", b"something-else!"), "not a state file"),
        (lambda data: data.replace(b'\\"version\\": 1', b'\\"version\\": 7'), "has version 7"),
        (lambda data: data.replace(b"said", b"sbid"), "words are damaged"),
    ],
)
def test_damaged_bytes_are_refused(change: object, message: str) -> None:
    lm = random_lm()
    with pytest.raises(CheckpointError, match=message):
        Memory.from_bytes(lm, change(Memory.new(lm).read("call siobhan").to_bytes()))


def test_foreign_bytes_are_refused() -> None:
    lm = random_lm()
    data = Memory.new(lm).read("call siobhan").to_bytes()
    with pytest.raises(CheckpointError, match="another model"):
        Memory.from_bytes(random_lm(1), data)
    other = dataclasses.replace(random_lm(0, "BM"), fingerprint=lm.fingerprint)
    with pytest.raises(CheckpointError, match="another model"):
        Memory.from_bytes(other, data)
    plain = Memory.new(lm)
    plain.row = plain.row.map(lambda _, x: x * float("nan") if x.is_floating_point() else x)
    with pytest.raises(CheckpointError, match="NaN"):
        Memory.from_bytes(lm, plain.to_bytes())
    from solomonic.state import dumps

    with pytest.raises(CheckpointError, match="is damaged"):
        Memory.from_bytes(lm, dumps(lm.reader.init_state(1), lm.fingerprint))


def test_what_is_read_is_what_training_reads() -> None:
    """Each sentence behind an end of text; surprise is the model's, word by word."""
    lm = random_lm()
    memory = Memory.new(lm).read("call siobhan").read("stop")
    end, encode = lm.tokenizer.eos_id, lm.tokenizer.encode
    line = torch.tensor([[end, *encode("call siobhan"), end, *encode("stop")]])
    with torch.no_grad():
        logits, state = lm.reader(line)
    for (_, found), (_, expected) in zip(memory.row.leaves(), state.leaves(), strict=True):
        torch.testing.assert_close(found, expected)
    logs = logits[0].log_softmax(-1)[torch.arange(line.shape[1] - 1), line[0, 1:]]
    first, second = memory.words.said
    assert first.surprise[0] == pytest.approx(-float(logs[:4].sum()), abs=1e-3)
    assert first.surprise[1] == pytest.approx(-float(logs[4:12].sum()), abs=1e-3)
    assert second.surprise[0] == pytest.approx(-float(logs[13:].sum()), abs=1e-3)


def test_reading_odd_texts() -> None:
    lm = random_lm()
    memory = Memory.new(lm)
    row = memory.row
    memory.read("  ?! ")
    assert memory.row is row and memory.words.empty
    memory.read("word " * 400)
    assert len(memory.words.said[0].words) == 400
    with pytest.raises(DataError, match="more than 10,000"):
        memory.read("a" * 10_001)
    assert torch.isfinite(next(memory.row.leaves())[1]).all()
