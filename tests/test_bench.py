"""The speed benchmark's arithmetic: plans, ratios, targets, shares of the machine's limits.

Nothing is measured here and no peer is needed.
"""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of benchmarks/, which is no package."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_a_ratio_is_taken_round_by_round(bench) -> None:
    """The machine halves its speed in the second round: the ratio does not notice."""
    found = bench("speed_targets").paired([20.0, 10.0, 22.0], [10.0, 5.0, 10.0])
    assert found == (2.0, 2.0, 2.1)


def test_one_round_has_no_spread(bench) -> None:
    assert bench("speed_targets").spread([3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(("ours", "verdict"), [(12.0, "met"), (11.9, "missed"), (None, "open")])
def test_a_verdict(bench, ours: float | None, verdict: str) -> None:
    targets = bench("speed_targets")
    target = targets.Target("x", "decode/10M/1/512", "ours/M/float32", "peer/M/float32", 1.2)
    rows = {"peer/M/float32": {"rates": [10.0]}, "ours/M/float32": {"error": "not there yet"}}
    if ours is not None:
        rows["ours/M/float32"] = {"rates": [ours]}
    table = targets.judge([target], {target.cell: {"rows": rows}}, {})
    assert table[0]["verdict"] == verdict
    assert {row["verdict"] for row in table[1:]} == {"open"}  # what needs a GPU


def test_less_memory_is_a_higher_ratio(bench) -> None:
    targets = bench("speed_targets")
    target = targets.Target("x", "train/10M/1/8192", "a", "b", 3.0, "bytes")
    rows = {"a": {"rates": [1.0], "bytes": 100}, "b": {"rates": [1.0], "bytes": 400}}
    assert targets.measured(target, {target.cell: {"rows": rows}}, {}).median == 4.0


def test_the_share_of_the_bandwidth_counts_weights_and_state_once(
    bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets, limits = bench("speed_targets"), bench("limits")
    monkeypatch.setattr(limits, "third_level", lambda: 0)
    row = {"weight_bytes": 80, "state_bytes": 20, "rates": [64.0], "rows": 64}
    found = {"memory/1": 200.0}
    assert targets.memory_share(row, 1, found) == [0.5]
    monkeypatch.setattr(limits, "third_level", lambda: 1_000)  # everything fits the cache
    assert targets.memory_share(row, 1, found) is None
    assert targets.memory_share(row, 1, {"cache/1": 400.0}) == [0.25]
    monkeypatch.setattr(limits, "third_level", lambda: 80)  # a part fits: neither is the limit
    assert targets.memory_share(row, 1, found | {"cache/1": 400.0}) is None


def test_every_target_is_about_something_that_the_plan_measures(bench) -> None:
    cells = {
        cell.name: {contender.label for contender in cell.contenders}
        for cell in bench("speed_plan").full_plan()
    }
    for target in bench("speed_targets").ALL:
        assert target.ours in cells[target.cell], target
        assert target.peer == "limit" or target.peer in cells[target.cell], target


def test_cells_have_names_of_their_own_and_labels_too(bench) -> None:
    plan = bench("speed_plan")
    for cells in (plan.full_plan(), plan.quick_plan()):
        assert len({cell.name for cell in cells}) == len(cells)
        for cell in cells:
            assert len({c.label for c in cell.contenders}) == len(cell.contenders), cell.name
    assert sum(cell.seconds for cell in plan.full_plan()) <= 25 * 60


def test_cells_are_chosen_by_pieces_of_their_name(bench) -> None:
    plan = bench("speed_plan")
    cells = plan.full_plan()
    assert [c.name for c in plan.chosen(cells, ["decode/10M/1/512"], [])] == ["decode/10M/1/512"]
    assert {c.size for c in plan.chosen(cells, [], ["10M"])} == {"130M"}
    assert plan.chosen(cells, ["10"], []) == []
    only = plan.chosen(cells, ["llama.cpp"], ["flat"])
    assert {c.peer for cell in only for c in cell.contenders} == {"llama.cpp"}
    assert "train/10M/1/512" not in {cell.name for cell in only}


def test_a_contender_that_was_not_there_yet_is_asked_again(bench) -> None:
    plan, speed = bench("speed_plan"), bench("speed")
    cell = plan.Cell("decode", "10M", 1, 512, plan.of("ours", "M", "float32", "int8"), 1, 1)
    rows = {
        "ours/M/float32": {"rates": [1.0]},
        "ours/M/int8": {"error": "not there yet: x", "refused": True},
    }
    assert speed.missing(cell, {}) == cell
    assert speed.missing(cell, {cell.name: {"rows": rows}}) == cell
    rows["ours/M/int8"] = {"error": "RuntimeError: once"}
    assert speed.missing(cell, {cell.name: {"rows": rows}}) == cell
    rows["ours/M/int8"] = {"error": "this never runs here", "refused": True}
    assert speed.missing(cell, {cell.name: {"rows": rows}}) is None


@pytest.mark.parametrize("size", ["10M", "130M"])
def test_models_of_a_size_have_about_as_many_parameters(bench, size: str) -> None:
    from solomonic.recipes.parameters import count_parameters

    counts = [count_parameters(bench("sizes").ours(size, letter)) for letter in "MBFDWT"]
    assert max(counts) / min(counts) < 1.25
    assert {"10M": 8.5e6, "130M": 105e6}[size] < min(counts)


WORKER = """
import sys; sys.path.insert(0, {folder!r})
from peers.protocol import NotHere, serve
class Model:
    def facts(self): print("noise"); return {{"parameters": 7}}
    def set_threads(self, threads): pass
    def seat(self, position, rows): return position * rows
    def decode(self, tokens): pass
    def prefill(self, tokens): raise NotHere("too long")
serve(lambda spec, weights, threads: Model())
"""


def test_a_worker_answers_line_by_line_whatever_the_model_prints() -> None:
    asked = [
        '{"do": "load", "name": "a", "spec": {}, "weights": "float32"}',
        '{"do": "seat", "name": "a", "position": 5, "rows": 2}',
        '{"do": "prefill", "name": "a", "tokens": 9}',
        '{"do": "decode", "name": "a", "tokens": 3, "rows": 2}',
    ]
    code = WORKER.format(folder=str(BENCHMARKS))
    ended = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(asked), capture_output=True, text=True
    )
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert answers[0] == {"parameters": 7}
    assert answers[1]["state_bytes"] == 10
    assert answers[2] == {"error": "too long", "refused": True}
    assert answers[3]["tokens"] == 6
    assert {"cpu", "wall"} <= set(answers[3])
    assert "noise" in ended.stderr
