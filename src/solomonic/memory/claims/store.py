"""The claim store: what sources say, when it holds, and what in it excludes what.

Tables of its own in a memory's SQLite file. A verdict is about the store, never about the world:
SUPPORTED means that a claim in here says so.
"""

import contextlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from solomonic.core import ConfigError, DataError, require
from solomonic.memory.claims.claim import Claim, Conflict, Judgement
from solomonic.memory.claims.rules import Fact, Rule, minimal_sets
from solomonic.memory.claims.values import compare, fold, read_value
from solomonic.memory.item import NotFoundError
from solomonic.memory.tables import Tables

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS claim (
    id INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, predicate TEXT NOT NULL,
    object TEXT NOT NULL, unit TEXT NOT NULL, source TEXT NOT NULL, valid_from TEXT NOT NULL,
    valid_to TEXT NOT NULL, asserted_at REAL NOT NULL, subject_key TEXT NOT NULL,
    predicate_key TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS claim_about ON claim (subject_key, predicate_key);
CREATE INDEX IF NOT EXISTS claim_source ON claim (source);
CREATE TABLE IF NOT EXISTS claim_predicate (
    predicate_key TEXT PRIMARY KEY, tolerance REAL NOT NULL);
CREATE TABLE IF NOT EXISTS claim_rule (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)
"""
_COLUMNS = "subject, predicate, object, unit, source, valid_from, valid_to, asserted_at, id"


class ClaimStore(Tables):
    """Claims of one file. A context manager; methods block; one per thread."""

    def __init__(self, path: Path | str | None = None, *, must_exist: bool = False) -> None:
        """Open the claims of the memory at `path`, made where it is missing (None: in memory).

        Raises:
            ConfigError, DataError, CheckpointError, StorageError: as `Tables`.
        """
        super().__init__(
            path, part="claims", schema=_SCHEMA, version=_VERSION, must_exist=must_exist
        )

    def add(self, claims: Iterable[Claim]) -> list[int]:
        """Add claims, all or none; their ids. What contradicts is kept too: see `conflicts`."""
        now = time.time()
        found = []
        with self.changing():
            for claim in claims:
                row = (
                    *(claim.subject, claim.predicate, claim.object, claim.unit, claim.source),
                    *(claim.valid_from, claim.valid_to, claim.asserted_at or now),
                    *(fold(claim.subject), fold(claim.predicate)),
                )
                cursor = self.db.execute(
                    "INSERT INTO claim (subject, predicate, object, unit, source, valid_from, "
                    "valid_to, asserted_at, subject_key, predicate_key) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
                found.append(int(cursor.lastrowid or 0))
        return found

    def get(self, claim_id: int) -> Claim:
        """One claim.

        Raises:
            NotFoundError: there is none of this id.
        """
        found = list(self._select("WHERE id = ?", (claim_id,)))
        if not found:
            raise NotFoundError(f"{self.place} has no claim {claim_id}.")
        return found[0]

    def claims(
        self, subject: str | None = None, predicate: str | None = None, source: str | None = None
    ) -> Iterator[Claim]:
        """Claims by id, of one subject, predicate or source where given."""
        tests, values = [], []
        for column, value in (
            ("subject_key", None if subject is None else fold(subject)),
            ("predicate_key", None if predicate is None else fold(predicate)),
            ("source", source),
        ):
            if value is not None:
                tests.append(f"{column} = ?")
                values.append(value)
        where = f"WHERE {' AND '.join(tests)}" if tests else ""
        yield from self._select(f"{where} ORDER BY id", values)

    def _select(self, where: str, values: Sequence[object] = ()) -> Iterator[Claim]:
        with self.told():
            rows = self.db.execute(f"SELECT {_COLUMNS} FROM claim {where}", values).fetchall()
        names = [name.strip() for name in _COLUMNS.split(",")]
        for row in rows:
            yield Claim(**dict(zip(names, row, strict=True)))

    def __len__(self) -> int:
        with self.told():
            return int(self.db.execute("SELECT count(*) FROM claim").fetchone()[0])

    def retract(self, ids: Iterable[int]) -> int:
        """Remove claims, all or none; how many.

        Raises:
            NotFoundError: one of them is not there; nothing has changed then.
        """
        count = 0
        with self.changing():
            for one in ids:
                if self.db.execute("DELETE FROM claim WHERE id = ?", (one,)).rowcount != 1:
                    raise NotFoundError(f"{self.place} has no claim {one}; nothing was removed.")
                count += 1
        return count

    def set_functional(self, predicate: str, *, tolerance: float = 0.0) -> None:
        """Say that a predicate has one value at a time.

        Args:
            tolerance: numbers this close, as a share, are the same value.
        """
        require(0 <= tolerance < 1, f"tolerance = {tolerance} must lie in [0, 1).")
        require(bool(fold(predicate)), "the predicate has no name.")
        with self.changing():
            self.db.execute(
                "INSERT OR REPLACE INTO claim_predicate VALUES (?, ?)",
                (fold(predicate), tolerance),
            )

    def functional(self) -> dict[str, float]:
        """Functional predicates and their tolerances."""
        with self.told():
            return dict(self.db.execute("SELECT predicate_key, tolerance FROM claim_predicate"))

    def add_rule(self, text: str) -> Rule:
        """Add a Horn rule (`rules`).

        Raises:
            DataError: it is malformed.
        """
        rule = Rule.read(text)
        with self.changing():
            self.db.execute("INSERT OR IGNORE INTO claim_rule (text) VALUES (?)", (rule.text,))
        return rule

    def rules(self) -> list[Rule]:
        """The rules, in the order they were added."""
        with self.told():
            rows = self.db.execute("SELECT text FROM claim_rule ORDER BY id").fetchall()
        return [Rule.read(row[0]) for row in rows]

    def check(self, claim: Claim) -> Judgement:
        """What the store says about a claim, for the days on which the claim is said to hold.

        A claim without days is about every day: it is supported by claims that together leave no
        day out, and contradicted by another value on any day.
        """
        predicate = fold(claim.predicate)
        functional = self.functional()
        value = read_value(claim.object, claim.unit)
        begin, end = claim.validity
        supporting, contradicting, covered = [], [], []
        for other in self.claims(claim.subject, claim.predicate):
            first, last = other.validity
            if first >= end or last <= begin:
                continue
            theirs = read_value(other.object, other.unit)
            relation = compare(theirs, value, functional.get(predicate, 0.0))
            if relation in ("same", "entails"):
                supporting.append(other.id)
                covered.append((first, last))
            elif relation == "differs" and predicate in functional:
                contradicting.append(other.id)
        if contradicting:
            return Judgement("CONTRADICTED", tuple(supporting), tuple(contradicting))
        if supporting and _covers(covered, begin, end):
            return Judgement("SUPPORTED", tuple(supporting))
        return Judgement("UNKNOWN", tuple(supporting))

    def conflicts(self, most: int = 1000) -> list[Conflict]:
        """Minimal sets of claims that cannot all hold, at most `most`, the smallest first.

        Pairs that break a functional predicate, and what breaks rules with them or alone.
        """
        require(most >= 1, "most must be at least 1.")
        rules = self.rules()
        if not rules:
            return list(itertools.islice(self._pairs(), most))
        facts = {}
        spoken = {part[1] for rule in rules for part in rule.body} | set(self.functional())
        for claim in self.claims():
            if fold(claim.predicate) in spoken:
                names = fold(claim.subject), fold(claim.predicate)
                facts[claim.id] = Fact(*names, claim.object, claim.unit, *claim.validity)
        found = minimal_sets(facts, rules, self.functional())
        return [Conflict(ids, why) for ids, why in found[:most]]

    def _pairs(self) -> Iterator[Conflict]:
        for predicate, tolerance in sorted(self.functional().items()):
            groups: dict[str, list[Claim]] = {}
            for claim in self._select("WHERE predicate_key = ? ORDER BY id", (predicate,)):
                groups.setdefault(fold(claim.subject), []).append(claim)
            for group in groups.values():
                for other, one in itertools.combinations(group, 2):
                    if _exclude(one, other, tolerance):
                        yield Conflict((other.id, one.id), f"{predicate} has one value at a time")

    def summary(self) -> dict[str, object]:
        """Counts, for people."""
        with self.told():
            row = self.db.execute(
                "SELECT count(*), count(DISTINCT subject_key), count(DISTINCT predicate_key), "
                "count(DISTINCT nullif(source, '')) FROM claim"
            ).fetchone()
        names = ("claims", "subjects", "predicates", "sources")
        return {
            **dict(zip(names, row, strict=True)),
            "functional": sorted(self.functional()),
            "rules": [rule.text for rule in self.rules()],
        }


def read_claims(path: Path) -> list[Claim]:
    """Claims from JSON lines.

    Raises:
        DataError: the file cannot be read, or a line is no claim; its number is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text; give claims as JSON lines.") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}, line {number}"
            record = None
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
            if record is None:
                raise DataError(f"{where} is no JSON; write one object a line.")
            found.append(Claim.from_record(record, where))
    if not found:
        raise ConfigError(f"{path} has no claims; write one JSON object a line.")
    return found


def _exclude(one: Claim, other: Claim, tolerance: float) -> bool:
    a, b = one.validity, other.validity
    if a[0] >= b[1] or b[0] >= a[1]:
        return False
    values = read_value(one.object, one.unit), read_value(other.object, other.unit)
    return compare(*values, tolerance) == "differs"


def _covers(parts: list[tuple[int, int]], begin: int, end: int) -> bool:
    """Whether the parts leave no day from `begin` to before `end` out."""
    for first, last in sorted(parts):
        if first > begin:
            return False
        begin = max(begin, last)
    return begin >= end
