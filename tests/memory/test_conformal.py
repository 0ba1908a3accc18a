"""Coverage of conformal abstention within its theorem, and what its calibration refuses."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from solomonic.core import CheckpointError, ConfigError, DataError
from solomonic.memory.conformal import Abstention, JudgedAnswer, smallest_calibration

N = 100


def answers(rng: np.random.Generator, count: int) -> list[JudgedAnswer]:
    """Answers of 1 to 6 claims; a weak scorer, whose scores of right claims are a little larger."""
    found = []
    for _ in range(count):
        size = int(rng.integers(1, 7))
        right = rng.random(size) < 0.7
        scores = rng.normal(size=size) + 1.2 * right
        found.append(JudgedAnswer(scores.tolist(), right.tolist()))
    return found


def holds(abstention: Abstention, answer: JudgedAnswer) -> bool:
    kept = abstention.keep(answer.scores)
    return all(right for right, one in zip(answer.correct, kept, strict=True) if one)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.2])
def test_coverage_is_that_of_the_theorem(alpha: float) -> None:
    """200 repetitions, each with a calibration of its own: the events are independent, so their
    number is binomial, with a probability that the theorem puts between its two bounds."""
    rng = np.random.default_rng(int(1000 * alpha))
    repetitions, fresh = 200, 40
    covered, shares = 0, []
    for _ in range(repetitions):
        abstention = Abstention.calibrate(answers(rng, N), alpha)
        outcomes = [holds(abstention, answer) for answer in answers(rng, fresh)]
        covered += outcomes[0]
        shares.append(np.mean(outcomes))
    low, high = 1 - alpha, 1 - alpha + 1 / (N + 1)
    assert abstention.coverage == (low, high)
    # One in 10,000 on either side.
    assert binom.ppf(1e-4, repetitions, low) <= covered <= binom.ppf(1 - 1e-4, repetitions, high)
    # All 8,000 answers: each repetition's share is one draw, their mean is near the coverage.
    error = np.std(shares) / math.sqrt(repetitions)
    assert low - 4 * error <= np.mean(shares) <= high + 4 * error


def test_a_claim_is_kept_only_above_the_threshold() -> None:
    judged = [JudgedAnswer([float(index), 100.0], [False, True]) for index in range(9)]
    abstention = Abstention.calibrate(judged, 0.2)
    assert abstention.threshold == 7.0  # the 8th smallest of 0..8: ceil(10 * 0.8)
    assert abstention.keep([7.0, 7.1, -math.inf, 8.0]).tolist() == [False, True, False, True]


def test_the_rank_does_not_suffer_from_rounding() -> None:
    # 10 * (1 - 0.3) is 7.000000000000001 in floating point, whose ceiling would be 8.
    judged = [JudgedAnswer([float(index)], [False]) for index in range(9)]
    assert Abstention.calibrate(judged, 0.3).threshold == 6.0


def test_answers_without_a_wrong_claim_let_everything_pass() -> None:
    abstention = Abstention.calibrate([JudgedAnswer([1.0], [True])] * 20, 0.1)
    assert abstention.threshold == -math.inf
    assert abstention.keep([-1e300]).all()


@pytest.mark.parametrize(("alpha", "least"), [(0.5, 1), (0.2, 4), (0.1, 9), (0.05, 19), (0.01, 99)])
def test_too_few_examples_are_refused(alpha: float, least: int) -> None:
    assert smallest_calibration(alpha) == least
    judged = [JudgedAnswer([1.0], [False])] * least
    assert Abstention.calibrate(judged, alpha).threshold == 1.0
    with pytest.raises(DataError, match=f"at least {least} are needed"):
        Abstention.calibrate(judged[1:], alpha)


def test_what_is_no_calibration_is_refused() -> None:
    judged = [JudgedAnswer([1.0], [False])] * 20
    for alpha in (0, 1, -0.1, math.nan):
        with pytest.raises(ConfigError, match="must lie between 0 and 1"):
            Abstention.calibrate(judged, alpha)
    with pytest.raises(DataError, match="answer 20 has 2 scores but 1 judgements"):
        Abstention.calibrate([*judged, JudgedAnswer([1.0, 2.0], [True])], 0.1)
    with pytest.raises(DataError, match="not a number"):
        Abstention.calibrate([*judged, JudgedAnswer([math.nan], [True])], 0.1)
    with pytest.raises(DataError, match="not a number"):
        Abstention.calibrate(judged, 0.1).keep([math.nan])


def test_a_calibration_is_saved_and_loaded(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for judged in (answers(rng, 50), [JudgedAnswer([], [])] * 50):
        made = Abstention.calibrate(judged, 0.1, scorer="mean probability")
        made.save(tmp_path / "a.json")
        assert Abstention.load(tmp_path / "a.json") == made
    made.check("mean probability")
    with pytest.raises(ConfigError, match="was calibrated for the scorer"):
        made.check("another")


def test_damaged_and_foreign_calibrations_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(DataError, match="cannot read"):
        Abstention.load(path)
    Abstention.calibrate([JudgedAnswer([1.0], [False])] * 20, 0.1).save(path)
    whole = path.read_text()
    for text in (
        whole[: len(whole) // 2],
        "[]",
        "{}",
        whole.replace("solomonic-conformal", "other"),
        whole.replace('"answers": 20', '"answers": 2'),
        whole.replace('"alpha": 0.1', '"alpha": 1.5'),
    ):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="not a whole calibration"):
            Abstention.load(path)
    path.write_text(whole.replace('"version": 1', '"version": 2'))
    with pytest.raises(CheckpointError, match="newer version"):
        Abstention.load(path)
