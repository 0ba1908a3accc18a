"""The compiled halves of this part, if this installation has them.

Every class and function here has a slow definition in Python that gives the same numbers; the
compiled core is used where it is there. `solomonic.kernels.native` says why it is not.
"""

import importlib
import os
from typing import Any

from solomonic.core import ConfigError


def load() -> Any | None:
    """`solomonic._native.induction`, or None; SOLOMONIC_NATIVE=0 hides it."""
    if os.environ.get("SOLOMONIC_NATIVE") == "0":
        return None
    try:
        return getattr(importlib.import_module("solomonic._native"), "induction", None)
    except ImportError:
        return None


def choose(wanted: bool | None) -> Any | None:
    """The core for `wanted` True (must be there), False (never) or None (if there).

    Raises:
        ConfigError: it is wanted and not there.
    """
    core = None if wanted is False else load()
    if wanted and core is None:
        raise ConfigError(
            "the native core is not here or has no predictors; install solomonic again with g++ at "
            "hand, or leave native=True out for the slow definition."
        )
    return core
