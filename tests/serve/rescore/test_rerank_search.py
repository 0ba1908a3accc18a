"""Reranking by definition: order, oracle, whole lattice against all its sentences, both engines."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lattice_support import COMMAND, WORDS, best_by_text, command_lattice, random_lattice
from needs import needs_core
from rescore_support import native_lm, oracle_lm, random_lm
from solomonic.core import ConfigError, DataError
from solomonic.lm.score import score_text
from solomonic.serve.rescore import Memory, RerankConfig, Reranker
from solomonic.serve.rescore.search import search
from solomonic.speech.lattice import Lattice, best_path, n_best, oracle, take_arcs
from solomonic.text import BpeTokenizer, ByteTokenizer

EVERYTHING = RerankConfig(history=100, beam=1e6, max_paths=10_000, lattice_beam=1e6, texts=1)
SEEDS = range(3)


@torch.no_grad()
def by_definition(lm: object, text: str) -> float:
    """Log-probability of a sentence between two ends of text."""
    tokens = lm.tokenizer.encode(text)
    line = [lm.tokenizer.eos_id, *tokens, lm.tokenizer.eos_id]
    logits, _ = lm.reader(torch.tensor([line]))
    logs = logits[0].double().log_softmax(-1)
    return float(sum(logs[place, token] for place, token in enumerate(line[1:])))


@pytest.mark.parametrize("seed", SEEDS)
def test_without_weights_the_order_is_the_lattices(seed: int) -> None:
    lattice = random_lattice(seed)
    config = RerankConfig(lm_scale=0.0, memory_scale=0.0)
    found = Reranker(random_lm(), config).rerank(lattice, n=8)
    expected = n_best(lattice, 8)
    assert [one.text for one in found.hypotheses] == [path.text for path in expected]
    assert [one.arcs for one in found.hypotheses] == [path.arcs for path in expected]
    assert found.text == found.one_best == best_path(lattice).text
    for one, path in zip(found.hypotheses, expected, strict=True):
        assert one.score == pytest.approx(path.score)


@pytest.mark.parametrize("seed", range(4))
def test_listed_sentences_are_the_best_by_the_biases_weight(seed: int) -> None:
    lattice = random_lattice(seed, extra=9)
    config = RerankConfig(lm_scale=0.0, bias_scale=0.0, whole=False, texts=4)
    found = Reranker(random_lm(), config).rerank(lattice, n=4)
    expected = n_best(lattice, 4, bias_scale=0.0)
    assert [one.arcs for one in found.hypotheses] == [path.arcs for path in expected]


@pytest.mark.parametrize("whole", [True, False])
def test_an_oracle_reaches_the_oracle_error(whole: bool) -> None:
    """0 nats for the sentence nearest to what was said, -100 for any other."""
    edits, best, reached = 0, 0, 0
    for seed in SEEDS:
        lattice = command_lattice(seed, words=COMMAND[:5], rivals=4)
        rng = np.random.default_rng(seed)
        said = rng.permutation(list(best_by_text(lattice)))[0].split()
        said[1] = "zebra"  # which no path has
        near, path = oracle(lattice, said)
        lm = oracle_lm(path.text)
        config = EVERYTHING.replace(lm_scale=1.0, whole=whole, texts=1 if whole else 10_000)
        found = Reranker(lm, config).rerank(lattice)
        assert found.text == path.text
        assert found.best.lm == pytest.approx(0.0, abs=1e-9)
        edits += near
        best += oracle(take_arcs(lattice, in_path(lattice, best_path(lattice).arcs)), said)[0]
        reached += oracle(take_arcs(lattice, in_path(lattice, found.best.arcs)), said)[0]
    assert reached == edits < best


def in_path(lattice: Lattice, arcs: tuple[int, ...]) -> np.ndarray:
    return np.isin(np.arange(lattice.arcs), arcs)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_whole_lattice_is_all_its_sentences(seed: int) -> None:
    lattice, lm = random_lattice(seed, extra=4), random_lm(seed)
    config = EVERYTHING.replace(lm_scale=0.7, word_bonus=0.9, bias_scale=0.5)
    best = best_by_text(lattice, bias_scale=0.5)
    scores = {
        text: score + 0.7 * by_definition(lm, text) + 0.9 * len(text.split())
        for text, score in best.items()
    }
    order = sorted(scores, key=lambda text: -scores[text])
    found = Reranker(lm, config).rerank(lattice, n=len(order))
    assert [one.text for one in found.hypotheses] == order
    for one in found.hypotheses:
        assert one.score == pytest.approx(scores[one.text], abs=1e-6)
        assert one.lm == pytest.approx(by_definition(lm, one.text), abs=1e-6)
        assert lattice.text(lattice.labels[list(one.arcs)]) == one.text
    # The search alone, before anything is scored whole, has the same order.
    tree = Reranker(lm, config).tree()
    alone = search(lattice, tree, config, len(order))
    assert [" ".join(one.words) for one in alone] == order


@pytest.mark.parametrize("seed", SEEDS)
def test_whole_lattice_and_expanded_n_best_agree(seed: int) -> None:
    lattice, lm = command_lattice(seed, words=COMMAND[:4], rivals=3), random_lm(seed)
    config = EVERYTHING.replace(lm_scale=0.3)
    listed = config.replace(whole=False, texts=10_000)
    assert (
        Reranker(lm, config).rerank(lattice, n=1).best
        == Reranker(lm, listed).rerank(lattice, n=1).best
    )


def test_merging_loses_little_and_saves_much() -> None:
    lattice, lm = command_lattice(3, rivals=5), random_lm(3)
    wide = EVERYTHING.replace(lm_scale=0.2, max_paths=60)
    narrow = wide.replace(history=1, max_paths=4, beam=6.0)
    trees = [Reranker(lm, config).tree() for config in (wide, narrow)]
    texts = [
        Reranker(lm, config).rerank(lattice, tree=tree).best.score
        for config, tree in zip((wide, narrow), trees, strict=True)
    ]
    assert trees[1].reads < trees[0].reads / 3
    assert texts[1] <= texts[0] + 1e-9
    assert texts[1] > texts[0] - 10.0


def test_a_tree_scores_nothing_twice() -> None:
    lattice = command_lattice(1)
    reranker = Reranker(random_lm())
    tree = reranker.tree()
    first = reranker.rerank(lattice, tree=tree)
    reads = tree.reads
    assert reads > 0
    assert reranker.rerank(lattice, tree=tree) == first
    assert tree.reads == reads


def test_dropped_states_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = command_lattice(2)
    reranker = Reranker(random_lm())
    first = reranker.rerank(lattice)
    monkeypatch.setattr("solomonic.serve.rescore.tree._HELD", 0)
    again = reranker.rerank(lattice)
    assert [one.text for one in again.hypotheses] == [one.text for one in first.hypotheses]
    for one, other in zip(again.hypotheses, first.hypotheses, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-9)


def test_a_beginning_and_its_own_beginning_are_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("solomonic.serve.rescore.tree._HELD", 0)
    lm = random_lm()
    tree = Reranker(lm).tree()
    turn, on, _ = tree.walk([["turn"], ["turn", "on"], ["turn", "on", "the"]])
    tree.extend([(tree.root, "another"), (tree.root, "word")])
    cells = tree.extend([(turn, "off"), (on, "all")])
    for cell, (found, _) in zip(cells, tree.ends(cells), strict=True):
        assert found == pytest.approx(by_definition(lm, " ".join(cell.words)), abs=1e-6)


@pytest.mark.parametrize("pattern", ["BM", "TD", "FW"])
def test_every_kind_of_layer(pattern: str) -> None:
    lattice, lm = random_lattice(4), random_lm(0, pattern)
    for one in Reranker(lm).rerank(lattice).hypotheses:
        assert one.lm == pytest.approx(by_definition(lm, one.text), abs=1e-6)


def test_words_of_several_tokens_and_of_one() -> None:
    text = " ".join(WORDS * 20)
    tokenizer = BpeTokenizer.train([text, "turn on the kitchen lights"], 300)
    assert len(tokenizer.encode(" the")) == 1 < len(tokenizer.encode(" kitchen"))
    lm = random_lm(0, tokenizer=tokenizer)
    lattice = command_lattice(0, words=("turn", "on", "the", "light", "in", "the", "kitchen"))
    reranker = Reranker(lm)
    assert reranker.whole
    for one in reranker.rerank(lattice).hypotheses:
        assert one.lm == pytest.approx(by_definition(lm, one.text), abs=1e-6)
        scored = score_text(lm.reader, tokenizer, one.text)
        assert one.lm < scored.log_prob  # the end costs something too


class Joined(ByteTokenizer):
    """Tokens that reach over the beginning of a word."""

    def _encode(self, data: bytes) -> list[int]:
        return list(data.replace(b"n ", b"\xff"))


def test_a_tokenizer_that_joins_words_is_found_out() -> None:
    lm = random_lm(0, tokenizer=Joined())
    reranker = Reranker(lm)
    assert not reranker.whole
    assert reranker.describe()["search"].endswith("best texts")


def test_capitals_of_other_programs() -> None:
    lattice = random_lattice(5)
    loud = Lattice(
        **{
            name: getattr(lattice, name)
            for name in ("frames", "sources", "targets", "labels", "acoustic", "bias")
        },
        symbols=tuple(symbol.upper() for symbol in lattice.symbols),
        frame_seconds=lattice.frame_seconds,
    )
    reranker = Reranker(random_lm())
    quiet, found = reranker.rerank(lattice), reranker.rerank(loud)
    assert found.text == quiet.text.upper()
    assert found.best.lm == quiet.best.lm


def test_a_lattice_is_cut_to_what_a_server_can_do() -> None:
    lattice, lm = command_lattice(1, rivals=5), random_lm()
    config = RerankConfig(texts=1)
    wide, cut, listed = (
        Reranker(lm, config.replace(max_arcs=most)) for most in (lattice.arcs, 20, 5)
    )
    reads = []
    for reranker in (wide, cut, listed):
        tree = reranker.tree()
        assert reranker.rerank(lattice, n=3, tree=tree).text
        reads.append(tree.reads)
    assert reads[0] > reads[1] > reads[2] > 0
    # All arcs as good: none to prefer.
    flat = dataclasses.replace(lattice, acoustic=lattice.acoustic * 0)
    tree = cut.tree()
    assert cut.rerank(flat, n=2, tree=tree).text
    assert search(flat, tree, cut.config, 2) == []
    assert tree.reads < reads[0]


def test_silence() -> None:
    node = np.zeros(1, np.int32)
    lattice = Lattice(np.array([0, 9]), node, node + 1, node, node - 1.0, node + 0.0, ("",), 0.06)
    found = Reranker(random_lm()).rerank(lattice)
    assert (found.text, found.one_best, len(found.hypotheses)) == ("", "", 1)
    assert found.best.lm == pytest.approx(by_definition(random_lm(), ""), abs=1e-6)


@needs_core
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_native_core_agrees(weights: str) -> None:
    lattice = command_lattice(1, rivals=4)
    slow, fast = random_lm(1), native_lm(1, weights)
    memories = [Memory.new(lm).read("turn on the churn") for lm in (slow, fast)]
    for memory in (False, True):
        plain, quick = (
            Reranker(lm).rerank(lattice, own if memory else None)
            for lm, own in zip((slow, fast), memories, strict=True)
        )
        for one in plain.hypotheses:
            same = [other for other in quick.hypotheses if other.text == one.text]
            if same:
                limit = 1e-3 if weights == "float32" else 6.0
                assert same[0].lm == pytest.approx(one.lm, abs=limit)
                assert same[0].memory == pytest.approx(one.memory, abs=limit)
        assert weights == "int8" or quick.text == plain.text


def test_as_json() -> None:
    record = Reranker(random_lm()).rerank(random_lattice(0)).to_json()
    assert set(record) == {"text", "one_best", "arcs", "hypotheses", "memory_hits"}
    assert set(record["hypotheses"][0]) >= {"text", "arcs", "acoustic", "lm", "score"}


def test_bad_input(tmp_path: Path) -> None:
    lm = random_lm()
    lattice = random_lattice(0)
    with pytest.raises(DataError, match="lattice of words"):
        Reranker(lm).rerank(random_lattice(0, symbols=("▁a", "b", "▁c", "")))
    with pytest.raises(ConfigError, match="at least 1"):
        Reranker(lm).rerank(lattice, n=0)
    with pytest.raises(ConfigError, match="needs the recogniser"):
        Reranker(lm, RerankConfig(internal_scale=0.1))
    with pytest.raises(ConfigError, match="another language model"):
        Reranker(lm).rerank(lattice, Memory.new(random_lm(1)))
    with pytest.raises(ConfigError, match="another memory or other settings"):
        Reranker(lm).rerank(lattice, Memory.new(lm), tree=Reranker(lm).tree())
    with pytest.raises(ConfigError, match="another memory or other settings"):
        Reranker(lm).rerank(lattice, tree=Reranker(lm, RerankConfig(lm_scale=2.0)).tree())
    for wrong in ({"lm_scale": -1}, {"share": 1.0}, {"recall": 2}, {"history": 0}, {"beam": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            RerankConfig(**wrong)
    assert math.isfinite(Reranker(lm).rerank(lattice).best.score)
