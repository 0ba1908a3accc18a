"""Lattices that the decoder records: true scores, all of the N-best list, and more."""

import random

import numpy as np
import pytest

from decode_toy import INF, LastTwo, Recurrent, Toy, decode, decoder
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.lattice.graph import Lattice


def paths(
    lattice: Lattice, most: int = 3000
) -> list[tuple[tuple[str, ...], tuple[int, ...], float, float]]:
    """(pieces, frames of their arcs, acoustic, bias) of every path, or of the first ones."""
    out: list[list[int]] = [[] for _ in range(lattice.nodes)]
    for arc, source in enumerate(lattice.sources.tolist()):
        out[source].append(arc)
    spans = lattice.arc_spans()
    found = []
    stack: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    while stack and len(found) < most:
        node, arcs = stack.pop()
        if node == lattice.nodes - 1:
            labelled = [arc for arc in arcs if lattice.labels[arc]]
            found.append(
                (
                    tuple(lattice.symbols[lattice.labels[arc]] for arc in labelled),
                    tuple(int(spans[arc, 0]) for arc in labelled),
                    float(lattice.acoustic[list(arcs)].astype(np.float64).sum()),
                    float(lattice.bias[list(arcs)].astype(np.float64).sum()),
                )
            )
        stack += [(int(lattice.targets[arc]), (*arcs, arc)) for arc in out[node]]
    return found


def path_score(lattice: Lattice, pieces: tuple[str, ...], frames: tuple[int, ...]) -> float:
    """The best acoustic score of a path with these pieces in these frames; -inf: there is none."""
    spans = lattice.arc_spans()
    best: list[dict[int, float]] = [{} for _ in range(lattice.nodes)]
    best[0][0] = 0.0
    for arc, (source, target) in enumerate(zip(lattice.sources, lattice.targets, strict=True)):
        label = lattice.symbols[lattice.labels[arc]]
        for done, score in best[source].items():
            if label and (pieces[done:][:1], frames[done:][:1]) != ((label,), (spans[arc, 0],)):
                continue
            after, total = done + bool(label), score + float(lattice.acoustic[arc])
            best[target][after] = max(best[target].get(after, -INF), total)
    return best[-1].get(len(pieces), -INF)


@pytest.mark.parametrize("seed", range(8))
def test_every_path_has_the_score_of_its_alignment(seed: int) -> None:
    """With a model that sees two labels, paths that were merged are true hypotheses."""
    toy = Toy(seed, size=5, sharp=2.0, blank=2.5, predictor=LastTwo)
    acoustic = toy.audio(14)
    made = decoder(toy, DecodeConfig(label_context=2, state_beam=12.0, lattice_beam=12.0))
    result = made.finish(decode(made, acoustic))
    assert result.lattice is not None
    number = {piece: i for i, piece in enumerate(made.pieces.pieces)}
    every = paths(result.lattice)
    merged = len({pieces for pieces, *_ in every})
    assert merged > 8, "path merging left nothing aside"
    for pieces, frames, score, _ in random.Random(seed).sample(every, min(len(every), 150)):
        tokens = tuple(number[piece] for piece in pieces)
        assert score == pytest.approx(toy.alignment_score(acoustic[0], tokens, frames), abs=1e-4)
    assert (result.lattice.acoustic <= 1e-6).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("context", [0, 1, 3])
def test_the_nbest_list_is_in_the_lattice_with_its_scores(seed: int, context: int) -> None:
    toy = Toy(seed, size=6, sharp=2.0, blank=2.0, predictor=Recurrent)
    acoustic = toy.audio(15)
    made = decoder(toy, DecodeConfig(label_context=context))
    search = decode(made, acoustic)
    result = made.finish(search)
    assert result.lattice is not None
    for hypothesis in result.nbest:
        pieces = tuple(made.pieces.pieces[token] for token in hypothesis.tokens)
        found = path_score(result.lattice, pieces, hypothesis.frames)
        assert hypothesis.acoustic == pytest.approx(found, abs=1e-4)
        exact = toy.alignment_score(acoustic[0], hypothesis.tokens, hypothesis.frames)
        if context == 0:
            assert hypothesis.acoustic == pytest.approx(exact, abs=1e-9)
        assert hypothesis.acoustic <= hypothesis.log_prob + 1e-9 or context
        assert sum(hypothesis.log_probs) >= hypothesis.acoustic - 1e-9
    best = result.nbest[0]
    assert best.tokens == tuple(search.best.prefix.tokens())
    assert best.log_prob == pytest.approx(search.best.mass)
    assert best.acoustic == pytest.approx(search.best.score)
    assert best.acoustic == pytest.approx(
        toy.alignment_score(acoustic[0], best.tokens, best.frames)
    ), "the best hypothesis is never a mixture of histories"
    texts = [hypothesis.text for hypothesis in result.nbest]
    assert len(set(texts)) == len(texts)
    scores = [hypothesis.score for hypothesis in result.nbest]
    assert scores == sorted(scores, reverse=True)


def test_path_merging_makes_room_for_more_readings() -> None:
    more = 0
    for seed in range(10):
        toy = Toy(seed, size=6, sharp=2.0, blank=2.5, predictor=LastTwo)
        acoustic = toy.audio(30)
        merged = decoder(toy, DecodeConfig(label_context=2))
        tree = decoder(toy, DecodeConfig(label_context=0))
        readings = []
        for made in (merged, tree):
            lattice = made.finish(decode(made, acoustic)).lattice
            assert lattice is not None
            readings.append(len({pieces for pieces, *_ in paths(lattice)}))
        more += readings[0] > readings[1]
        assert readings[1] <= 8
    assert more >= 7


def test_confidence_is_the_posterior_of_the_acoustic_scores() -> None:
    """Of all paths, counted one by one."""
    doubtful = 0
    for seed in range(6):
        toy = Toy(seed, size=5, sharp=2.0, blank=2.5, predictor=LastTwo)
        made = decoder(toy, DecodeConfig(label_context=2, lattice_beam=6.0, confidence_scale=0.7))
        result = made.finish(decode(made, toy.audio(9)))
        assert result.lattice is not None
        every = paths(result.lattice)
        assert len(every) < 3000, "too many to count"
        weights = np.exp(0.7 * np.array([score for _, _, score, _ in every]))
        weights /= weights.sum()
        for hypothesis in result.nbest:
            certain = []
            for token, frame in zip(hypothesis.tokens, hypothesis.frames, strict=True):
                piece = made.pieces.pieces[token]
                counts = [
                    sum(p == piece and abs(f - frame) <= 3 for p, f in zip(ps, fs, strict=True))
                    for ps, fs, _, _ in every
                ]
                certain.append(min(1.0, float(weights @ counts)))
            for word in hypothesis.words:
                assert 0.0 <= word.confidence <= 1.0
                assert any(word.confidence == pytest.approx(c, abs=1e-4) for c in certain)
        doubtful += sum(word.confidence < 0.99 for h in result.nbest for word in h.words)
    assert doubtful > 20


def test_without_a_lattice_confidence_is_the_least_probability_of_a_piece() -> None:
    toy = Toy(3, size=6, sharp=2.5, blank=1.0)
    acoustic = toy.audio(20)
    for config in (DecodeConfig(lattice=False), DecodeConfig(method="greedy")):
        made = decoder(toy, config)
        search = decode(made, acoustic)
        best = made.finish(search).nbest[0]
        assert best.words
        assert [w.text for w in best.words] == [w.text for w in made.partial(search).words]
        table = toy.log_probs(acoustic[0], best.tokens)
        steps = zip(best.frames, range(len(best.tokens)), best.tokens, strict=True)
        among = [np.exp(table[t, u, k]) / (1 - np.exp(table[t, u, 0])) for t, u, k in steps]
        assert min(w.confidence for w in best.words) == pytest.approx(min(among), abs=1e-6)
    assert decoder(toy, DecodeConfig(lattice=False)).finish(search).lattice is None


def test_alternatives_are_limited() -> None:
    toy = Toy(1, size=8, sharp=1.0, blank=2.0, predictor=LastTwo)
    acoustic = toy.audio(25)
    arcs = []
    for most in (1, 3, 50):
        config = DecodeConfig(
            beam=8, label_context=1, alternatives=most, state_beam=30.0, lattice_beam=30.0
        )
        made = decoder(toy, config)
        lattice = made.finish(decode(made, acoustic)).lattice
        assert lattice is not None
        ways = np.bincount(lattice.targets)[1:-1]
        assert ways.max() <= most + 1
        arcs.append(lattice.arcs)
    assert arcs[0] < arcs[1] < arcs[2]


def test_a_lattice_does_not_change_the_search() -> None:
    for seed in range(5):
        toy = Toy(seed, size=5, sharp=2.0, blank=1.0)
        acoustic = toy.audio(20)
        results = [
            made.finish(decode(made, acoustic)).nbest[0]
            for made in (decoder(toy, DecodeConfig(lattice=on)) for on in (True, False))
        ]
        assert results[0].tokens == results[1].tokens
        assert results[0].log_prob == results[1].log_prob


def test_greedy_has_a_lattice_of_one_path() -> None:
    toy = Toy(3, size=6, sharp=2.5, blank=1.0)
    made = decoder(toy, DecodeConfig(method="greedy"))
    result = made.finish(decode(made, toy.audio(20)))
    assert result.lattice is not None
    ((pieces, frames, score, _),) = paths(result.lattice)
    assert pieces == tuple(made.pieces.pieces[token] for token in result.best.tokens)
    assert frames == result.best.frames
    assert score == pytest.approx(result.best.acoustic, abs=1e-4)
