"""Best paths, n-best, words, posteriors, oracle and pruning against every path by brute force."""

import numpy as np
import pytest

from lattice_support import (
    PIECES,
    WORDS,
    all_paths,
    best_by_text,
    command_lattice,
    random_lattice,
    said,
)
from solomonic.core import ConfigError, DataError
from solomonic.speech.lattice import (
    Arc,
    Lattice,
    arc_confidences,
    arc_losses,
    arc_posteriors,
    best_path,
    build_lattice,
    density,
    frame_cut,
    n_best,
    node_cut,
    oracle,
    oracle_errors,
    prune,
    word_confidences,
    word_lattice,
)

SEEDS = range(25)
SCALES = ({}, {"acoustic_scale": 0.5, "bias_scale": 0.0}, {"bias_scale": 2.0})


def lattices(seed: int) -> list[Lattice]:
    """One of words and one of pieces."""
    return [random_lattice(seed, symbols=symbols) for symbols in (WORDS, PIECES)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scales", SCALES)
def test_best_path_is_the_best_of_all(seed: int, scales: dict[str, float]) -> None:
    for lattice in lattices(seed):
        scores = lattice.scores(**scales)
        best = max(float(scores[list(arcs)].sum()) for arcs in all_paths(lattice))
        path = best_path(lattice, **scales)
        assert path.arcs in set(all_paths(lattice))
        assert path.score == best == scores[list(path.arcs)].sum()
        assert path.acoustic == lattice.acoustic[list(path.arcs)].sum()
        assert path.bias == lattice.bias[list(path.arcs)].sum()
        assert path.text == said(lattice, path.arcs)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scales", SCALES)
def test_n_best_are_the_distinct_texts_in_order(seed: int, scales: dict[str, float]) -> None:
    for lattice in lattices(seed):
        expected = best_by_text(lattice, **scales)
        for n in (1, 3, len(expected) + 5):
            paths = n_best(lattice, n, **scales)
            assert len({path.text for path in paths}) == len(paths) == min(n, len(expected))
            assert [path.score for path in paths] == sorted(expected.values(), reverse=True)[:n]
            assert all(expected[path.text] == path.score for path in paths)
            assert all(said(lattice, path.arcs) == path.text for path in paths)


def test_n_best_does_not_drown_in_paths_that_say_the_same() -> None:
    # 3 ** 40 paths, 41 texts that matter little: only one text is cheap.
    arcs = [
        Arc(node, node + 1, word, score)
        for node in range(40)
        for word, score in (("a", 0.0), ("a", -0.001), ("b", -1.0))
    ]
    lattice = build_lattice(list(range(41)), arcs, 40, frame_seconds=0.06)
    paths = n_best(lattice, 5)
    assert paths[0].text == " ".join("a" * 40)
    assert [path.score for path in paths] == pytest.approx([0.0, -1.0, -1.0, -1.0, -1.0])


def test_n_best_refuses_nothing() -> None:
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        n_best(random_lattice(0), 0)


@pytest.mark.parametrize("seed", range(60))
def test_words_keep_the_best_score_of_every_text(seed: int) -> None:
    for lattice in lattices(seed):
        words = word_lattice(lattice)
        expected = best_by_text(lattice)
        assert best_by_text(words) == expected
        assert [path.score for path in n_best(words, 5)] == [
            path.score for path in n_best(lattice, 5)
        ]
        silent = np.flatnonzero(words.labels == 0)
        assert len(silent) == ("" in expected)
        assert all(words.sources[silent] == 0) and all(words.targets[silent] == words.nodes - 1)
        assert not words.is_pieces and not any(" " in symbol for symbol in words.symbols)
        triples = list(zip(words.sources, words.targets, words.labels, strict=True))
        assert len(set(triples)) == len(triples)
        assert word_lattice(words) == words


def test_words_have_the_frames_of_their_pieces() -> None:
    arcs = [
        Arc(0, 1, "▁tur", -1.0),
        Arc(1, 2, "n", -0.5, 0.25),
        Arc(2, 3, "▁on", -0.25),
        Arc(3, 4, "", -0.125),
        Arc(1, 4, "k", -4.0),
    ]
    lattice = build_lattice([0, 5, 7, 9, 20], arcs, 4, frame_seconds=0.06)
    words = word_lattice(lattice)
    found = {
        words.symbols[label]: (tuple(span), acoustic, bias)
        for label, span, acoustic, bias in zip(
            words.labels,
            words.arc_spans().tolist(),
            words.acoustic.tolist(),
            words.bias.tolist(),
            strict=True,
        )
    }
    assert found == {
        "turn": ((5, 8), -1.5, 0.25),
        "on": ((9, 10), -0.375, 0.0),
        "turk": ((5, 21), -5.0, 0.0),
    }
    assert words.frames.tolist() == [0, 7, 20]


def test_a_piece_without_a_mark_at_the_start_begins_a_word() -> None:
    arcs = [Arc(0, 1, "o", -1.0), Arc(1, 2, "n", -1.0), Arc(2, 3, "▁", -1.0), Arc(3, 4, "", 0.0)]
    lattice = build_lattice([0, 1, 2, 3, 9], arcs, 4, frame_seconds=0.06)
    assert [path.text for path in n_best(word_lattice(lattice), 3)] == ["on"]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scales", SCALES)
def test_posteriors_are_shares_of_all_paths(seed: int, scales: dict[str, float]) -> None:
    lattice = random_lattice(seed)
    scores = lattice.scores(**scales)
    paths = list(all_paths(lattice))
    weights = np.exp([scores[list(arcs)].sum() for arcs in paths])
    expected = np.zeros(lattice.arcs)
    for arcs, weight in zip(paths, weights, strict=True):
        expected[list(arcs)] += weight
    posteriors = arc_posteriors(lattice, **scales)
    np.testing.assert_allclose(posteriors, expected / weights.sum(), atol=1e-12)
    for frame in range(int(lattice.frames[-1])):
        assert posteriors[frame_cut(lattice, frame)].sum() == pytest.approx(1.0, abs=1e-12)
    for node in range(lattice.nodes - 1):
        assert posteriors[node_cut(lattice, node)].sum() == pytest.approx(1.0, abs=1e-12)
    first = frame_cut(lattice, 0)
    assert all(first[list(arcs)].sum() == 1 for arcs in paths)
    assert not frame_cut(lattice, int(lattice.frames[-1])).any()


def test_posteriors_of_scores_far_from_zero() -> None:
    lattice = random_lattice(3, spread=20_000.0)
    posteriors = arc_posteriors(lattice)
    assert np.isfinite(posteriors).all()
    assert posteriors[node_cut(lattice, 2)].sum() == pytest.approx(1.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_confidence_is_the_largest_share_of_a_word_at_a_cut(seed: int) -> None:
    lattice = random_lattice(seed, spread=2.0)
    posteriors = arc_posteriors(lattice)
    confidences = arc_confidences(lattice, posteriors)
    for arc in range(lattice.arcs):
        cuts = range(lattice.sources[arc], lattice.targets[arc])
        same = lattice.labels == lattice.labels[arc]
        expected = max(posteriors[same & node_cut(lattice, node)].sum() for node in cuts)
        assert confidences[arc] == pytest.approx(expected)
    assert (confidences >= posteriors).all() and (confidences <= 1.0).all()


def test_confidence_adds_the_same_word_at_other_times() -> None:
    half = float(np.log(0.5))
    arcs = [
        Arc(0, 1, "on", half),
        Arc(0, 2, "on", half),
        Arc(1, 3, "now", 0.0),
        Arc(2, 3, "", half),
        Arc(2, 3, "no", half),
    ]
    lattice = build_lattice([0, 4, 5, 9], arcs, 3, frame_seconds=0.06)
    assert arc_posteriors(lattice).max() == pytest.approx(0.5)
    path = best_path(lattice)
    assert path.words == ("on", "now")
    assert word_confidences(lattice, path) == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("seed", SEEDS)
def test_oracle_is_the_least_edits_over_all_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = random_lattice(seed)
    paths = list(all_paths(lattice))
    for length in (0, 1, 3, 5):
        reference = [("turn", "on", "off", "the", "radio")[k] for k in rng.integers(0, 5, length)]
        distances = [word_edits(said(lattice, arcs).split(), reference) for arcs in paths]
        edits, path = oracle(lattice, reference)
        assert edits == min(distances) == word_edits(list(path.words), reference)
        near = [arcs for arcs, found in zip(paths, distances, strict=True) if found == edits]
        assert path.score == max(lattice.scores()[list(arcs)].sum() for arcs in near)


def word_edits(said: list[str], reference: list[str]) -> int:
    """Levenshtein distance, the plain recursion by rows."""
    row = list(range(len(reference) + 1))
    for index, word in enumerate(said):
        before, row = row, [index + 1]
        for column, wanted in enumerate(reference):
            row.append(min(before[column] + (word != wanted), before[column + 1] + 1, row[-1] + 1))
    return row[-1]


def test_oracle_errors_of_a_corpus() -> None:
    pairs = [(random_lattice(seed), ["turn", "on", "radio"]) for seed in range(4)]
    total = oracle_errors(pairs)
    assert total.words == 12
    assert total.edits == sum(oracle(lattice, words)[0] for lattice, words in pairs)
    assert total.rate == total.edits / 12
    with pytest.raises(DataError, match="no words"):
        oracle_errors([(random_lattice(0), [])])
    with pytest.raises(DataError, match="word_lattice"):
        oracle(random_lattice(0, symbols=PIECES), ["a"])


def test_oracle_is_never_worse_than_n_best_nor_that_than_the_best_path() -> None:
    for seed in range(10):
        lattice, reference = command_lattice(seed), ["turn", "off", "the", "light", "in"]
        best = word_edits(list(best_path(lattice).words), reference)
        nearest = min(word_edits(list(p.words), reference) for p in n_best(lattice, 5))
        assert oracle(lattice, reference)[0] <= nearest <= best


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("beam", [0.0, 2.0, 5.0, 100.0])
def test_pruning_keeps_the_arcs_of_paths_within_the_beam(seed: int, beam: float) -> None:
    lattice = random_lattice(seed)
    scores = lattice.scores()
    paths = {arcs: float(scores[list(arcs)].sum()) for arcs in all_paths(lattice)}
    best = max(paths.values())
    over = [
        best - max(score for arcs, score in paths.items() if arc in arcs)
        for arc in range(lattice.arcs)
    ]
    np.testing.assert_allclose(arc_losses(lattice), over, atol=1e-9)
    pruned = prune(lattice, beam)
    assert pruned.arcs == sum(loss <= beam for loss in over)
    assert best_path(pruned).text == best_path(lattice).text
    kept = {(said(lattice, arcs), score) for arcs, score in paths.items() if score >= best - beam}
    left = {
        (said(pruned, arcs), float(pruned.scores()[list(arcs)].sum())) for arcs in all_paths(pruned)
    }
    assert kept <= left


def test_pruning_survives_rounding() -> None:
    for seed in range(20):
        lattice = command_lattice(seed)
        path = best_path(lattice)
        assert best_path(prune(lattice, 0.0)).words == path.words
    with pytest.raises(ConfigError, match="at least 0"):
        prune(lattice, -1.0)
    with pytest.raises(ConfigError, match="at least 0"):
        prune(lattice, float("nan"))


def test_density_counts_labels() -> None:
    lattice = random_lattice(1)
    assert density(lattice, 4) == np.count_nonzero(lattice.labels) / 4
    with pytest.raises(ConfigError, match="at least 1 word"):
        density(lattice, 0)


def spelling_lattice(length: int, ties: bool = False, words: int = 2) -> Lattice:
    """Words of `length` pieces, any of three at every place: 3 ** length spellings of each."""
    rng = np.random.default_rng(length)
    arcs, node = [], 0
    for _ in range(words):
        arcs.append(Arc(node, node + 1, "▁x", -0.5))
        for place in range(node + 1, node + length):
            for piece in "aéc":
                score = 0.0 if ties else -round(float(rng.exponential(2.0)) * 64) / 64
                arcs.append(Arc(place, place + 1, piece, score))
        node += length
    return build_lattice(list(range(node + 1)), arcs, node, frame_seconds=0.06)


def test_a_lattice_that_spells_everything_is_built_within_a_beam() -> None:
    pieces = spelling_lattice(20)
    words = word_lattice(pieces, 4000)
    assert 10 < words.arcs < 4000
    expected, found = n_best(pieces, 10), n_best(words, 10)
    assert found[0].text == expected[0].text
    assert [path.score for path in found] == [path.score for path in expected]
    wider = word_lattice(pieces, 16000)
    assert wider.arcs > 2 * words.arcs
    triples = [
        {(*pair, lattice.symbols[label]) for *pair, label in columns.tolist()}
        for lattice in (words, wider)
        for columns in [np.stack([lattice.frames[lattice.sources],
                                  lattice.frames[lattice.targets], lattice.labels], axis=1)]
    ]  # fmt: skip
    assert triples[0] < triples[1]


def test_of_too_many_that_are_equally_good_the_best_path_is_left() -> None:
    pieces = spelling_lattice(20, ties=True)
    words = word_lattice(pieces, 500)
    assert words.arcs == 2
    assert n_best(words, 2)[0].text == best_path(pieces).text


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_of_words_leaves_the_best_path(seed: int) -> None:
    pieces = random_lattice(seed, nodes=12, extra=20, symbols=PIECES)
    expected = best_by_text(pieces)
    counts = []
    for limit in (5, 20, 80, 320, None):
        found = best_by_text(word_lattice(pieces, limit))
        counts.append(len(found))
        assert max(found.values()) == max(expected.values())
        # A way may be beyond the beam where a worse one for the same text is not: its parts are.
        assert all(score <= expected[text] for text, score in found.items())
    assert counts == sorted(counts) and counts[-1] == len(expected)


def test_a_limit_of_words_is_at_least_one_step() -> None:
    with pytest.raises(ConfigError, match="at least 1 step, not 0"):
        word_lattice(random_lattice(0), 0)
