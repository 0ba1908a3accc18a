"""Memories to test, and places for them that do not wait for a disk."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from postgres_support import MEMORY, database, server  # noqa: F401
from solomonic.memory import Memory

DIM = 16


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a file system."""
    if MEMORY is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="solomonic-", dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def path(folder: Path) -> Path:
    """Where a memory can be made."""
    return folder / "m.db"


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def memory(request: pytest.FixtureRequest) -> Iterator[Memory]:
    """An empty memory of each kind."""
    if request.param == "memory":
        place = ":memory:"
    elif request.param == "sqlite":
        place = request.getfixturevalue("path")
    else:
        place = request.getfixturevalue("database")
    with Memory.open(place) as opened:
        yield opened
