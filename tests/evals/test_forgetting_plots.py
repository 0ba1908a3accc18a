"""What a memory keeps over time: the replay, its pictures, and the files it reads."""

from pathlib import Path

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError
from solomonic.evals.forgetting_plots import plot_items, plot_kept, read_values, watch
from solomonic.memory.forgetting import ExponentialDecay, forgetting_from


def losses(length: int = 120) -> np.ndarray:
    """A jump in the middle."""
    values = np.random.default_rng(0).normal(3, 0.5, length)
    values[length // 2 :] += 4
    return values


def test_a_replay_asks_at_moments() -> None:
    kept = watch(losses(), forgetting_from("changes"), most=25)
    assert kept.moments[0] == 0
    assert kept.moments[-1] == 120
    assert kept.weights.shape == (25, 25)
    upper = np.triu_indices(25, 1)
    assert np.isnan(kept.weights[upper]).all()  # not written yet
    assert (kept.weights[np.tril_indices(25)] >= 0).all()
    ((seen, placed),) = kept.changes
    assert kept.final == [placed]
    assert placed == 60 <= seen <= 75
    last = kept.weights[-1]
    assert (last[kept.moments < 58] < 0.01).all()
    assert (last[kept.moments > 62] > 0.8).all()


def test_weights_are_the_forgettings_own() -> None:
    kept = watch([1.0] * 40, ExponentialDecay(8), most=6)
    row = kept.moments[-1] - kept.moments
    np.testing.assert_allclose(kept.weights[-1], 0.5 ** (row / 8))


def test_one_value_is_enough_and_none_is_too_few(tmp_path: Path) -> None:
    kept = watch([2.0], forgetting_from("changes"))
    assert plot_kept(kept, tmp_path / "one.png").stat().st_size > 1000
    with pytest.raises(DataError, match="empty"):
        watch([], forgetting_from("none"))


def test_pictures_are_the_same_each_time(tmp_path: Path) -> None:
    kept = watch(losses(), forgetting_from("changes"), most=30)
    first = plot_kept(kept, tmp_path / "a.svg", "losses").read_bytes()
    again = plot_kept(kept, tmp_path / "b.svg", "losses").read_bytes()
    assert first == again
    assert b"<svg" in first
    steps, weights = np.arange(0, 100, 5), np.linspace(0.01, 1, 20)
    dots = plot_items(steps, weights, [40], 100, tmp_path / "items.svg").read_bytes()
    assert b"<svg" in dots
    with pytest.raises(DataError, match="empty"):
        plot_items(steps[:0], weights[:0], [], 0, tmp_path / "none.svg")
    with pytest.raises(ConfigError, match="png"):
        plot_kept(kept, tmp_path / "a.gif")


def test_files_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1.5\n2, 3e1\n")
    (tmp_path / "a.jsonl").write_text('{"loss": 1.5}\n{"other": 7}\n\n{"loss": 2}\n{"loss": 30}\n')
    np.save(tmp_path / "a.npy", np.array([1.5, 2, 30]))
    for name in ("a.txt", "a.jsonl", "a.npy"):
        assert read_values(tmp_path / name).tolist() == [1.5, 2, 30]
    assert read_values(tmp_path / "a.jsonl", "other").tolist() == [7]
    (tmp_path / "words.txt").write_text("1 two 3")
    (tmp_path / "bad.jsonl").write_text('{"loss": [1]}\n')
    (tmp_path / "objects.npy").write_bytes(b"\x93NUMPY nonsense")
    for name in ("words.txt", "bad.jsonl", "objects.npy"):
        with pytest.raises(DataError, match="numbers only"):
            read_values(tmp_path / name)
    with pytest.raises(DataError, match="cannot read"):
        read_values(tmp_path / "missing.txt")
