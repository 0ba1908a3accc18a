"""Abstention with a coverage guarantee: which claims of an answer to keep, by split conformal.

Calibration: answers whose claims were each judged right or wrong, and a score for every claim by
whatever scorer there is. The threshold for level alpha is the ceil((n+1)(1-alpha))-th smallest of
the answers' largest scores of a wrong claim (Mohri & Hashimoto, ICML 2024, 2402.10978). Of a new
answer, exchangeable with those, only claims scored above the threshold are kept: then with
probability at least 1 - alpha (over calibration and answer together) no kept claim is wrong; and
at most 1 - alpha + 1/(n+1) where scores have no ties. It holds for any scorer; a weak one only
keeps less. "Wrong" is what the judge of the calibration set called wrong, never more.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from solomonic.core import CheckpointError, ConfigError, DataError, require, write_whole

_FORMAT = "solomonic-conformal"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class JudgedAnswer:
    """One answer of the calibration set.

    Attributes:
        scores: of its claims; larger is surer. An answer without claims is allowed.
        correct: whether each claim was judged right.
    """

    scores: Sequence[float]
    correct: Sequence[bool]

    @property
    def worst(self) -> float:
        """The largest score of a wrong claim; -inf where none is wrong."""
        wrong = [s for s, right in zip(self.scores, self.correct, strict=True) if not right]
        return max(wrong, default=-math.inf)


def smallest_calibration(alpha: float) -> int:
    """How many answers calibration needs at level `alpha`: below, nothing could ever be kept."""
    _check_alpha(alpha)
    least = max(1, math.floor(1 / alpha) - 2)  # near the answer; rounding is settled by `_rank`
    while _rank(least, alpha) > least:
        least += 1
    return least


@dataclasses.dataclass(frozen=True)
class Abstention:
    """A calibrated threshold. `scorer` names what made the scores: another's need their own.

    Attributes:
        alpha: the share of answers that may keep a wrong claim.
        threshold: claims are kept above it; -inf keeps all of them.
        answers: n, how many were judged.
        scorer: free text, compared by `check`.
    """

    alpha: float
    threshold: float
    answers: int
    scorer: str = ""

    @classmethod
    def calibrate(cls, answers: Iterable[JudgedAnswer], alpha: float, *, scorer: str = "") -> Self:
        """The threshold for `alpha` from judged answers.

        Raises:
            ConfigError: alpha is not between 0 and 1.
            DataError: too few answers for this alpha, a score that is no number, or another number
                of scores than of judgements.
        """
        _check_alpha(alpha)
        worst = [_checked(answer, index).worst for index, answer in enumerate(answers)]
        need = smallest_calibration(alpha)
        if len(worst) < need:
            raise DataError(
                f"{len(worst)} judged answers are too few for alpha = {alpha:g}: at least {need} "
                "are needed; judge more, or allow a larger alpha."
            )
        threshold = sorted(worst)[_rank(len(worst), alpha) - 1]
        return cls(alpha, threshold, len(worst), scorer)

    @property
    def coverage(self) -> tuple[float, float]:
        """What the theorem promises: at least, and (without ties) at most."""
        return 1 - self.alpha, min(1.0, 1 - self.alpha + 1 / (self.answers + 1))

    def keep(self, scores: Sequence[float] | np.ndarray) -> np.ndarray:
        """(claims,) bool: which claims of one answer to keep. None kept = abstain.

        Raises:
            DataError: a score is not a number.
        """
        values = np.asarray(scores, dtype=np.float64)
        if np.isnan(values).any():
            raise DataError("a score is not a number; such a claim cannot be ranked.")
        return values > self.threshold

    def check(self, scorer: str) -> None:
        """Raise `ConfigError` where another scorer's scores would be cut by this threshold."""
        require(
            scorer == self.scorer,
            f"this threshold was calibrated for the scorer '{self.scorer}', not '{scorer}': "
            "calibrate again.",
        )

    def save(self, path: Path) -> None:
        """Write the calibration as JSON (whole, or not at all).

        Raises:
            StorageError: it cannot be written.
        """
        record = {
            "format": _FORMAT,
            "version": _VERSION,
            **dataclasses.asdict(self),
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
        }
        write_whole(path, (json.dumps(record, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: there is no such file.
            CheckpointError: it is not a calibration, cut, of a newer version, or out of range.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from None
        try:
            record = json.loads(data)
            if record["format"] != _FORMAT:
                raise KeyError
            if record["version"] > _VERSION:
                raise CheckpointError(f"{path} is of a newer version of solomonic; update it.")
            threshold = record["threshold"]
            found = cls(
                float(record["alpha"]),
                -math.inf if threshold is None else float(threshold),
                int(record["answers"]),
                str(record["scorer"]),
            )
            _check_alpha(found.alpha)
            require(found.answers >= smallest_calibration(found.alpha), "too few answers.")
            require(not math.isnan(found.threshold), "the threshold is no number.")
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not a whole calibration of solomonic; calibrate again."
            ) from error
        return found


def _rank(answers: int, alpha: float) -> int:
    """ceil((n+1)(1-alpha)), from 1: with alpha as written: 0.1 is one tenth."""
    from fractions import Fraction

    return max(1, math.ceil((answers + 1) * (1 - Fraction(str(float(alpha))))))


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha = {alpha} must lie between 0 and 1, as 0.1 for 90% coverage.")


def _checked(answer: JudgedAnswer, index: int) -> JudgedAnswer:
    if len(answer.scores) != len(answer.correct):
        raise DataError(
            f"answer {index} has {len(answer.scores)} scores but {len(answer.correct)} judgements; "
            "give one of each per claim."
        )
    if any(math.isnan(score) for score in answer.scores):
        raise DataError(f"a score of answer {index} is not a number; leave that answer out.")
    return answer
