"""`solomonic solve` and `solomonic claims` as people and programs call them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TASKS = [
    {"id": "sum", "kind": "arithmetic", "expression": "1/3 + 1/6"},
    {"id": "squares", "kind": "sequence", "terms": [0, 1, 4, 9, 16, 25], "next": 2},
    {"id": "top", "kind": "function", "examples": [{"in": [[3, 1]], "out": 3}]},
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(map(json.dumps, TASKS)))
    return path


def test_tasks_are_solved_and_the_second_time_remembered(
    cli: Callable[..., Any], tasks: Path, tmp_path: Path
) -> None:
    first = cli("solve", tasks, "--store", tmp_path / "s.db", "--json")
    second = cli("solve", tasks, "--store", tmp_path / "s.db", "--json")
    assert first.status == second.status == 0
    records = [[json.loads(line) for line in done.out.splitlines()] for done in (first, second)]
    assert [record["id"] for record in records[0]] == ["sum", "squares", "top"]
    assert [record["path"] for record in records[1]] == ["hit"] * 3
    for one, other in zip(*records, strict=True):
        assert one["value"] == other["value"] and one["verified"]
    assert records[0][1]["details"] == {"next": [36, 49]}
    people = cli("solve", tasks, "--store", tmp_path / "s.db")
    assert "sum: 1/2  hit  exact arithmetic" in people.out
    assert "holds 3 tasks, 3 of them solved" in people.err


def test_refused_tasks_do_not_stop_the_others(
    cli: Callable[..., Any], tasks: Path, tmp_path: Path
) -> None:
    bad = [{"kind": "arithmetic", "expression": "1 +"}, {"kind": "open", "question": "?"}]
    tasks.write_text("\n".join(map(json.dumps, [*bad, *TASKS[:1]])))
    done = cli("solve", tasks, "--store", tmp_path / "s.db", "--json")
    assert done.status == 2
    assert [json.loads(line).get("value") for line in done.out.splitlines()] == [None, None, "1/2"]
    assert "2 of 3 tasks were refused" in done.err and "ends too early" in done.err


def test_bad_files_are_one_sentence(cli: Callable[..., Any], tasks: Path, tmp_path: Path) -> None:
    assert "cannot read" in cli("solve", tmp_path / "none", "--store", tmp_path / "s.db").err
    (tmp_path / "foreign").write_text("words " * 1000)
    done = cli("solve", tasks, "--store", tmp_path / "foreign")
    assert done.status == 2 and "not a memory of solomonic" in done.err
    done = cli("solve", tasks, "--store", "postgresql://x/y")
    assert done.status == 2 and "kept in a file" in done.err


def test_a_model_proposes(
    cli: Callable[..., Any], tasks: Path, tmp_path: Path, model_dir: Path
) -> None:
    """An untrained model proposes nonsense: everything is verified, so answers stay right."""
    tasks.write_text("\n".join(map(json.dumps, [*TASKS[:1], {"kind": "open", "question": "?"}])))
    done = cli(
        *("solve", tasks, "--store", tmp_path / "s.db", "--lm", model_dir, "--json"),
        *("--confidence", "0.000001"),
    )
    assert done.status == 0, done.err
    first, second = map(json.loads, done.out.splitlines())
    assert (first["value"], first["verified"]) == ("1/2", True)
    assert (second["path"], second["verified"]) == ("confident", False)
    assert "NOT VERIFIED" in second["proof"]


def test_claims_from_adding_to_conflicts(cli: Callable[..., Any], tmp_path: Path) -> None:
    store = tmp_path / "c.db"
    everest = ("claims", "add", store, "Everest", "height")
    assert cli(*everest, "8,848.86", "--unit", "m", "--source", "survey").status == 0
    assert cli(*everest, "8.85 km", "--source", "guide").status == 0
    assert "UNKNOWN" in cli("claims", "check", store, "Everest", "depth", "3 m").out
    assert "SUPPORTED" in cli("claims", "check", store, "everest", "height", "8850 m").out
    assert cli("claims", "conflicts", store, "--json").record == []
    assert cli("claims", "functional", store, "height").status == 0
    found = cli("claims", "check", store, "everest", "height", "8850 m", "--json").record
    assert found["verdict"] == "CONTRADICTED"
    assert [one["source"] for one in found["contradicting"]] == ["survey"]
    assert cli("claims", "conflicts", store, "--json").record[0]["ids"] == [1, 2]
    listed = cli("claims", "list", store, "--json").out
    (tmp_path / "c.jsonl").write_text(listed)
    assert cli("claims", "add", tmp_path / "d.db", "--file", tmp_path / "c.jsonl").status == 0
    assert cli("claims", "list", tmp_path / "d.db", "--json").out == listed
    assert cli("claims", "retract", store, 2).status == 0
    assert cli("claims", "rule", store, "?x in ?x -> false").status == 0
    stats = cli("claims", "stats", store, "--json").record
    assert (stats["claims"], stats["rules"]) == (1, ["?x in ?x -> false"])
    at = cli("claims", "check", store, "everest", "height", "8848.86 m", "--at", "2020-02")
    assert at.out.startswith("SUPPORTED")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("add", "{}"), "give SUBJECT PREDICATE OBJECT"),
        (("check", "{}", "a", "b", "c"), "there is no store"),
        (("check", "{}", "a", "b", "c", "--at", "soon"), "no date"),
        (("add", "{}", "a", "b", "3", "--unit", "parsecs"), "no unit"),
        (("rule", "{}", "nonsense"), "no rule"),
        (("add", "postgresql://x/y", "a", "b", "3"), "kept in a file"),
    ],
)
def test_claims_bad_input(
    arguments: tuple[str, ...], why: str, cli: Callable[..., Any], tmp_path: Path
) -> None:
    done = cli("claims", *(part.format(tmp_path / "none.db") for part in arguments))
    assert done.status == 2 and why in done.err
