"""Op `delta`: the gated delta rule, a state that can also erase what a key held."""

from solomonic.kernels.delta import native as native
from solomonic.kernels.delta.chunked import delta as chunked
from solomonic.kernels.delta.reference import delta as reference

__all__ = ["chunked", "native", "reference"]
