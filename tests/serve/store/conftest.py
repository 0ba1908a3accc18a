"""Stores to test: in memory, in a file, and in a PostgreSQL server started for the session."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("psycopg")
pytest.importorskip("sqlalchemy")

from postgres_support import MEMORY, database, server  # noqa: F401
from solomonic.serve.store import Store, open_store

StateMaker = Callable[..., bytes]


def make_state(seed: int, size: int = 2000, fingerprint: str = "model-a") -> bytes:
    """A safetensors state file whose bytes are all different for each seed."""
    data = np.random.default_rng(seed).bytes(size)
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    metadata = {"format": "solomonic-state", "version": "1", "fingerprint": fingerprint}
    header = json.dumps({"__metadata__": metadata, "layers.0.x": entry}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a file system: each commit waits for the disk."""
    if MEMORY is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="solomonic-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def state() -> StateMaker:
    return make_state


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path | None:
    """Where a store can be."""
    if request.param == "postgresql":
        return request.getfixturevalue("database")
    return tmp_path / "store.db" if request.param == "sqlite" else None


@pytest.fixture
def store(place: str | Path | None) -> Iterator[Store]:
    """An empty store of each kind."""
    opened = open_store(place)
    yield opened
    opened.close()
