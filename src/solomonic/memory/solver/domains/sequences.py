"""Integer sequences: {"kind": "sequence", "terms": [1, 1, 2, 3, 5, 8], "next": 4}.

The value is a program (`sequence_terms`) that gives all the terms; the verifier runs it in exact
integers. `next` further terms are shown; they are the program's, and no verifier can know whether
they were meant. The search is the bank of all short programs, shared by all tasks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from solomonic.core import DataError
from solomonic.memory.solver.domains.shared import field, first_line, only
from solomonic.memory.solver.guide import Guide
from solomonic.memory.solver.programs import Tree, blocks, parse, show, size
from solomonic.memory.solver.sequence_bank import LIMIT, TERMS, SequenceBank
from solomonic.memory.solver.sequence_terms import BLOCKS, run
from solomonic.memory.solver.task import Known, Verdict, canonical_json

_LEAST, _MOST = 4, 1000
_NEXT = 100
_LARGEST = 25  # blocks of a program that is adapted


class Sequences:
    """Programs for sequences, with one bank for all tasks."""

    kind = "sequence"
    verifier = "exact terms"
    stop = "\n"

    def __init__(self, capacity: int = 1_000_000) -> None:
        """`capacity`: rows of the bank; a row takes 110 bytes."""
        self.capacity = capacity
        self.bank: SequenceBank | None = None
        self._saved_at = -1

    def read(self, content: Mapping[str, Any]) -> Known:
        only(content, ["terms", "next"], self.kind)
        terms = field(content, "terms", self.kind, list)
        if not all(isinstance(term, int) and not isinstance(term, bool) for term in terms):
            raise DataError("the terms of a sequence are whole numbers.")
        if not _LEAST <= len(terms) <= _MOST:
            raise DataError(f"a sequence needs {_LEAST} to {_MOST} terms.")
        more = content.get("next", 0)
        if not isinstance(more, int) or not 0 <= more <= _NEXT:
            raise DataError(f"'next' is a number of further terms, at most {_NEXT}.")
        form = canonical_json({"terms": terms, "next": more})
        return Known(self.kind, form, str(_growth(terms)), (tuple(terms), more))

    def verify(self, task: Known, value: str) -> Verdict:
        terms, _ = task.parsed
        try:
            found = run(parse(value), len(terms))
        except DataError as error:
            return Verdict(False, str(error))
        right = sum(a == b for a, b in zip(found, terms, strict=True))
        return Verdict(right == len(terms), f"{right} of {len(terms)} terms")

    def adapt(self, task: Known, values: Sequence[str]) -> Iterator[str | None]:
        """The programs as they are, a*p + b, sums, differences and delays of p, and p plus q."""
        terms, _ = task.parsed
        target, known = np.array(terms, dtype=object), []
        for value in values:
            try:
                tree = parse(value)
                if size(tree) <= _LARGEST:  # else answers made of answers would grow for ever
                    known.append((tree, np.array(run(tree, len(terms)), dtype=object)))
            except DataError:
                continue
        known.sort(key=lambda pair: size(pair[0]))  # of those that fit, the simplest
        for tree, found in known:
            yield show(tree) if (found == target).all() else None
            line = _affine(tree, found, target)
            yield None if line is None else show(line)
        rows = {tuple(found): tree for tree, found in known}
        for tree, found in known:
            for name, rest in (("add", target - found), ("sub", found - target)):
                other = rows.get(tuple(rest))
                yield None if other is None else show((name, tree, other))
            for name in ("sum", "diff", "shift"):
                yield _if_equal((name, tree), target)

    def search(self, task: Known, guide: Guide, saved: bytes | None) -> "SequenceSearch":
        if self.bank is None or (self.bank.full and self.bank.costs != guide.costs(BLOCKS)):
            self.bank = SequenceBank(guide.costs(BLOCKS), self.capacity)
        return SequenceSearch(self.bank, np.array(task.parsed[0], dtype=object))

    def shared(self) -> bytes | None:
        """The bank, where it has grown since it was last asked for."""
        if self.bank is None or self.bank.candidates == self._saved_at:
            return None
        self._saved_at = self.bank.candidates
        return self.bank.save()

    def restore(self, saved: bytes) -> None:
        self.bank = SequenceBank.load(saved, self.capacity)
        self._saved_at = self.bank.candidates

    def features(self, value: str) -> Iterable[str]:
        return [name for name in blocks(parse(value)) if name in BLOCKS]

    def prompt(self, task: Known, value: str | None = None) -> str:
        shown = ", ".join(map(str, task.parsed[0]))
        return f"sequence {shown} is{'' if value is None else ' ' + value}"

    def extract(self, task: Known, text: str) -> str:
        return first_line(text)

    def details(self, task: Known, value: str) -> Mapping[str, Any]:
        terms, more = task.parsed
        if not more:
            return {}
        try:
            return {"next": run(parse(value), len(terms) + more)[len(terms) :]}
        except DataError:
            return {"next": None}


class SequenceSearch:
    """Look-ups in the bank, which is made longer while nothing is found."""

    def __init__(self, bank: SequenceBank, terms: np.ndarray) -> None:
        self.bank = bank
        self.terms = terms[:TERMS]
        self.place = 0
        # What the bank cannot hold it need not be asked for.
        self.finished = any(abs(int(term)) > LIMIT for term in self.terms)

    @property
    def candidates(self) -> int:
        return self.bank.candidates

    def advance(self, most: int, seconds: float) -> Iterator[str]:
        import time

        end, first = time.perf_counter() + seconds, self.bank.candidates
        while True:
            rows = self.bank.find(self.terms, self.place)
            self.place = self.bank.rows
            for row in rows:
                yield show(self.bank.tree(int(row)))
            if self.bank.full:
                self.finished = True
                return
            if self.bank.candidates - first >= most or time.perf_counter() > end:
                return
            self.bank.advance()

    def save(self) -> bytes:
        """Nothing of its own: the bank is kept for all tasks."""
        return b""


def _growth(terms: Sequence[int]) -> int:
    """How large the last term is, in bits: a coarse name for near sequences."""
    return abs(terms[-1]).bit_length()


def _affine(tree: Tree, found: np.ndarray, target: np.ndarray) -> Tree | None:
    """a * p + b that gives `target`, with whole a and b, or None."""
    steps = [index for index in range(1, len(found)) if found[index] != found[0]]
    if not steps:
        return None
    at = steps[0]
    slope, rest = divmod(target[at] - target[0], found[at] - found[0])
    if rest or not slope or (slope == 1 and target[0] == found[0]):
        return None
    offset = target[0] - slope * found[0]
    if (slope * found + offset != target).any():
        return None
    scaled = tree if slope == 1 else ("mul", int(slope), tree)
    return scaled if offset == 0 else ("add", scaled, int(offset))


def _if_equal(tree: Tree, target: np.ndarray) -> str | None:
    try:
        return show(tree) if run(tree, len(target)) == list(target) else None
    except DataError:
        return None
