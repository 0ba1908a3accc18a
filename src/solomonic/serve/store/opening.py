"""From a path or a URL to a store, and from one store to another."""

from pathlib import Path
from typing import TYPE_CHECKING

from solomonic.core import ConfigError
from solomonic.serve.store.base import StoreConfig

if TYPE_CHECKING:
    from solomonic.serve.store.sql import SqlStore

FILE = "store.db"
"""Name of the database in a folder that is given as the place."""
FORMS = "give a path, sqlite:///PATH, or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def open_store(url: str | Path | None = None, config: StoreConfig | None = None) -> "SqlStore":
    """Open a store, make it where there is none, and bring its tables to the newest version.

    Args:
        url: None (or "") keeps all in memory until `close`; a path (of a file, or of a folder that
            is there) or `sqlite:///...` keeps it in a SQLite file with a folder of states beside
            it; `postgresql+psycopg://...` in a PostgreSQL database.

    Raises:
        ConfigError: a URL of another kind, or a package is missing.
        StorageError: the place cannot be written, or the server does not answer.
        CheckpointError: something else is there, or damaged, or written by a newer solomonic.
    """
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise ConfigError(
            "the store needs SQLAlchemy; install it with pip install 'solomonic[serve]'."
        ) from error
    from solomonic.serve.store.sql import SqlStore

    config = config or StoreConfig()
    if not url:
        return SqlStore.in_memory(config)
    if isinstance(url, Path) or "://" not in url:
        return SqlStore.in_file(_file(Path(url)), config)
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"this is no address of a store; {FORMS}.") from error
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if parsed.database in (None, "", ":memory:"):
            return SqlStore.in_memory(config)
        return SqlStore.in_file(_file(Path(parsed.database)), config)
    if parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        raise ConfigError(f"the store does not speak '{parsed.drivername}'; {FORMS}.")
    return SqlStore.in_postgresql(parsed.set(drivername="postgresql+psycopg"), config)


def copy_store(source: "SqlStore", target: "SqlStore") -> dict[str, int]:
    """Copy every user and key; see `copying.copy_store`."""
    from solomonic.serve.store import copying

    return copying.copy_store(source, target)


def _file(path: Path) -> Path:
    return path / FILE if path.is_dir() else path
