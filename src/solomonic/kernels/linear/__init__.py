"""Op `linear`: the product of every token with a weight matrix."""

from solomonic.kernels.linear import native as native
from solomonic.kernels.linear.plain import linear as plain
from solomonic.kernels.linear.reference import linear as reference

__all__ = ["native", "plain", "reference"]
