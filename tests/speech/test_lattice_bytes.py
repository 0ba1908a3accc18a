"""The benchmark of message sizes, on lattices like a decoder's and noise for audio."""

import importlib
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from lattice_support import command_lattice

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def lattice_bytes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # it is no package
    return importlib.import_module("lattice_bytes")


def test_messages_are_compared_with_opus_and_pcm(lattice_bytes: ModuleType) -> None:
    audio = np.random.default_rng(0).normal(0, 0.05, 5 * 16_000).astype(np.float32)
    sizes = lattice_bytes.measure([(command_lattice(seed), audio) for seed in range(3)])
    summary = lattice_bytes.summarise(sizes)
    assert all(size.pcm == 160_000 and size.opus == 15_000 for size in sizes)
    assert all(size.message == size.unlimited <= 1000 and size.kept == size.arcs for size in sizes)
    assert summary["largest_message"] == max(size.message for size in sizes)
    assert summary["times_smaller_than_opus"] >= 15
    assert summary["times_smaller_than_pcm"] >= 150
    assert summary["arcs_kept"] == 1.0


@pytest.mark.skipif(not shutil.which("opusenc"), reason="opusenc is not installed (opus-tools)")
def test_opusenc_makes_about_its_nominal_rate(lattice_bytes: ModuleType) -> None:
    audio = np.random.default_rng(0).normal(0, 0.05, 10 * 16_000).astype(np.float32)
    size = lattice_bytes.opus_file_bytes(audio)
    assert size is not None and 0.7 * 30_000 < size < 1.5 * 30_000
