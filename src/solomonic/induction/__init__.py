"""Level 1: exact and universal predictors, coding with any of them, machines that run programs.

Numpy and the standard library only; the hot loops are native where the native core is there.
"""

from solomonic.induction.base import bits as bits
from solomonic.induction.hinted import Hinted as Hinted
from solomonic.induction.mixtures import Mixture as Mixture
from solomonic.induction.mixtures import mix as mix
from solomonic.induction.predictors import ByteTree as ByteTree
from solomonic.induction.predictors import ContextTree as ContextTree
from solomonic.induction.predictors import Frequencies as Frequencies
from solomonic.induction.predictors import Mixer as Mixer
