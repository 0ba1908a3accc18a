"""Errors on listed and other words, recall and false triggers, by hand and by brute force."""

import math
import random

import pytest

from solomonic.core import DataError
from solomonic.evals.biasing import BiasScore, align, score


def of(*rows: tuple[str, str, list[str]]) -> BiasScore:
    references, hypotheses, lists = zip(*rows, strict=True)
    return score([r.split() for r in references], [h.split() for h in hypotheses], lists)


def values(found: BiasScore) -> tuple[float, float, float]:
    return found.wer.value, found.b_wer.value, found.u_wer.value


def test_kinds_of_errors_by_hand() -> None:
    names = ["ann", "siobhan"]
    # Substituted name and deleted other word; inserted name; inserted other word.
    found = of(
        ("please call siobhan now", "call shivon now", names),
        ("call ann", "call ann ann", names),
        ("hang up", "hang it up", names),
    )
    assert (found.biased_words, found.other_words, found.utterances) == (2, 6, 3)
    assert values(found) == (4 / 8, 2 / 2, 2 / 6)
    assert (found.entities, found.entity_recall.value) == (2, 1 / 2)
    assert found.false_triggers == 1 and found.false_trigger_rate.value == 1 / 3


def test_phrases_of_several_words() -> None:
    found = of(
        ("call ann marie and ann", "call ann mary and ann", ["ann marie"]),
        ("play new york", "play york", ["new york"]),
        ("play something", "play new york something", ["new york"]),
    )
    # "ann" alone is no listed phrase; both words of the inserted one are.
    assert found.biased_words == 4 and found.other_words == 6
    assert values(found) == (4 / 10, 4 / 4, 0.0)
    assert found.entities == 2 and found.entity_recall.value == 0
    assert found.false_triggers == 1


def test_a_word_inserted_is_other_when_its_phrase_is_not_whole() -> None:
    found = of(("play it", "play new it", ["new york"]))
    assert found.u_wer.value == 1 / 2 and math.isnan(found.b_wer.value)


def test_nothing_listed() -> None:
    found = of(("a b", "a c", []))
    assert values(found)[0] == values(found)[2] == 0.5
    assert math.isnan(found.b_wer.value) and math.isnan(found.b_wer.low)
    assert math.isnan(found.entity_recall.value) and found.false_trigger_rate.value == 0


def test_empty_texts() -> None:
    found = of(("", "", ["ann"]), ("", "ann", ["ann"]), ("ann", "", ["ann"]))
    assert found.b_wer.value == 2.0 and found.entity_recall.value == 0
    assert math.isnan(found.u_wer.value)


def test_entities_are_counted_as_often_as_they_are_said() -> None:
    found = of(("ann ann ann", "ann x ann", ["ann"]), ("ann", "ann ann ann", ["ann"]))
    assert found.entities == 4 and found.entity_recall.value == 3 / 4
    assert found.false_triggers == 2 and found.false_trigger_rate.value == 1 / 2


def cheapest(reference: list[str], hypothesis: list[str]) -> int:
    if not reference or not hypothesis:
        return 3 * (len(reference) + len(hypothesis))
    pair = 0 if reference[-1] == hypothesis[-1] else 4
    return min(
        cheapest(reference[:-1], hypothesis[:-1]) + pair,
        cheapest(reference[:-1], hypothesis) + 3,
        cheapest(reference, hypothesis[:-1]) + 3,
    )


def test_alignments_are_the_cheapest() -> None:
    rng = random.Random(0)
    for _ in range(300):
        a, b = ([rng.choice("xyz") for _ in range(rng.randrange(6))] for _ in range(2))
        pairs = align(a, b)
        assert [i for i, _ in pairs if i is not None] == list(range(len(a)))
        assert [j for _, j in pairs if j is not None] == list(range(len(b)))
        costs = (3 if i is None or j is None else 0 if a[i] == b[j] else 4 for i, j in pairs)
        assert sum(costs) == cheapest(a, b)


def test_intervals_hold_the_value_and_come_from_the_seed() -> None:
    rng = random.Random(0)
    names = ["ann", "bea", "cleo"]
    rows = []
    for _ in range(300):
        said = [rng.choice(["call", "now", *names]) for _ in range(5)]
        heard = [word if rng.random() < 0.9 else "um" for word in said]
        rows.append((said, heard, names))
    references, hypotheses, lists = map(list, zip(*rows, strict=True))
    first = score(references, hypotheses, lists, seed=1)
    assert first == score(references, hypotheses, lists, seed=1)
    assert first != score(references, hypotheses, lists, seed=2)
    for found in (first.wer, first.b_wer, first.u_wer, first.entity_recall):
        assert found.low < found.value < found.high
    # 1,500 words with 10% errors: the normal interval is 0.1 +- 1.96 sqrt(0.09 / 1500).
    assert first.wer.high - first.wer.low == pytest.approx(2 * 1.96 * 0.00775, rel=0.2)
    few = score(references[:10], hypotheses[:10], lists[:10])
    assert few.wer.high - few.wer.low > first.wer.high - first.wer.low


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"2 references, 1 hypotheses and 1 lists; give one"):
        score([["a"], ["b"]], [["a"]], [[]])
    with pytest.raises(DataError, match=r"at least one"):
        score([], [], [])
    with pytest.raises(DataError, match=r"'call ann' is one string; give a list of words"):
        score(["call ann"], [["call", "ann"]], [[]])
