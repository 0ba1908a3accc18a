"""Packages whose names are imported when they are first used (PEP 562).

What needs no PyTorch, such as the native recogniser, must not pay seconds and hundreds of megabytes
for it because a neighbour does.

if TYPE_CHECKING:
    from package.part import Name as Name
__getattr__, __dir__ = names_of(__name__, {"part": "Name"})
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_of(
    package: str, parts: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The module functions `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        parts: the names that each of its modules gives, separated by spaces. Type checkers read
            the same from imports under TYPE_CHECKING (tests/test_lazy.py compares them).
    """
    homes = {name: f"{package}.{part}" for part, names in parts.items() for name in names.split()}

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(import_module(home), name)
        setattr(sys.modules[package], name, value)  # the next use does not come here
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return get, names
