"""The search itself, against sums and maxima over all alignments that are counted one by one."""

import itertools
import random

import pytest

from decode_toy import EXACT, INF, LastTwo, Recurrent, Toy, decode, decoder, labels
from solomonic.core import ConfigError
from solomonic.speech.decode import DecodeConfig


def every_sequence(size: int, longest: int) -> list[tuple[int, ...]]:
    tokens = range(1, size)
    return [s for n in range(longest + 1) for s in itertools.product(tokens, repeat=n)]


@pytest.mark.parametrize("seed", range(4))
def test_without_limits_it_is_the_exact_sum_over_alignments(seed: int) -> None:
    toy = Toy(seed)
    acoustic = toy.audio(3)
    search = decode(decoder(toy, max_symbols=2), acoustic)
    found = {tuple(hyp.prefix.tokens()): hyp for hyp in search.hyps}
    expected = every_sequence(toy.size, 6)
    assert set(found) == set(expected)
    exact = {tokens: toy.full_score(acoustic[0], tokens, 2) for tokens in expected}
    for tokens in expected:
        assert found[tokens].mass == pytest.approx(exact[tokens], abs=1e-10)
        best = toy.full_score(acoustic[0], tokens, 2, join=max)
        assert found[tokens].score == pytest.approx(best, abs=1e-10)
    assert labels(search) == max(exact, key=lambda tokens: exact[tokens])
    nbest = decoder(toy, max_symbols=2).finish(search).nbest
    scores = [hypothesis.log_prob for hypothesis in nbest]
    assert scores == sorted(scores, reverse=True)
    assert nbest[0].tokens == labels(search)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bonus", [0.7, -0.4])
def test_the_bonus_is_added_to_every_label_and_to_nothing_else(seed: int, bonus: float) -> None:
    toy = Toy(seed)
    acoustic = toy.audio(3)
    made = decoder(toy, max_symbols=2, label_bonus=bonus)
    search = decode(made, acoustic)
    for hyp in search.hyps:
        tokens = tuple(hyp.prefix.tokens())
        exact = toy.full_score(acoustic[0], tokens, 2) + bonus * len(tokens)
        assert hyp.mass == pytest.approx(exact, abs=1e-10)
    for hypothesis in made.finish(search).nbest[:5]:
        table = toy.log_probs(acoustic[0], hypothesis.tokens)
        steps = zip(
            hypothesis.frames, range(len(hypothesis.tokens)), hypothesis.tokens, strict=True
        )
        own = [table[t, u, k] for t, u, k in steps]
        assert hypothesis.log_probs == pytest.approx(own, abs=1e-10)
        assert all(0 <= word.confidence <= 1 for word in hypothesis.words)


def test_a_bonus_brings_labels_to_greedy_search_too() -> None:
    counts = []
    for bonus in (-1.0, 0.0, 1.0):
        made = [Toy(seed, size=5, sharp=2.0, blank=3.0) for seed in range(10)]
        config = DecodeConfig(method="greedy", label_bonus=bonus)
        found = [labels(decode(decoder(toy, config), toy.audio(15))) for toy in made]
        counts.append(sum(map(len, found)))
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_with_its_pruning_finds_the_best_of_all(seed: int) -> None:
    toy = Toy(seed, sharp=3.0)
    acoustic = toy.audio(4)
    search = decode(decoder(toy, DecodeConfig(beam=64, label_context=0, max_symbols=2)), acoustic)
    every = every_sequence(toy.size, 8)
    best = max(every, key=lambda tokens: toy.full_score(acoustic[0], tokens, 2))
    assert labels(search) == best
    exact = toy.full_score(acoustic[0], best, 2)
    assert exact - 0.1 < search.best.mass <= exact + 1e-9


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("predictor", [LastTwo, Recurrent])
def test_a_beam_of_one_is_greedy(seed: int, predictor: type) -> None:
    toy = Toy(seed, size=5, sharp=1 + seed % 4, blank=seed % 3, predictor=predictor)
    acoustic = toy.audio(15)
    greedy = decode(decoder(toy, DecodeConfig(method="greedy")), acoustic)
    beam = decode(decoder(toy, DecodeConfig(beam=1)), acoustic)
    assert labels(beam) == labels(greedy)
    assert (beam.best.mass, beam.best.score) == (greedy.best.mass, greedy.best.score)
    # And greedy is what it is said to be.
    tokens, frames = labels(greedy), []
    node = greedy.best.node
    while node.ways:
        frames.append(node.frame)
        node = node.ways[0].source
    score = toy.alignment_score(acoustic[0], tokens, tuple(reversed(frames)))
    assert greedy.best.score == pytest.approx(score, abs=1e-9)


def test_the_beam_never_scores_worse_than_greedy() -> None:
    better = 0
    for seed in range(60):
        draw = random.Random(seed)
        toy = Toy(
            seed,
            size=draw.choice([3, 5, 9]),
            sharp=draw.choice([0.5, 1, 2, 4]),
            blank=draw.choice([0, 1, 2]),
        )
        acoustic = toy.audio(draw.choice([5, 12, 25]))
        config = DecodeConfig(
            beam=draw.choice([1, 2, 4, 8]),
            label_context=draw.choice([0, 1, 2, 4]),
            stable_frames=draw.choice([0, 3]),
            expand_beam=draw.choice([1.0, 5.0]),
            state_beam=draw.choice([0.5, 8.0]),
        )
        beam = decode(decoder(toy, config), acoustic)
        greedy = decode(decoder(toy, config.replace(method="greedy")), acoustic)
        stable = tuple(beam.stability.prefix.tokens())
        if labels(greedy)[: len(stable)] != stable:
            continue  # words said to be stable come first
        assert beam.best.mass >= greedy.best.mass - 1e-9, seed
        better += beam.best.mass > greedy.best.mass + 0.01
    assert better > 20, "the beam found nothing that greedy had not"


def test_path_merging_over_all_that_counts_loses_nothing() -> None:
    """When only the last two labels count, hypotheses that share two stay in order for ever."""
    for seed in range(5):
        toy = Toy(seed, sharp=2.0, blank=1.0, predictor=LastTwo)
        acoustic = toy.audio(6)
        free = decode(decoder(toy, max_symbols=1), acoustic)
        merged = decode(decoder(toy, max_symbols=1, label_context=2), acoustic)
        assert len(merged.hyps) < len(free.hyps) == 2**7 - 1
        assert labels(merged) == labels(free)
        contexts = [hyp.prefix.context for hyp in merged.hyps if hyp.prefix is not merged.greedy]
        assert len(set(contexts)) == len(contexts)


def test_at_most_max_symbols_labels_come_in_one_frame() -> None:
    toy = Toy(1, size=4, blank=-8.0)  # it would never stop
    acoustic = toy.audio(4)
    greedy = decode(decoder(toy, DecodeConfig(method="greedy", max_symbols=3)), acoustic)
    assert greedy.best.prefix.depth == 12
    assert greedy.best.score < -4 * 7.0, "the blanks that were forced are paid for"
    search = decode(decoder(toy, EXACT.replace(max_symbols=2, beam=500)), acoustic)
    assert max(hyp.prefix.depth for hyp in search.hyps) == 8


def test_pruning_limits_what_is_kept() -> None:
    toy = Toy(3, size=9, sharp=0.5)
    acoustic = toy.audio(6)
    for beam in (2, 5):
        config = EXACT.replace(beam=beam, max_symbols=2)
        assert len(decode(decoder(toy, config), acoustic).hyps) == beam
    narrow = decode(decoder(toy, EXACT.replace(beam=50, state_beam=4.0)), acoustic)
    totals = [hyp.total for hyp in narrow.hyps if hyp.prefix is not narrow.greedy]
    assert 1 < len(totals) < 50
    assert min(totals) >= narrow.best.total - 4.0
    quiet = Toy(3, size=9, sharp=0.5, blank=6.0)  # the blank always is the best step
    assert len(decode(decoder(quiet, EXACT.replace(max_symbols=1)), acoustic[:, :2]).hyps) > 50
    few = decode(decoder(quiet, EXACT.replace(max_symbols=1, expand_beam=1.0)), acoustic[:, :2])
    assert len(few.hyps) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "viterbi"}, "'viterbi' is unknown; use one of beam, greedy"),
        ({"beam": 0}, "beam = 0 must be at least 1"),
        ({"max_symbols": 0}, "max_symbols = 0 must be at least 1"),
        ({"state_beam": 0.0}, "state_beam = 0.0 must be above 0"),
        ({"expand_beam": float("nan")}, "expand_beam = nan must be above 0"),
        ({"label_bonus": INF}, "label_bonus = inf must be a finite number"),
        ({"label_context": -1}, "label_context = -1 must be at least 0"),
        ({"confidence_scale": INF}, "confidence_scale = inf must be a number above 0"),
    ],
)
def test_bad_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DecodeConfig(**changes)
