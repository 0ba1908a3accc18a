"""Op `conv`: short depthwise causal convolution with a carried tail."""

from solomonic.kernels.conv import native as native
from solomonic.kernels.conv.reference import conv as reference
from solomonic.kernels.conv.shifted import conv as shifted

__all__ = ["native", "reference", "shifted"]
