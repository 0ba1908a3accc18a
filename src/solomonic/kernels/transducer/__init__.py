"""Ops of the transducer (RNN-T) loss: the lattice, and the joiner and the softmax in its cells."""

from solomonic.kernels.transducer import cells as cells
from solomonic.kernels.transducer import native as native
from solomonic.kernels.transducer import reference as reference
from solomonic.kernels.transducer.wavefront import transducer as wavefront

__all__ = ["cells", "native", "reference", "wavefront"]
