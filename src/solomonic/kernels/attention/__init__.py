"""Op `attention`: one softmax over window, eidetic and fading tokens, with a constant carry.

Worked example: window w = 3, refresh R = 3, token t = 7. Window tokens 5, 6, 7. The last refresh
was at s = 6, so the eidetic set holds the best of tokens 0..5; of those, 5 is left out because the
window still shows it. Fading band with lag 3 and 2 slots: outputs y_4 and y_3.
"""

from solomonic.kernels.attention import native as native
from solomonic.kernels.attention import triton as triton
from solomonic.kernels.attention.blocks import attention as blocks
from solomonic.kernels.attention.full import full_attention as full_attention
from solomonic.kernels.attention.recalled import Recalled as Recalled
from solomonic.kernels.attention.reference import attention as reference
from solomonic.kernels.attention.spec import AttentionOutput as AttentionOutput
from solomonic.kernels.attention.spec import AttentionSpec as AttentionSpec
from solomonic.kernels.attention.spec import Carry as Carry
from solomonic.kernels.attention.spec import empty_carry as empty_carry

__all__ = [
    "AttentionOutput",
    "AttentionSpec",
    "Carry",
    "Recalled",
    "blocks",
    "empty_carry",
    "full_attention",
    "native",
    "reference",
    "triton",
]
