"""What the server remembers of its users: utterances, personal words, model states, keys.

`open_store` gives one interface over memory, one SQLite file, or PostgreSQL (docs/store.md).
"""

from solomonic.serve.store.base import (
    KeyRecord,
    Store,
    StoreConfig,
    UserMemory,
    UserUsage,
    Utterance,
)
from solomonic.serve.store.opening import copy_store, open_store

__all__ = [
    "Utterance",
    "UserMemory",
    "UserUsage",
    "KeyRecord",
    "Store",
    "StoreConfig",
    "open_store",
    "copy_store",
]
