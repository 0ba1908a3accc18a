"""Word error rates: counts by hand and by jiwer, intervals that cover, speakers kept together."""

import dataclasses
import math
import sys

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError
from solomonic.evals.wer import WordErrors, count_errors, score, wer_table


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("turn on the light", "turn on the light", WordErrors(4)),
        ("turn on the light", "turn the lights", WordErrors(4, 1, 1, 0)),
        ("stop", "stop now please", WordErrors(1, 0, 0, 2)),
        ("stop", "", WordErrors(1, 0, 1, 0)),
        ("", "", WordErrors(0)),
        ("", "uh oh", WordErrors(0, 0, 0, 2)),
        ("Set a timer for 20 minutes, please!", "set a timer for twenty minutes please",
         WordErrors(7)),
        ("It’s Zoë's CAFÉ", "it's zoe's cafe", WordErrors(3)),
        ("don't", "dont", WordErrors(1, 1, 0, 0)),
        ("in 1984", "in nineteen eighty four", WordErrors(2, 1, 0, 2)),
    ],
)  # fmt: skip
def test_errors_of_an_utterance(reference: str, hypothesis: str, expected: WordErrors) -> None:
    assert count_errors([reference], [hypothesis]) == [expected]


def test_edits_are_the_edit_distance() -> None:
    """Against the definition, on random words."""
    random = np.random.default_rng(0)

    def distance(a: list[str], b: list[str]) -> int:
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            above, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
        return row[-1]

    for _ in range(50):
        a, b = ([str(w) for w in random.choice(list("abcd"), random.integers(1, 9))] for _ in "ab")
        (found,) = count_errors([" ".join(a)], [" ".join(b)])
        assert found.edits == distance(a, b)


def test_rates_are_of_the_whole_set() -> None:
    """Errors over words of all utterances, not the mean of their rates."""
    found = score(["a b c", "d", "e f"], ["a b", "x y", "e f"])
    assert found.wer.value == pytest.approx(3 / 6)
    assert found.ser.value == pytest.approx(2 / 3)
    assert (found.substitutions, found.deletions, found.insertions) == (1, 1, 1)
    assert (found.words, found.utterances, found.speakers) == (6, 3, 0)


def test_references_that_no_recogniser_can_meet_are_counted() -> None:
    assert score(["in 1984", "7:30", "twenty"], ["x", "y", "z"]).unspoken == 1


def test_intervals_hold_the_value_and_narrow_with_more_of_it() -> None:
    references = ["one two three four"] * 400
    hypotheses = ["one two three four", "one two three", "one two x four", "one two three four"]
    few = score(references[:20], hypotheses * 5)
    many = score(references, hypotheses * 100)
    for found in (few, many):
        assert found.wer.low < found.wer.value < found.wer.high
    ratio = (few.wer.high - few.wer.low) / (many.wer.high - many.wer.low)
    assert ratio == pytest.approx(math.sqrt(20), rel=0.35)
    assert score(references, hypotheses * 100) == many  # seeded
    assert score(references, hypotheses * 100, seed=1).wer.low != many.wer.low


def test_intervals_cover_the_truth() -> None:
    """Of 95% intervals on drawn sets, about 95% hold the rate that they were drawn from."""
    random = np.random.default_rng(1)
    held = 0
    for trial in range(60):
        wrong = random.random(150) < 0.2
        heard = ["x" if bad else "a" for bad in wrong]
        found = score(["a"] * 150, heard, samples=200, seed=trial)
        held += found.wer.low <= 0.2 <= found.wer.high
    assert 52 <= held <= 60


def test_speakers_are_drawn_whole() -> None:
    """Half the speakers are always wrong: among speakers the interval is far wider."""
    speakers = [f"s{i % 8}" for i in range(400)]
    hypotheses = ["a" if i % 8 < 4 else "x" for i in range(400)]
    loose = score(["a"] * 400, hypotheses)
    grouped = score(["a"] * 400, hypotheses, speakers)
    assert (loose.drawn, grouped.drawn) == ("utterances", "speakers")
    assert grouped.speakers == 8
    wide, narrow = (s.wer.high - s.wer.low for s in (grouped, loose))
    assert wide > 3 * narrow


@pytest.mark.parametrize("speakers", [["a", "b", "c", "d"], ["a", "b", "c", "d", "e", None]])
def test_too_few_or_unknown_speakers_leave_utterances(speakers: list[str | None]) -> None:
    texts = ["one"] * len(speakers)
    assert score(texts, texts, speakers).drawn == "utterances"


def test_nothing_said_has_no_rate() -> None:
    found = score(["", ""], ["", "noise"])
    assert math.isnan(found.wer.value) and math.isnan(found.wer.low)
    assert found.ser.value == 0.5
    assert "| - | - |" in wer_table({"silence": found})


def test_the_table() -> None:
    found = score(["a b c d"] * 8, ["a b c d"] * 7 + ["a b x"], [f"s{i}" for i in range(8)])
    header, _, row, end = wer_table({"digits|1": found}).split("\n")
    assert header.startswith("| set | WER % | 95% interval |")
    interval = f"0.0 to {100 * found.wer.high:.1f}"
    assert row == f"| digits\\|1 | 6.2 | {interval} | 1 | 1 | 0 | 32 | 12.5 | 8 | 8 |"
    assert end == ""
    assert found.to_json()["wer"] == dataclasses.asdict(found.wer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["a"], []), "1 references and 0 hypotheses"),
        (([], []), "no utterances to score"),
        ((["a"], ["a"], ["x", "y"]), "1 utterances and 2 speakers"),
    ],
)
def test_lists_that_do_not_fit(arguments: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(*arguments)


def test_no_jiwer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ConfigError, match=r"need jiwer; install it with `pip install"):
        count_errors(["a"], ["a"])
