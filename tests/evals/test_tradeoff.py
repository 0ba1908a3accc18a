"""Errors against bytes: every row is drawn at its place, and what is no result file is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from solomonic.core import DataError
from solomonic.evals import tradeoff


def row(name: str, kind: str, size: int, **errors: float) -> dict[str, Any]:
    found = {
        test: {"greedy": {"wer": wer, "low": 0.8 * wer, "high": 1.2 * wer}}
        for test, wer in errors.items()
    }
    return {"name": name, "kind": kind, "bytes": size, "errors": found}


ROWS = [
    row("8 bits", "rounded", 6_000_000, AN4=0.1, digits=0.08),
    row("4 bits", "rounded", 3_000_000, AN4=0.11, digits=0.1),
    row("random", "random zeros", 1_900_000, AN4=1.05, digits=0.9),
    row("trained", "trained", 1_900_000, AN4=0.1, digits=0.0),
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    file = tmp_path / "compression.json"
    file.write_text(json.dumps({"rows": ROWS}))
    return file


def test_every_row_is_a_point_of_every_test_set(results: Path) -> None:
    points = tradeoff.load_points(results)
    assert len(points) == 8
    first = points[0]
    assert (first.name, first.kind, first.bytes) == ("8 bits", "rounded", 6_000_000)
    assert (first.test, first.wer) == ("AN4", 0.1)
    assert (first.low, first.high) == pytest.approx((0.08, 0.12))


def test_points_stand_where_they_belong(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(tradeoff, "save_figure", lambda figure, path: drawn.append(figure) or path)
    tradeoff.plot_tradeoff(tradeoff.load_points(results), tmp_path / "x.svg")
    first, second = drawn[0].axes
    assert (first.get_title("left"), second.get_title("left")) == ("AN4", "digits")
    lines = {bars.get_label(): bars.lines[0] for bars in first.containers}
    assert lines.keys() == {"rounded", "random zeros", "trained"}
    # Sorted by size, in MB and percent.
    assert lines["rounded"].get_xdata().tolist() == [3.0, 6.0]
    assert lines["rounded"].get_ydata().tolist() == pytest.approx([11.0, 10.0])
    faultless = {bars.get_label(): bars.lines[0] for bars in second.containers}["trained"]
    assert faultless.get_ydata()[0] > 0  # no error at all has a place too


def test_equal_results_give_equal_pictures(results: Path, tmp_path: Path) -> None:
    points = tradeoff.load_points(results)
    one = tradeoff.plot_tradeoff(points, tmp_path / "one.svg").read_bytes()
    assert one == tradeoff.plot_tradeoff(points, tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.unlink(), "cannot read"),
        (lambda file: file.write_text("{"), "holds no sizes and errors"),
        (lambda file: file.write_text("{}"), "holds no sizes and errors"),
        (lambda file: file.write_text('{"rows": []}'), "has no errors of 'greedy'"),
    ],
)
def test_no_result_file_is_one_sentence(
    change: Callable[[Path], object], message: str, results: Path
) -> None:
    change(results)
    with pytest.raises(DataError, match=message):
        tradeoff.load_points(results)


def test_another_search_is_named(results: Path) -> None:
    with pytest.raises(DataError, match="has no errors of 'beam'; it has greedy"):
        tradeoff.load_points(results, "beam")
