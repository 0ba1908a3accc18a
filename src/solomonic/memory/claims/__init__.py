"""Claims with sources and validity, and what contradicts what in a store (docs/claims.md).

It says what is consistent with the store, never what is true.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solomonic.memory.claims.claim import Claim, Conflict, Judgement
    from solomonic.memory.claims.rules import Rule
    from solomonic.memory.claims.store import ClaimStore, read_claims

_WHERE = {
    "Claim": "claim",
    "Conflict": "claim",
    "Judgement": "claim",
    "Rule": "rules",
    "ClaimStore": "store",
    "read_claims": "store",
}

__all__ = ["ClaimStore", "Claim", "Judgement", "Conflict", "Rule", "read_claims"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
