"""Biasing automata: what is paid is what the completed phrases are worth, exactly."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from solomonic.speech.biasing.carriers import Carriers, read_carriers
from solomonic.speech.biasing.grammar import BothGraphs, ClassGraph, ClassTree
from solomonic.speech.biasing.protocol import Bias
from solomonic.speech.biasing.trie import PhraseGraph

Tokens = tuple[int, ...]


def total(graph: Bias, tokens: Sequence[int]) -> float:
    state, paid = graph.start, 0.0
    for token in tokens:
        state, score = graph.step(state, token)
        paid += score
    return paid + graph.final(state)


def pieces_of(rng: random.Random) -> list[bool]:
    """Which of a few pieces start a word: the first always, the last never."""
    size = rng.randint(4, 8)
    return [False, True, *(rng.random() < 0.5 for _ in range(size - 3)), False]


def phrase_of(rng: random.Random, starts: list[bool], longest: int = 5) -> Tokens:
    first = rng.choice([v for v, is_start in enumerate(starts) if is_start])
    return (first, *(rng.randrange(1, len(starts)) for _ in range(rng.randrange(longest))))


def worth_of(rng: random.Random) -> float:
    return rng.randint(1, 9000) / 1024


def count_phrases(tokens: Tokens, phrases: dict[Tokens, float], starts: list[bool]) -> float:
    """The worth of all occurrences that end where a word ends, by looking everywhere."""
    return sum(
        worth
        for at in range(len(tokens))
        for phrase, worth in phrases.items()
        if tokens[at : at + len(phrase)] == phrase and ends_word(tokens, at + len(phrase), starts)
    )


def ends_word(tokens: Tokens, at: int, starts: list[bool]) -> bool:
    return at == len(tokens) or starts[tokens[at]]


def test_phrases_are_paid_exactly() -> None:
    rng, paid = random.Random(0), 0
    for _ in range(4000):
        starts = pieces_of(rng)
        phrases = {phrase_of(rng, starts): worth_of(rng) for _ in range(rng.randrange(7))}
        graph = PhraseGraph(list(phrases), list(phrases.values()), starts)
        tokens = tuple(rng.randrange(1, len(starts)) for _ in range(rng.randrange(30)))
        expected = count_phrases(tokens, phrases, starts)
        assert total(graph, tokens) == expected
        paid += expected > 0
    assert paid > 1000, "the cases hold phrases"


# Pieces: 1 "▁ann", 2 "a", 3 "▁new", 4 "▁york", 5 "▁an", 6 "n", 7 "▁city"
STARTS = [False, True, False, True, True, True, False, True]


def test_nothing_is_paid_inside_a_word() -> None:
    graph = PhraseGraph([(1,)], [2.0], STARTS)
    assert total(graph, (1,)) == 2.0
    assert total(graph, (1, 3)) == 2.0
    assert total(graph, (1, 2)) == 0.0, "anna"
    assert total(graph, (1, 2, 1)) == 2.0
    assert graph.step(0, 1) == (1, 2.0), "paid ahead"
    assert graph.step(1, 2) == (0, -2.0), "and taken back"


def test_a_phrase_in_two_segmentations_counts_once() -> None:
    graph = PhraseGraph([(1,), (5, 6)], [3.0, 3.0], STARTS)
    assert total(graph, (1,)) == total(graph, (5, 6)) == 3.0
    assert total(graph, (1, 5, 6)) == 6.0
    twice = PhraseGraph([(1,), (1,)], [1.0, 3.0], STARTS)
    assert total(twice, (1,)) == 3.0, "listed twice: the larger worth, once"


def test_a_phrase_stays_paid_while_a_longer_one_may_come() -> None:
    graph = PhraseGraph([(3, 4), (3, 4, 7)], [2.0, 4.5], STARTS)
    state, one = graph.step(0, 3)
    state, two = graph.step(state, 4)
    assert one + two == 3.0, "the most of what is on the way"
    assert one + two + graph.final(state) == 2.0
    assert total(graph, (3, 4, 7)) == 6.5, "both have come"
    assert total(graph, (3, 4, 1)) == 2.0
    assert total(graph, (3, 3, 4)) == 2.0, "the second beginning is found"


def test_scores_and_next_tokens_are_what_step_says() -> None:
    rng = random.Random(1)
    for _ in range(200):
        starts = pieces_of(rng)
        lists = [{phrase_of(rng, starts): worth_of(rng) for _ in range(4)} for _ in range(2)]
        phrases = PhraseGraph(list(lists[0]), list(lists[0].values()), starts)
        carriers, words, trees, _ = random_grammar(rng, starts)
        classes = ClassGraph(carriers, words, trees, starts)
        both = BothGraphs(phrases, len(phrases), classes)
        for graph in (phrases, classes, both):
            check_rows(graph, rng, starts)


def check_rows(graph: Bias, rng: random.Random, starts: list[bool]) -> None:
    state = graph.start
    for _ in range(12):
        row, further = graph.scores(state), set(graph.next_tokens(state))
        steps = [graph.step(state, token) for token in range(1, len(starts))]
        assert row.tolist() == [0.0, *(score for _, score in steps)]
        for kind in (True, False):
            idle = {
                row[token]
                for token in range(1, len(starts))
                if starts[token] == kind and token not in further
            }
            assert len(idle) <= 1, "pieces that lead nowhere all pay the same"
        state = steps[rng.randrange(len(steps))][0]


@pytest.mark.parametrize("kind", ["none", "empty"])
def test_no_phrases_pay_nothing(kind: str) -> None:
    graph = PhraseGraph([], [], STARTS) if kind == "none" else PhraseGraph([(3,)], [0.0], STARTS)
    assert total(graph, (1, 2, 3, 4)) == 0.0
    assert not np.any(graph.scores(0))


def random_grammar(
    rng: random.Random, starts: list[bool]
) -> tuple[Carriers, dict[str, list[Tokens]], dict[str, ClassTree], list[dict[Tokens, float]]]:
    """Carriers over the words w0.. and the classes @a and @b, and the entries of the classes."""
    inner = [v for v in range(1, len(starts)) if not starts[v]]
    spelled: dict[Tokens, None] = {}
    while len(spelled) < 4:
        first = phrase_of(rng, starts, 1)
        spelled[(*first, *(rng.choice(inner) for _ in range(rng.randrange(3))))] = None
    ways = list(spelled)
    words = {"w0": ways[:1], "w1": ways[1:2], "w2": ways[2:]}  # the last in two segmentations
    patterns = ["w0 @a", "w0 (w1|w2) @b", "[w2] @a w1 @b", "w1 @b @a", "w2 @a w0", "@b w1 w2 @a"]
    chosen = rng.sample(patterns, rng.randint(1, 3))
    lines = [f"{line} :{rng.choice(['0.5', '1', '1.75'])}" for line in chosen]
    entries = [
        {phrase_of(rng, starts, 4): worth_of(rng) for _ in range(rng.randint(0, 3))}
        for _ in range(2)
    ]
    trees = {
        name: ClassTree.grow(list(part), list(part.values()), len(starts))
        for name, part in zip("ab", entries, strict=True)
    }
    return read_carriers(lines), words, trees, entries


def count_entries(
    tokens: Tokens,
    carriers: Carriers,
    words: dict[str, list[Tokens]],
    entries: list[dict[Tokens, float]],
    starts: list[bool],
) -> float:
    """The worth of all entries after a carrier's beginning, by looking everywhere."""
    found: dict[tuple[str, int, int], float] = {}

    def look(node: int, at: int) -> None:
        if at < len(tokens) and starts[tokens[at]]:
            for word, to in carriers.words[node].items():
                for way in words[word]:
                    if matches(at, way):
                        look(to, at + len(way))
            for name, to in carriers.classes[node].items():
                for way, worth in entries["ab".index(name)].items():
                    if matches(at, way):
                        key, value = (name, at, at + len(way)), worth * carriers.factors[node, name]
                        found[key] = max(value, found.get(key, 0.0))
                        look(to, at + len(way))

    def matches(at: int, way: Tokens) -> bool:
        end = at + len(way)
        return tokens[at:end] == way and ends_word(tokens, end, starts)

    for at in range(len(tokens)):
        look(0, at)
    return sum(found.values())


def test_classes_are_paid_exactly() -> None:
    rng, paid = random.Random(2), 0
    for _ in range(4000):
        starts = pieces_of(rng)
        carriers, words, trees, entries = random_grammar(rng, starts)
        graph = ClassGraph(carriers, words, trees, starts)
        parts = [way for ways in words.values() for way in ways]
        parts += [way for part in entries for way in part]
        tokens: Tokens = ()
        for _ in range(rng.randrange(8)):  # made of what the grammar knows, so that much matches
            tokens += rng.choice(parts)
            if rng.random() < 0.2:
                tokens += (rng.randrange(1, len(starts)),)
        expected = count_entries(tokens, carriers, words, entries, starts)
        assert total(graph, tokens) == expected
        paid += expected > 0
    assert paid > 1000, "the cases hold carriers with entries"


def test_a_class_is_closed_without_its_carrier() -> None:
    carriers = read_carriers(["new @name"])
    trees = {"name": ClassTree.grow([(1,)], [2.0], len(STARTS))}
    graph = ClassGraph(carriers, {"new": [(3,)]}, trees, STARTS)
    assert total(graph, (1,)) == 0.0
    assert list(graph.next_tokens(graph.start)) == []
    assert total(graph, (7, 3, 1)) == 2.0, "anywhere in the utterance"
    assert total(graph, (3, 1, 2)) == 0.0, "not inside a word"
    assert total(graph, (3, 4, 1)) == 0.0, "right after the carrier only"
    assert total(graph, (3, 1, 1)) == 2.0, "one entry a place"
    state, score = graph.step(graph.start, 3)
    assert score == 0.0 and list(graph.next_tokens(state)) == [1]


def test_phrases_and_classes_add_up() -> None:
    rng = random.Random(3)
    for _ in range(300):
        starts = pieces_of(rng)
        carriers, words, trees, entries = random_grammar(rng, starts)
        phrases = {phrase_of(rng, starts): worth_of(rng) for _ in range(4)}
        first = PhraseGraph(list(phrases), list(phrases.values()), starts)
        both = BothGraphs(first, len(first), ClassGraph(carriers, words, trees, starts))
        tokens = tuple(rng.randrange(1, len(starts)) for _ in range(20))
        expected = count_phrases(tokens, phrases, starts)
        expected += count_entries(tokens, carriers, words, entries, starts)
        assert total(both, tokens) == expected


def test_the_states_met_do_not_grow_with_the_stream() -> None:
    rng = random.Random(4)
    starts = pieces_of(rng)
    carriers, words, trees, _ = random_grammar(rng, starts)
    graph = ClassGraph(carriers, words, trees, starts)
    total(graph, [rng.randrange(1, len(starts)) for _ in range(20_000)])
    met = len(graph)
    total(graph, [rng.randrange(1, len(starts)) for _ in range(20_000)])
    assert met == len(graph) < 100
