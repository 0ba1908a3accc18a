"""PostgreSQL as the store needs it: connections that are checked, and never wait for ever."""

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event

from solomonic.core import ConfigError
from solomonic.serve.store.base import StoreConfig

DEFAULTS = {
    "connect_timeout": 5,  # seconds
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,  # a server that fell off the network is noticed after a minute
}
"""Of libpq; a URL's own parameters come first."""


def postgresql_engine(url: URL, config: StoreConfig) -> Engine:
    """An engine with a pool; connects when it is first used.

    Raises:
        ConfigError: psycopg is not installed.
    """
    try:
        engine = create_engine(
            url,
            hide_parameters=True,  # what users said stays out of messages
            pool_pre_ping=True,  # a connection that died while it rested is replaced unnoticed
            pool_size=config.connections,
            max_overflow=0,
            pool_timeout=config.timeout,
            connect_args={key: value for key, value in DEFAULTS.items() if key not in url.query},
        )
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL needs psycopg; install it with pip install 'solomonic[postgres]'."
        ) from error

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        wait = int(1000 * config.timeout)
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {wait}")
            cursor.execute(f"SET lock_timeout = {wait}")
            # Acknowledged is on the disk, even where the server was set up to be hasty.
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        connection.commit()

    return engine
