"""Lattices that the decoder records: true scores, all of the N-best list, and more."""

import random

import numpy as np
import pytest

from decode_toy import INF, LastTwo, Recurrent, Toy, decode, decoder
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.lattice import (
    LatticeMessage,
    best_path,
    decode_message,
    encode_message,
    n_best,
    word_lattice,
)
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
def test_every_path_sums_over_its_alignments(seed: int) -> None:
    """With a model that sees two labels, paths that were merged are true hypotheses: each has at
    least the score of the alignment that is recorded, and few (alignments in which a label comes
    later are summed for the path that stayed) more than that of all its alignments."""
    toy = Toy(seed, size=5, sharp=2.0, blank=2.5, predictor=LastTwo)
    acoustic = toy.audio(14)
    made = decoder(toy, DecodeConfig(label_context=2, state_beam=12.0, lattice_beam=12.0))
    result = made.finish(decode(made, acoustic))
    assert result.lattice is not None
    number = {piece: i for i, piece in enumerate(made.pieces.pieces)}
    every = paths(result.lattice)
    merged = len({pieces for pieces, *_ in every})
    assert merged > 8, "path merging left nothing aside"
    over = []
    for pieces, frames, score, _ in random.Random(seed).sample(every, min(len(every), 150)):
        tokens = tuple(number[piece] for piece in pieces)
        assert score >= toy.alignment_score(acoustic[0], tokens, frames) - 1e-4
        over.append(score > toy.full_score(acoustic[0], tokens, 5) + 0.5)
    assert np.mean(over) < 0.05


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
        assert hypothesis.acoustic == pytest.approx(hypothesis.log_prob, abs=1e-9)
        single = toy.alignment_score(acoustic[0], hypothesis.tokens, hypothesis.frames)
        if context == 0:
            assert hypothesis.acoustic >= single - 1e-9
        assert sum(hypothesis.log_probs) >= single - 1e-9 or context
    best = result.nbest[0]
    assert best.tokens == tuple(search.best.prefix.tokens())
    assert best.log_prob == pytest.approx(search.best.mass)
    assert search.best.score == pytest.approx(
        toy.alignment_score(acoustic[0], best.tokens, best.frames)
    ), "the best hypothesis is never a mixture of histories"
    texts = [hypothesis.text for hypothesis in result.nbest]
    assert len(set(texts)) == len(texts)
    scores = [hypothesis.score for hypothesis in result.nbest]
    assert scores == sorted(scores, reverse=True)


def word_texts(lattice: Lattice, most: int) -> list[tuple[str, float]]:
    """Texts and scores of a piece lattice's best paths, as words."""
    return [(" ".join(path.words), path.score) for path in n_best(word_lattice(lattice), most)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("bonus", [0.0, -0.4])
def test_text_nbest_list_lattice_and_message_agree(seed: int, bonus: float) -> None:
    """The sum over alignments decides, everywhere: also where the best single alignment is that of
    another text, as it is in some of these."""
    toy = Toy(seed, size=6, sharp=1.5, blank=1.5, predictor=LastTwo)
    # A narrow lattice: these words may be of any length, so there may be very many of them.
    config = DecodeConfig(label_context=1, label_bonus=bonus, nbest=5, lattice_beam=3.0)
    made = decoder(toy, config)
    search = decode(made, toy.audio(15))
    result = made.finish(search)
    assert result.lattice is not None
    assert result.best.tokens == tuple(search.best.prefix.tokens())
    found = word_texts(result.lattice, 5)
    assert [text for text, _ in found] == [hypothesis.text for hypothesis in result.nbest]
    scores = [hypothesis.score for hypothesis in result.nbest]
    assert [score for _, score in found] == pytest.approx(scores, abs=1e-4)
    words = word_lattice(result.lattice)
    message = decode_message(encode_message(LatticeMessage(lattice=words), limit=120)).lattice
    assert message is not None
    assert best_path(message).text == best_path(words).text == result.best.text


def test_the_sum_and_the_best_alignment_do_differ() -> None:
    """Else the test above shows nothing."""
    differ = 0
    for seed in range(20):
        toy = Toy(seed, size=6, sharp=1.5, blank=1.5, predictor=LastTwo)
        search = decode(decoder(toy, DecodeConfig(label_context=1)), toy.audio(15))
        differ += max(search.hyps, key=lambda hyp: hyp.score) is not search.best
    assert differ > 2


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
