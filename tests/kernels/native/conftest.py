"""The tests of the native forms run where the native core is built, on every instruction set."""

from collections.abc import Iterator

import pytest

from solomonic.kernels import native

CORE = native.load()
collect_ignore_glob = [] if CORE else ["test_*.py"]
SETS = CORE.isa_list().split() if CORE else []


@pytest.fixture(params=SETS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The instruction set in force."""
    assert CORE is not None
    before = CORE.isa()
    CORE.isa_use(request.param)
    yield request.param
    CORE.isa_use(before)
