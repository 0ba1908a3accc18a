"""Ops: one folder each, the slow definition beside the fast forms, and a registry that chooses."""

from typing import TYPE_CHECKING

from solomonic.core.lazy import names_of

if TYPE_CHECKING:
    from solomonic.kernels.attention import AttentionOutput as AttentionOutput
    from solomonic.kernels.attention import AttentionSpec as AttentionSpec
    from solomonic.kernels.attention import Carry as Carry
    from solomonic.kernels.attention import Recalled as Recalled
    from solomonic.kernels.attention import empty_carry as empty_carry
    from solomonic.kernels.registry import TABLE as TABLE
    from solomonic.kernels.registry import Form as Form
    from solomonic.kernels.registry import explain as explain
    from solomonic.kernels.registry import resolve as resolve
    from solomonic.kernels.registry import run as run
    from solomonic.kernels.registry import use as use
    from solomonic.kernels.registry import watch as watch

__getattr__, __dir__ = names_of(
    __name__,
    {
        "attention": "AttentionOutput AttentionSpec Carry Recalled empty_carry",
        "registry": "TABLE Form explain resolve run use watch",
    },
)
