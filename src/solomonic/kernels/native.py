"""The native core, if this installation has it, and if not, why.

The core is built when the package is installed with a C++ compiler at hand. Without one everything
runs on PyTorch, and `why_not` says so wherever a path is explained.
"""

import functools
import importlib
import os
from types import ModuleType

from solomonic.core import ConfigError


@functools.cache
def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("solomonic._native"), None
    except ModuleNotFoundError:
        reason = (
            "the native core was not built when solomonic was installed; install g++ (on Debian: "
            "apt-get install g++) and install solomonic again."
        )
    except ImportError as error:
        reason = f"the native core does not load on this machine: {error}."
    return None, reason


def load() -> ModuleType | None:
    """The extension module, or None; SOLOMONIC_NATIVE=0 hides it."""
    return None if why_not() else _load()[0]


def why_not() -> str | None:
    """One sentence saying why there is no native core, or None if there is one."""
    if os.environ.get("SOLOMONIC_NATIVE") == "0":
        return "SOLOMONIC_NATIVE=0 turns the native core off."
    return _load()[1]


def require_core() -> ModuleType:
    """The extension module.

    Raises:
        ConfigError: there is none, with the reason.
    """
    core = load()
    if core is None:
        raise ConfigError(f"the native backend is not available: {why_not()}")
    return core
