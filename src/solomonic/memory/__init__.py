"""Long-term verbatim memory: what was read, where it stood, and what of it still counts.

`Memory.open` gives one interface over an SQLite file or PostgreSQL (docs/memory.md).
"""

from typing import TYPE_CHECKING, Any

from solomonic.memory.config import MemoryConfig

if TYPE_CHECKING:
    from solomonic.memory.eviction import Compaction
    from solomonic.memory.item import Hit, Item, NewItem, NotFoundError, Segment
    from solomonic.memory.store import Memory
    from solomonic.memory.verify import Verification

_HOMES = {
    "Compaction": "eviction",
    "Hit": "item",
    "Item": "item",
    "NewItem": "item",
    "NotFoundError": "item",
    "Segment": "item",
    "Memory": "store",
    "Verification": "verify",
}

__all__ = [
    "Memory",
    "MemoryConfig",
    "Item",
    "NewItem",
    "Hit",
    "Segment",
    "NotFoundError",
    "Compaction",
    "Verification",
]


def __getattr__(name: str) -> Any:
    """Loads a name when it is asked for: numpy comes with the first one."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
