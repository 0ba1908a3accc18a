"""Op `ssd`: the selective state-space recurrence of Mamba-2 (state-space duality)."""

from solomonic.kernels.ssd import native as native
from solomonic.kernels.ssd import triton as triton
from solomonic.kernels.ssd.chunked import ssd as chunked
from solomonic.kernels.ssd.reference import ssd as reference

__all__ = ["native", "chunked", "reference", "triton"]
