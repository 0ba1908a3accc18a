"""From a path or an address to the truth of a memory, and to the right to write it."""

from pathlib import Path

from solomonic.core import ConfigError, StorageError
from solomonic.memory.config import MemoryConfig
from solomonic.memory.index import DerivedIndex, Following
from solomonic.memory.lock import WriterLock
from solomonic.memory.sqlite import SqliteTruth
from solomonic.memory.truth import Truth

QUOTES = "quotes"
"""Name of the derived file that holds a memory's texts sorted (`quotes.kept`)."""
FORMS = "give a path, ':memory:', or postgresql://USER:PASSWORD@HOST/DATABASE"


def open_truth(path: str | Path, dim: int | None, config: MemoryConfig, read_only: bool) -> Truth:
    """Open the tables of a memory, and make them where there are none.

    Raises:
        As `Memory.open`.
    """
    if dim is not None and dim < 1:
        raise ConfigError(f"dim is {dim}; vectors have one dimension or more.")
    if isinstance(path, str) and "://" in path:
        scheme, _, rest = path.partition("://")
        if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
            from solomonic.memory.postgres import open_postgres  # pyright: ignore

            return open_postgres(f"postgresql://{rest}", dim, config, read_only)
        if scheme != "sqlite":
            raise ConfigError(f"a memory does not speak '{scheme}'; {FORMS}.")
        path = rest.removeprefix("/")
    if not str(path):
        raise ConfigError(f"there is no path; {FORMS}.")
    file = None if str(path) == ":memory:" else Path(path)
    if file is None and read_only:
        raise ConfigError("a memory in ':memory:' begins empty; open it to be written.")
    if file is not None and file.is_dir():
        raise StorageError(f"{file} is a folder; give the path of the memory's file.")
    lock = None if file is None or read_only else WriterLock(file, config.timeout)
    try:
        truth = SqliteTruth(file, read_only, config.timeout, lock)
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    try:
        truth.prepare(dim, config.metric)
    except BaseException:
        truth.close()
        raise
    return truth


def open_index(truth: Truth, config: MemoryConfig) -> Following:
    """The index of vectors that belongs to these tables."""
    return DerivedIndex(truth, config, beside(truth, "index"))


def beside(truth: Truth, name: str) -> Path | None:
    """Where a file that is derived from these tables stands; None where they are in no file."""
    if not isinstance(truth, SqliteTruth) or truth.path is None:
        return None
    return truth.path.with_name(f"{truth.path.name}-{name}")
