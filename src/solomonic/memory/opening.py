"""From a path or an address to the truth of a memory, and to the right to write it."""

from pathlib import Path

from solomonic.core import ConfigError
from solomonic.memory.config import MemoryConfig
from solomonic.memory.sqlite import SqliteTruth
from solomonic.memory.truth import Truth

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
    truth = SqliteTruth(file, read_only, config.timeout)
    try:
        truth.prepare(dim, config.metric)
    except BaseException:
        truth.close()
        raise
    return truth
