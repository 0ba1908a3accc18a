"""The posterior of when the present segment began, in bounded memory: the fast form.

Columns are hypotheses on what makes the next value: first the archived regimes (each a column that
has probability once it may have come back), then runs, one for each step at which a new segment
may have begun. Rows are rates: a chance of a change (hazard) with a share of changes that lead back
to the archive. A value multiplies each column by its likelihood; then each row moves its hazard's
part of all probability to the archive and to a new run. With no archive this is exactly Bayes'
rule over all segmentations and all hazards (`definition.py` is the slow one; Adams and MacKay,
2007), but for runs below a threshold, which are merged with their neighbours.

The archive follows Bousquet and Warmuth (2002), "mixing past posteriors": when a segment has ended
for sure, what was known at its end is kept, and returns with what it knew.
"""

import math
from typing import Any

import numpy as np

from solomonic.core import CheckpointError
from solomonic.memory.forgetting.config import ChangesConfig
from solomonic.memory.forgetting.segments import Segments
from solomonic.memory.forgetting.statistics import Statistics

_FAINT = 1e-8
"""Least probability of a rate: one that was wrong for long must be able to return."""
_TINY = 1e-200
"""Probabilities below are none: processors are slow with what is near the least number."""
_STRIDE = 4
"""Steps between two looks at whether a change is to be declared."""


class Runs:
    """See the module. `step` counts values; `nats` is the code length of all values so far.

    Attributes:
        joint: (rates, columns) posterior of rate and column for the next value; sums to 1.
        begins: (columns,) where each run began; of regimes, the mean step of their last return.
        n: columns in use: regimes and runs.
    """

    def __init__(self, config: ChangesConfig, statistics: Statistics) -> None:
        self.config, self.statistics = config, statistics
        rates = [
            (h, r if config.regimes else 0.0) for h in config.hazards for r in config.recurrence
        ]
        rates = list(dict.fromkeys(rates))
        self.hazards = np.array([rate[0] for rate in rates])
        self.shares = np.array([rate[1] for rate in rates])
        self.first = config.regimes  # column of the oldest run
        columns = self.first + config.runs
        self.joint = np.zeros((len(rates), columns))
        self.joint[:, self.first] = 1 / len(rates)
        self.begins = np.zeros(columns)
        self.visits = np.zeros(self.first, dtype=np.int64)  # 0: the place is free
        self.used = np.zeros(self.first, dtype=np.int64)  # step of the last visit's end
        self.n, self.step, self.nats = self.first + 1, 0, 0.0
        self.anchor = self.first  # the column that the present segment is taken for
        self.segments = Segments(config.most_changes)
        self._ones, self._rate_ones = np.ones(columns), np.ones(len(rates))
        self._shares = np.ones(columns)  # of a value that each column learns: runs all, regimes
        self._shares[: self.first] = 0  # as much as they are believed
        self.prepare()

    def prepare(self) -> None:
        """What depends on the archive alone."""
        archived = self.visits > 0
        self._archived = bool(archived.any())
        self._returns = archived / max(int(archived.sum()), 1)
        shares = self.shares if self._archived else np.zeros_like(self.shares)
        self._stay = 1 - self.hazards
        self._back = (self.hazards * shares)[:, None] * self._returns
        self._new = self.hazards * (1 - shares)

    def observe(self, value: Any) -> float:
        """Read one value; returns the natural logarithm of its predictive probability."""
        like, scale = self.statistics.likelihood(value, self.n)
        joint = self.joint[:, : self.n]
        joint *= like
        rows = joint @ self._ones[: self.n]
        evidence = float(rows.sum())
        rows /= evidence
        self.step += 1
        self._move(value, joint, rows, evidence)
        if self.step % _STRIDE == 0:
            joint[joint < _TINY] = 0.0
            if self.joint[:, self.anchor].sum() < 0.5:
                self._look()
        if self.n == self.joint.shape[1]:
            self._thin()
        gained = math.log(evidence) + scale
        self.nats -= gained
        return gained

    def _move(self, value: Any, joint: np.ndarray, rows: np.ndarray, evidence: float) -> None:
        """Learn the value; then each rate's hazard: part of its probability (`rows`) goes to the
        archive and to a new run. `joint` is still to be divided by the evidence.
        """
        first, n = self.first, self.n
        shares = self._shares[:n]
        if self._archived:
            regimes = joint[:, :first] / evidence
            shares[:first] = self._rate_ones @ regimes
            joint *= (self._stay / evidence)[:, None]
            # A regime that is left for itself has not been left: its part comes back.
            came = self._back * rows[:, None]
            archived = joint[:, :first]
            archived += came
            came -= self._back * regimes
            lately = (self._rate_ones @ came) / np.maximum(self._rate_ones @ archived, 1e-300)
            self.begins[:first] += (self.step - self.begins[:first]) * lately
        else:
            joint *= (self._stay / evidence)[:, None]
        self.statistics.learn(value, shares)
        self.joint[:, n] = self._new * rows
        self.begins[n] = self.step
        self.n = n + 1

    def weights(self) -> np.ndarray:
        """Posterior of every column in use, (n,)."""
        return self._rate_ones @ self.joint[:, : self.n]

    def rates(self) -> np.ndarray:
        """Posterior of every hazard, (hazards,)."""
        found = self.joint[:, : self.n].sum(axis=1)
        return np.array([found[self.hazards == one].sum() for one in self.config.hazards])

    def survival(self, written: np.ndarray) -> np.ndarray:
        """P(what makes the next value is what made value number `written`), shape of `written`.

        Runs that began at or before it count, and returned regimes that it was part of.
        """
        at = np.asarray(written, dtype=np.int64)
        weights, first = self.weights(), self.first
        totals = np.concatenate(([0.0], np.cumsum(weights[first:])))
        found = totals[np.searchsorted(self.begins[first : self.n], at, "right")]
        if self._archived:
            own, entered = weights[:first], np.rint(self.begins[:first])
            found = found + (own * (entered <= at[..., None])).sum(axis=-1)
            regime = self.segments.regimes_at(at)
            earlier = (regime >= 0) & (entered[np.maximum(regime, 0)] > at)
            found = found + np.where(earlier, own[np.maximum(regime, 0)], 0.0)
        return np.clip(found, self.config.floor, 1.0)

    def _look(self) -> None:
        """Declare a change, move one a little, or take one back, as the posterior says."""
        segments, near = self.segments, self.config.shortest
        weights = self.weights()
        away = self.begins[: self.n] - segments.begun
        same = np.abs(away) < near
        same[self.anchor] = True
        later, before = ~same & (away > 0), ~same & (away < 0)
        sure = self.config.confidence
        if weights[later].sum() >= sure:
            winner = int(np.argmax(np.where(later, weights, -1.0)))
            begin = round(float(self.begins[winner]))
            kept = self.anchor if self.anchor < self.first else self._archive(begin, winner)
            segments.close(kept, begin)
            if kept >= 0:
                self.visits[kept] += 1
                self.used[kept] = self.step
                self.prepare()
            self.anchor = winner
        elif weights[before].sum() >= sure:
            self.anchor = int(np.argmax(np.where(before, weights, -1.0)))
            segments.reopen(round(float(self.begins[self.anchor])), near)
        else:
            best = int(np.argmax(np.where(same, weights, -1.0)))
            if segments.changes() and self.anchor >= self.first and best >= self.first:
                segments.begun = round(float(self.begins[best]))
            self.anchor = best

    def _archive(self, end: int, winner: int) -> int:
        """Keep what the anchor's run knew before `end`; returns the regime it now belongs to.

        It joins the regime with which it is likelier one than two, or takes a free place, or that
        of the regime that was seen least. -1: there is no archive.
        """
        if not self.first:
            return -1
        stats = self.statistics
        since = self.first + int(np.searchsorted(self.begins[self.first : self.n], end))
        summary = stats.get(self.anchor) - stats.get(min(since, self.n - 1))
        alone = stats.evidence(summary)
        gains = np.full(self.first, -np.inf)
        for k in np.flatnonzero(self.visits).tolist():
            known = stats.get(k)
            gains[k] = stats.evidence(known + summary) - stats.evidence(known) - alone
        best = int(np.argmax(gains))
        if gains[best] > 0:
            stats.put(best, stats.get(best) + summary)
            return best
        order = np.lexsort((self.used, self.visits))  # free ones, then the least seen
        place = int(order[0] if order[0] != winner or len(order) == 1 else order[1])
        if place == winner:
            return -1
        self.segments.forget(place)
        self.joint[:, place] = 0
        self.joint /= self.joint[:, : self.n].sum()
        self.begins[place], self.visits[place] = self.step, 0
        stats.put(place, summary)
        return place

    def _thin(self) -> None:
        """Merge faint runs with neighbours until a quarter of the places is free."""
        first, runs = self.first, self.config.runs
        weights = self.weights()[first:]
        keep = weights >= self.config.threshold
        guarded = np.zeros(len(weights), dtype=bool)
        guarded[-1] = True
        if self.anchor >= first:
            guarded[self.anchor - first] = True
        kept = np.flatnonzero(keep | guarded)
        most = 3 * runs // 4
        while len(kept) > most:
            kept = self._halve(kept, guarded, most)
        self._merge(first + kept)

    def _halve(self, kept: np.ndarray, guarded: np.ndarray, most: int) -> np.ndarray:
        """Leave out every other run at most: those whose merging moves the least probability by the
        least part of its age, so that old runs grow sparse as logarithms do."""
        weights, begins = self.weights()[self.first :][kept], self.begins[self.first :][kept]
        cost = np.full(len(kept), np.inf)
        gaps = (begins[1:] - begins[:-1]) / (self.step + 1 - begins[1:])
        cost[1::2] = (weights[1:] * gaps)[::2]
        cost[guarded[kept]] = np.inf
        excess = min(len(kept) - most, int(np.isfinite(cost).sum()))
        if excess == 0:
            # Only guarded runs are odd: shift by one.
            return np.delete(kept, 0 if not guarded[kept[0]] else 2)
        return np.delete(kept, np.argsort(cost, kind="stable")[:excess])

    def _merge(self, kept: np.ndarray) -> None:
        """Keep the runs in columns `kept`; the others divide their probability between the kept
        ones before and after them, the nearer one more, so that mean ages stay what they are."""
        first, n = self.first, self.n
        begins = self.begins[first:n]
        after = np.clip(np.searchsorted(kept, np.arange(first, n)), 0, len(kept) - 1)
        before = np.maximum(after - (begins[kept - first][after] > begins), 0)
        old, young = begins[kept - first][before], begins[kept - first][after]
        part = np.where(young > old, (young - begins) / np.maximum(young - old, 1), 1.0)
        part = np.clip(part, 0.0, 1.0)
        shared = np.zeros((n - first, len(kept)))
        shared[np.arange(n - first), after] += 1 - part
        shared[np.arange(n - first), before] += part
        gathered = self.joint[:, first:n] @ shared
        end = first + len(kept)
        self.joint[:, first:end] = gathered
        self.joint[:, end:] = 0
        self.begins[first:end] = self.begins[kept]
        self.statistics.keep(first, kept)
        for column in range(end, n):
            self.statistics.clear(column)
        if self.anchor >= first:
            self.anchor = first + int(np.searchsorted(kept, self.anchor))
        self.n = end
        self._refresh()

    def _refresh(self) -> None:
        """Rates that nearly died are kept alive; all probability sums to 1."""
        joint = self.joint[:, : self.n]
        rows = joint.sum(axis=1)
        low = (rows < _FAINT) & (rows > 0)
        joint[low] *= (_FAINT / rows[low])[:, None]
        joint /= joint.sum()

    def facts(self) -> dict[str, float | int | bool]:
        """What a state holds besides arrays."""
        segments = self.segments
        return {
            "step": self.step,
            "nats": self.nats,
            "columns": self.n,
            "anchor": self.anchor,
            "begun": segments.begun,
            "dropped": segments.dropped,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of a state."""
        return {
            "joint": self.joint[:, : self.n],
            "begins": self.begins[: self.n],
            "visits": self.visits,
            "used": self.used,
            "starts": np.array(self.segments.starts, dtype=np.int64),
            "regimes": np.array(self.segments.regimes, dtype=np.int64),
            **self.statistics.arrays(self.n),
        }

    def take(self, facts: dict, arrays: dict[str, np.ndarray]) -> None:
        """Take over a state into a new object of the same settings.

        Raises:
            CheckpointError: it does not fit.
        """
        try:
            n = facts["columns"]
            if not self.first < n < self.joint.shape[1] or arrays["visits"].shape != (self.first,):
                raise ValueError("columns")
            self.joint[:] = 0
            self.joint[:, :n], self.begins[:n] = arrays["joint"], arrays["begins"]
            self.visits[:], self.used[:] = arrays["visits"], arrays["used"]
            self.statistics.take(arrays, n)
            self.n, self.step, self.nats = n, facts["step"], facts["nats"]
            self.anchor = facts["anchor"]
            segments = self.segments
            segments.starts, segments.regimes = (
                arrays["starts"].tolist(),
                arrays["regimes"].tolist(),
            )
            segments.begun, segments.dropped = facts["begun"], facts["dropped"]
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"the state of the forgetting is damaged ({error}).") from None
        self.prepare()
