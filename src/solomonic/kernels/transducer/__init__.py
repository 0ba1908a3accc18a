"""Ops of the transducer (RNN-T) loss: the lattice, and the softmax over the vocabulary around it."""

from solomonic.kernels.transducer import reference as reference
from solomonic.kernels.transducer import softmax as softmax
from solomonic.kernels.transducer.reference import NO_LABEL as NO_LABEL
from solomonic.kernels.transducer.reference import PADDING as PADDING
from solomonic.kernels.transducer.wavefront import transducer as wavefront

__all__ = ["NO_LABEL", "PADDING", "reference", "softmax", "wavefront"]
