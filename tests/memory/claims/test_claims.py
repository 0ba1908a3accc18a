"""Claims: values compared as values, verdicts by validity, minimal conflicts, and bad input."""

import itertools
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from solomonic.core import CheckpointError, ConfigError, DataError
from solomonic.memory import Memory, NotFoundError
from solomonic.memory.claims import Claim, ClaimStore, Rule, read_claims
from solomonic.memory.claims.rules import Fact, breaks, minimal_set, minimal_sets
from solomonic.memory.claims.values import compare, read_value


def claim(text: str, **more: Any) -> Claim:
    subject, predicate, obj = text.split(" ", 2)
    return Claim(subject=subject, predicate=predicate, object=obj, **more)


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        (("3 km", ""), ("3,000", "m"), "same"),
        (("3 km", ""), ("3001 m", ""), "differs"),
        (("8.3 billion", "people"), ("8300000000 people", ""), "same"),
        (("1/2", ""), ("0.5", ""), "same"),
        (("0 °C", ""), ("273.15 K", ""), "same"),
        (("-3", ""), ("−3", ""), "same"),
        (("3 m", ""), ("3 kg", ""), "differs"),
        (("3", ""), ("3 m", ""), "unknown"),
        (("10 USD", ""), ("10 EUR", ""), "differs"),
        (("3 May 1999", ""), ("1999-05-03", ""), "same"),
        (("May 3, 1999", ""), ("1999", "year"), "entails"),
        (("1999-05", ""), ("3 May 1999", ""), "entailed"),
        (("1999-05", ""), ("1999-06", ""), "differs"),
        (("1999", "year"), ("1999", ""), "unknown"),
        (("true", ""), ("false", ""), "differs"),
        (("Straße  von  X", ""), ("STRASSE von x", ""), "same"),
        (("Bonn", ""), ("Berlin", ""), "differs"),
        (("Bonn", ""), ("3 m", ""), "unknown"),
    ],
)
def test_objects_are_compared_as_values(
    a: tuple[str, str], b: tuple[str, str], relation: str
) -> None:
    mirror = {"entails": "entailed", "entailed": "entails"}
    one, other = read_value(*a), read_value(*b)
    assert compare(one, other) == relation
    assert compare(other, one) == mirror.get(relation, relation)


def test_tolerance_is_a_share() -> None:
    one, other = read_value("8848.86 m"), read_value("8.85 km")
    assert compare(one, other) == "differs"
    assert compare(one, other, 0.001) == "same"
    assert compare(one, other, 0.0001) == "differs"


def test_verdicts_follow_values_and_time() -> None:
    with ClaimStore() as store:
        ids = store.add(
            [
                claim("Germany capital Bonn", valid_from="1949-05-23", valid_to="1990-10-03"),
                claim("Germany capital Berlin", valid_from="1990-10-03", source="law"),
                claim("Germany borders France"),
                claim("Ada born 10 December 1815"),
            ]
        )

        def verdict(text: str, begin: str = "", end: str = "", unit: str = "") -> str:
            return store.check(claim(text, valid_from=begin, valid_to=end, unit=unit)).verdict

        # Before anyone says that there is one capital at a time, two are no contradiction.
        assert verdict("Germany capital Berlin", "1960", "1961") == "UNKNOWN"
        store.set_functional("Capital")
        assert verdict("germany CAPITAL bonn", "1960", "1961") == "SUPPORTED"
        assert verdict("Germany capital Berlin", "1960", "1961") == "CONTRADICTED"
        assert verdict("Germany capital Berlin", "2001", "2002") == "SUPPORTED"
        assert verdict("Germany capital Bonn", "1990-10-02", "1990-10-03") == "SUPPORTED"
        assert verdict("Germany capital Bonn", "1990-10-03", "1990-10-04") == "CONTRADICTED"
        assert verdict("Germany capital Bonn", "1940", "1941") == "UNKNOWN"
        assert verdict("Germany capital Bonn", "1940", "1950") == "UNKNOWN"  # not all of it
        assert verdict("Germany borders Poland") == "UNKNOWN"  # it may border both
        assert verdict("Germany borders France", "1960", "1961") == "SUPPORTED"
        assert verdict("France capital Paris") == "UNKNOWN"
        # What is known to the day supports the year, and not the other way round.
        assert verdict("Ada born 1815", unit="year") == "SUPPORTED"
        assert verdict("Ada born 1816", unit="year") == "UNKNOWN"
        store.set_functional("born")
        assert verdict("Ada born 1816", unit="year") == "CONTRADICTED"
        found = store.check(claim("Germany capital Berlin", valid_from="1960", valid_to="2000"))
        assert (found.supporting, found.contradicting) == ((ids[1],), (ids[0],))


def test_claims_that_follow_each_other_cover_the_time_together() -> None:
    with ClaimStore() as store:
        store.add(
            [
                claim("x leads y", valid_from="2000", valid_to="2005"),
                claim("x leads y", valid_from="2005", valid_to="2010"),
            ]
        )
        assert store.check(claim("x leads y", valid_from="2001", valid_to="2009")).verdict == (
            "SUPPORTED"
        )
        assert store.check(claim("x leads y", valid_from="2001", valid_to="2011")).verdict == (
            "UNKNOWN"
        )


def test_conflicts_are_minimal_and_complete() -> None:
    with ClaimStore() as store:
        height = [claim("Everest height 8848.86 m"), claim("everest height 8.84886 km")]
        store.add([*height, claim("Everest height 8,850 m"), claim("K2 height 8611 m")])
        store.set_functional("height")
        pairs = [(1, 3), (2, 3)]
        assert [conflict.ids for conflict in store.conflicts()] == pairs
        store.add([claim("a in b"), claim("b in c"), claim("c in a"), claim("c in d")])
        store.add_rule("?x in ?y & ?y in ?z -> ?x in ?z")
        store.add_rule("?x in ?x -> false")
        found = store.conflicts()
        assert [conflict.ids for conflict in found] == [*pairs, (5, 6, 7)]
        assert found[2].why == "?x in ?x -> false"
        assert [conflict.ids for conflict in store.conflicts(most=1)] == pairs[:1]
        # Leave any one out, and the conflict is gone.
        store.retract([6])
        assert [conflict.ids for conflict in store.conflicts()] == pairs
        store.set_functional("height", tolerance=0.001)
        assert store.conflicts() == []


def test_what_is_derived_conflicts_only_on_common_days() -> None:
    with ClaimStore() as store:
        store.set_functional("lives_in")
        store.add_rule("?p works_at ?c & ?c located_in ?t -> ?p lives_in ?t")
        store.add(
            [
                claim("Ann works_at Acme", valid_from="2000", valid_to="2010"),
                claim("Acme located_in Rome", valid_from="1990", valid_to="2005"),
                claim("Ann lives_in Oslo", valid_from="2005"),
            ]
        )
        assert store.conflicts() == []
        store.add([claim("Ann lives_in Oslo", valid_from="2004", valid_to="2005")])
        assert [conflict.ids for conflict in store.conflicts()] == [(1, 2, 4)]


def test_comparisons_in_rules() -> None:
    with ClaimStore() as store:
        store.add_rule("?p born ?b & ?p died ?d & ?d before ?b -> false")
        store.add_rule("?x mass ?m & ?m less '0 kg' -> false")
        store.add([claim("Ada born 1815-12-10"), claim("Ada died 1852", unit="year")])
        assert store.conflicts() == []
        store.add([claim("Ada died 1815-12-09"), claim("y mass -3 g")])
        assert [conflict.ids for conflict in store.conflicts()] == [(4,), (1, 3)]


RULES = [
    "?x r ?y & ?y r ?z -> ?x s ?z",
    "?x s ?y & ?y s ?x -> false",
    "?x r ?y & ?x t ?y -> false",
    "?x s ?y & ?y t ?z -> ?x f ?z",
]


def test_minimal_sets_equal_those_of_all_subsets() -> None:
    """All 2^n subsets, by the definition: inconsistent, and every proper subset consistent."""
    rules = [Rule.read(text) for text in RULES]
    single = {"f": 0.0}
    rng, seen = random.Random(4), 0
    for _ in range(12):
        facts = {}
        for number in range(1, 7):
            begin = rng.choice([0, 0, 5])
            names = rng.choice("abc"), rng.choice("rrrtf"), rng.choice("abc")
            facts[number] = Fact(*names, "", begin, begin + rng.choice([5, 8, 10]))
        wrong = [
            set(ids)
            for size in range(1, 7)
            for ids in itertools.combinations(facts, size)
            if breaks([facts[i] for i in ids], rules, single)
        ]
        wanted = {tuple(sorted(ids)) for ids in wrong if not any(o < ids for o in wrong)}
        assert {ids for ids, _ in minimal_sets(facts, rules, single)} == wanted
        one = minimal_set(facts, rules, single)
        assert one is None if not wanted else one is not None and one[0] in wanted
        seen += len(wanted)
    assert seen > 8


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("?x a ?y", "no rule"),
        ("?x a -> false", "subject, predicate, object"),
        ("?x a ?y -> ?x b ?z", "binds \\?z"),
        ("?x ?p ?y -> false", "cannot be a variable"),
        ("?x before ?y -> false", "binds"),
    ],
)
def test_bad_rules_are_refused(text: str, why: str) -> None:
    with ClaimStore() as store, pytest.raises(DataError, match=why):
        store.add_rule(text)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"subject": "a", "predicate": "b"}, "no object"),
        ({"subject": " ", "predicate": "b", "object": "c"}, "subject and a predicate"),
        ({"subject": "a", "predicate": "b", "object": ""}, "empty"),
        ({"subject": "a", "predicate": "b", "object": "c", "unit": "km"}, "no number"),
        ({"subject": "a", "predicate": "b", "object": "3", "unit": "parsecs"}, "no unit"),
        ({"subject": "a", "predicate": "b", "object": "3 m", "unit": "km"}, "unit of its own"),
        ({"subject": "a", "predicate": "b", "object": "c", "valid_from": "soon"}, "no date"),
        (
            {"subject": "a", "predicate": "b", "object": "c", "valid_from": "2000",
             "valid_to": "2000"},
            "before it begins",
        ),
        ({"subject": "a", "predicate": "b", "object": "c", "when": 1}, "unknown field 'when'"),
        ([], "no object with"),
    ],
)  # fmt: skip
def test_bad_claims_are_refused(record: object, why: str) -> None:
    with pytest.raises(DataError, match=why):
        Claim.from_record(record)


def test_the_store_keeps_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with Memory.open(path) as memory:
        memory.write("Everest is 8,848.86 m high.", source="survey")
    with ClaimStore(path) as store:
        made = Claim.from_record(
            {"subject": "Everest", "predicate": "height", "object": 8848.86, "unit": "m",
             "source": "survey", "asserted_at": 5.0}
        )  # fmt: skip
        (number,) = store.add([made])
        assert store.get(number) == made and store.get(number).asserted_at == 5.0
    with ClaimStore(path, must_exist=True) as store:
        assert [one.id for one in store.claims(subject="EVEREST", source="survey")] == [number]
        assert list(store.claims(predicate="depth")) == []
        assert len(store) == 1
    with Memory.open(path) as memory:
        assert len(memory) == 1


def test_changes_are_all_or_nothing(tmp_path: Path) -> None:
    with ClaimStore(tmp_path / "c.db") as store:
        store.add([claim("a b c"), claim("a b d")])
        with pytest.raises(NotFoundError, match="no claim 7"):
            store.retract([1, 7])
        assert len(store) == 2
        with pytest.raises(NotFoundError):
            store.get(7)

        def some():  # type: ignore[no-untyped-def]
            yield claim("x y z")
            raise DataError("cut")

        with pytest.raises(DataError, match="cut"):
            store.add(some())
        assert len(store) == 2
        assert store.retract([1]) == 1
        assert store.add([claim("e f g")]) == [3]  # numbers are never given twice


def test_foreign_newer_and_missing_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no store"):
        ClaimStore(tmp_path / "none.db", must_exist=True)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "text").write_text("words " * 1000)
    with pytest.raises(CheckpointError):
        ClaimStore(tmp_path / "text")
    ClaimStore(tmp_path / "c.db").close()
    db = sqlite3.connect(tmp_path / "c.db")
    db.execute("UPDATE claims_version SET version = 2")
    db.commit()
    db.close()
    with pytest.raises(CheckpointError, match="newer"):
        ClaimStore(tmp_path / "c.db")
    closed = ClaimStore()
    closed.close()
    with pytest.raises(ConfigError, match="closed"):
        len(closed)


def test_files_of_claims_name_the_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"subject": "a", "predicate": "b", "object": true}\n\n{"subject": 1}\n')
    with pytest.raises(DataError, match=r"c.jsonl, line 3 has no predicate"):
        read_claims(path)
    path.write_text('{"subject": "a", "predicate": "b", "object": true}\n')
    assert read_claims(path)[0].object == "true"
    for text, why in (("{", "line 1 is no JSON"), ("", "no claims")):
        path.write_text(text)
        with pytest.raises((DataError, ConfigError), match=why):
            read_claims(path)
