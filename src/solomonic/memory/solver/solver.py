"""Two speeds: verified experience first, then one confident pass, then a search with a budget.

    1. the same task was solved: its value is verified again, then served          'hit'
    2. values of near tasks are adapted to this one and verified                    'adapted'
    3. a proposer's best guess is verified                                          'proposed'
    4. a search, shared between the domain's enumeration and the proposer's draws
       in proportion to how often each has won (Levin), verified                    'searched'
    5. nothing found: what was spent and where the search stands is kept            'gave up'

No value leaves without a verifier's word on this very task, whatever was similar. Kinds without a
verifier are refused, unless a `confidence` says how sure a proposer must be: such answers are
marked as not verified, and are never remembered as experience.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from solomonic.core import CheckpointError, Config, ConfigError, require, require_least
from solomonic.memory.solver.domain import Domain, Proposer, Search
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.ledger import Ledger, Outcome, Record
from solomonic.memory.solver.task import Answer, Budget, Cost, Known, Path_, Task

_SLICE = 0.05  # seconds between looks at the clock and at who is next
_SAVE = 30.0  # seconds after which a search that goes on is saved


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolverConfig(Config):
    """How a solver works.

    Attributes:
        near: verified values of other tasks that step 2 looks at.
        adapted: verifier calls that step 2 may make.
        confidence: of a proposer's guess, from 0 to 1, above which an open task (one that nothing
            verifies) is answered; None refuses such tasks.
        examples: solved tasks shown to a proposer before a task.
    """

    near: int = 64
    adapted: int = 400
    confidence: float | None = None
    examples: int = 4

    def __post_init__(self) -> None:
        require_least(self, 0, "near", "adapted", "examples")
        require(
            self.confidence is None or 0 < self.confidence <= 1,
            f"confidence = {self.confidence} must lie in (0, 1].",
        )


class Solver:
    """Answers tasks, and gets faster. A context manager; one per thread."""

    def __init__(
        self,
        store: Path | str | Ledger | None = None,
        *,
        domains: Sequence[Domain] | None = None,
        proposer: Proposer | None = None,
        config: SolverConfig | None = None,
    ) -> None:
        """Open a solver over a store's file (None: in memory only).

        Args:
            domains: kinds of tasks; by default all that are built in.

        Raises:
            ConfigError: two domains have one name.
            CheckpointError, StorageError: the store cannot be used.
        """
        from solomonic.memory.solver.domains import all_domains

        self.config = config or SolverConfig()
        self.proposer = proposer
        chosen = all_domains() if domains is None else list(domains)
        self.domains: dict[str, Domain] = {domain.kind: domain for domain in chosen}
        require(len(self.domains) == len(chosen), "two domains have the same kind.")
        if isinstance(store, Ledger):
            self.ledger = store
        else:
            self.ledger = Ledger(store)
        self._restored: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store."""
        self.ledger.close()

    def read(self, task: Task) -> tuple[Domain, Known]:
        """The task as its domain understands it.

        Raises:
            ConfigError: no domain of this kind, or one without a verifier and no `confidence`.
            DataError: the task is malformed.
        """
        domain = self.domains.get(task.kind)
        if domain is None:
            known = ", ".join(sorted(self.domains))
            raise ConfigError(f"there are no tasks of kind '{task.kind}'; known: {known}.")
        if not domain.verifier and self.config.confidence is None:
            raise ConfigError(
                f"nothing verifies tasks of kind '{task.kind}'; say which confidence is enough "
                "(confidence / --confidence), and the answers will be marked as not verified."
            )
        return domain, domain.read(task.content)

    def solve(
        self,
        task: Task,
        budget: Budget | None = None,
        progress: Callable[[Cost], None] | None = None,
    ) -> Answer:
        """Answer one task.

        Args:
            budget: of the search (step 4); the steps before are bounded by themselves.
            progress: called now and then while searching.

        Raises:
            ConfigError, DataError: as `read`; or a verifier that is not installed.
            StorageError: the result could not be kept (it is lost; nothing else is).
        """
        domain, known = self.read(task)
        attempt = _Attempt(self, domain, known, budget or Budget(), progress)
        return attempt.run()

    def shared_frontier(self, domain: Domain) -> str:
        """The name under which a domain's shared work is kept."""
        return f"shared:{domain.kind}"

    def restore(self, domain: Domain) -> None:
        """Give a domain its shared work back, once, unless it is damaged or of another version."""
        if domain.kind in self._restored or not hasattr(domain, "restore"):
            return
        self._restored.add(domain.kind)
        with contextlib.suppress(CheckpointError):  # it is only work, and can be done again
            saved = self.ledger.frontier(self.shared_frontier(domain))
            if saved is not None:
                domain.restore(saved)  # type: ignore[attr-defined]


class _Attempt:
    """One call: what it has done so far."""

    def __init__(
        self,
        solver: Solver,
        domain: Domain,
        task: Known,
        budget: Budget,
        progress: Callable[[Cost], None] | None,
    ) -> None:
        self.solver, self.domain, self.task, self.budget = solver, domain, task, budget
        self.config, self.ledger, self.proposer = solver.config, solver.ledger, solver.proposer
        self.progress = progress or (lambda cost: None)
        self.began = time.perf_counter()
        self.candidates = self.verifications = 0
        self.known: Record | None = None
        self.shares: dict[str, dict[str, float]] = {}
        self.rejected: list[str] = []
        self.proof = ""
        self.engine: Search | None = None  # of the enumeration, where it is a contender
        self.weights: dict[str, float] = {}  # of the contenders
        self.winner = ""  # the contender whose value was accepted

    @property
    def cost(self) -> Cost:
        return Cost(self.candidates, self.verifications, time.perf_counter() - self.began)

    def run(self) -> Answer:
        if not self.domain.verifier:
            return self._unverified()
        self.known = self.ledger.find(self.task)
        if self.known is not None:
            self.shares = {name: dict(entry) for name, entry in self.known.shares.items()}
            if self.known.value is not None and self._accepts(self.known.value):
                return self._answer(self.known.value, "hit", self.cost, self.known.spent)
        for value in self._adapted():
            if self._accepts(value):
                return self._keep(value, "adapted")
        if (value := self._proposed()) is not None:
            return self._keep(value, "proposed")
        return self._search()

    def _accepts(self, value: str) -> bool:
        """One call of the verifier."""
        self.verifications += 1
        verdict = self.domain.verify(self.task, value)
        if verdict.accepted:
            self.proof = f"{self.domain.verifier}: {verdict.proof}"
        return bool(verdict.accepted)

    def _adapted(self) -> Iterator[str]:
        """Values to verify, each once, at most `adapted`."""
        if not self.config.near or not self.config.adapted:
            return
        seen: set[str] = set()
        stored = self.ledger.near(self.task, self.config.near)
        for value in self.domain.adapt(self.task, stored):
            self.candidates += 1
            if value is None or value in seen:
                continue
            if len(seen) >= self.config.adapted:
                return
            seen.add(value)
            yield value

    def _prompt(self) -> str:
        """Solved tasks of the kind, then this one."""
        import json

        shown = []
        for canonical, value in self.ledger.examples(self.task.kind, self.config.examples):
            example = self.domain.read(json.loads(canonical))
            if example.key != self.task.key:
                shown.append(self.domain.prompt(example, value))
        return "\n".join([*reversed(shown), self.domain.prompt(self.task)])

    def _proposed(self) -> str | None:
        if self.proposer is None:
            return None
        guess = self.proposer.best(self._prompt(), self.domain.stop)
        self.candidates += 1
        if guess is None:
            return None
        value = self.domain.extract(self.task, guess.value)
        if not value or self.ledger.was_rejected(self.task, value):
            return None
        if self._accepts(value):
            return value
        self.rejected.append(value)
        return None

    def _unverified(self) -> Answer:
        """An open task: one pass, served only above the asked confidence, and said so."""
        least = self.config.confidence
        if least is None:
            raise ConfigError("an open task needs a confidence.")
        guess = None
        if self.proposer is not None:
            guess = self.proposer.best(self.domain.prompt(self.task), self.domain.stop)
        self.candidates += guess is not None
        if guess is None or guess.confidence < least:
            why = (
                "nobody proposes an answer (give a model: --lm)"
                if guess is None
                else f"confidence {guess.confidence:.3f} is below {least:g}"
            )
            self.proof = f"nothing verifies this kind, and {why}"
            return self._answer(None, "gave up", self.cost, self.cost)
        self.proof = f"NOT VERIFIED: confidence {guess.confidence:.3f} of at least {least:g}"
        value = self.domain.extract(self.task, guess.value)
        return self._answer(value, "confident", self.cost, self.cost)

    def _search(self) -> Answer:
        self.solver.restore(self.domain)
        engine = self._begin()
        contenders = self._contenders(engine)
        end, saved_at = time.perf_counter() + self.budget.seconds, time.perf_counter()
        try:
            while contenders and not self._over(end):
                name = min(contenders, key=self._due)
                values = self._turn(name, contenders[name], end)
                for value in values:
                    if self._accepts(value):
                        self.winner = name
                        return self._keep(value, "searched", engine)
                    if name != "enumeration":  # that never comes back to what it has passed
                        self.rejected.append(value)
                if engine is not None and engine.finished:
                    contenders.pop("enumeration", None)
                self.progress(self.cost)
                if time.perf_counter() - saved_at > _SAVE:
                    self._save(None, "gave up", engine)
                    saved_at = time.perf_counter()
        except KeyboardInterrupt:
            self._save(None, "gave up", engine)
            raise
        if not contenders:
            self.proof = "nothing is left to try within the bounds of the search"
        else:
            self.proof = "the budget is spent; a retry goes on from here"
        return self._keep(None, "gave up", engine)

    def _begin(self) -> Search | None:
        """The enumeration where it stood; anew where that is damaged or of another version."""
        guide = Guide(self.ledger.counts(self.task.kind))
        try:
            return self.domain.search(self.task, guide, self.ledger.frontier(self.task.key))
        except CheckpointError:
            return self.domain.search(self.task, guide, None)

    def _contenders(self, engine: Search | None) -> dict[str, float]:
        """Who shares the time, and the probability of each: wins counted, one added."""
        wins = self.ledger.counts(f"{self.task.kind}:contender")
        found = {}
        if engine is not None and not engine.finished:
            found["enumeration"] = wins.get("enumeration", 0) + 1.0
            self.engine = engine
        if self.proposer is not None:
            found[self.proposer.name] = wins.get(self.proposer.name, 0) + 1.0
        self.weights = found
        return dict(found)

    def _due(self, name: str) -> float:
        """Time spent in proportion to probability: the smallest goes next."""
        return self.shares.get(name, {}).get("seconds", 0.0) / self.weights[name]

    def _turn(self, name: str, weight: float, end: float) -> list[str]:
        """Let one contender work for a moment; what it wants verified."""
        share = self.shares.setdefault(name, {"seconds": 0.0, "drawn": 0})
        began = time.perf_counter()
        if name == "enumeration":
            assert self.engine is not None
            before = self.engine.candidates
            most = 1 << 30
            if self.budget.candidates is not None:
                most = max(1, self.budget.candidates - self.candidates)
            seconds = min(_SLICE, max(0.0, end - began))
            value = next(iter(self.engine.advance(most, seconds)), None)
            values = [] if value is None else [value]
            self.candidates += self.engine.candidates - before
        else:
            assert self.proposer is not None
            drawn = int(share["drawn"])
            guess = self.proposer.sample(self._prompt(), self.domain.stop, drawn)
            share["drawn"] += 1
            self.candidates += 1
            value = self.domain.extract(self.task, guess.value)
            known = not value or value in self.rejected
            values = [] if known or self.ledger.was_rejected(self.task, value) else [value]
        share["seconds"] += time.perf_counter() - began
        return values

    def _over(self, end: float) -> bool:
        most = self.budget.candidates
        return time.perf_counter() >= end or (most is not None and self.candidates >= most)

    def _save(self, value: str | None, path: Path_, engine: Search | None) -> Cost:
        """Keep what this call has found or spent; the sum over all calls."""
        before = self.known.spent if self.known is not None else Cost()
        spent = before + self.cost
        counts: dict[str, Sequence[str]] = {}
        if value is not None:
            counts[self.task.kind] = list(self.domain.features(value))
            if self.winner:
                counts[f"{self.task.kind}:contender"] = [self.winner]
        frontiers: dict[str, bytes | None] = {}
        if engine is not None:
            keep = value is None and path == "gave up"
            frontiers[self.task.key] = engine.save() if keep else None
            shared = getattr(self.domain, "shared", lambda: None)()
            if shared is not None:
                frontiers[self.solver.shared_frontier(self.domain)] = shared
        self.ledger.record(
            self.task,
            Outcome(
                value,
                self.domain.verifier,
                self.proof,
                path,
                spent,
                self.shares,
                counts,
                self.rejected,
                frontiers,
            ),
        )
        return spent

    def _keep(self, value: str | None, path: Path_, engine: Search | None = None) -> Answer:
        spent = self._save(value, path, engine)
        return self._answer(value, path, self.cost, spent)

    def _answer(self, value: str | None, path: Path_, cost: Cost, spent: Cost) -> Answer:
        verified = value is not None and path != "confident"
        details: Mapping[str, Any] = {}
        if verified and value is not None:
            details = self.domain.details(self.task, value)
        return Answer(value, path, verified, self.proof, cost, spent, details)
