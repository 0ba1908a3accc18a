"""What of a memory still counts: weights that follow changes of what is being observed.

    forgetting = forgetting_from("changes")          # "none", "exponential:1000", or a config
    for bits in losses:
        forgetting.observe(bits)
    forgetting.survival(steps_at_which_items_were_written)

See docs/forgetting.md.
"""

from solomonic.memory.forgetting.base import ExponentialDecay as ExponentialDecay
from solomonic.memory.forgetting.base import ExponentialDecayConfig as ExponentialDecayConfig
from solomonic.memory.forgetting.base import Forgetting as Forgetting
from solomonic.memory.forgetting.base import NoForgetting as NoForgetting
from solomonic.memory.forgetting.base import NoForgettingConfig as NoForgettingConfig
from solomonic.memory.forgetting.choose import forgetting_from as forgetting_from
from solomonic.memory.forgetting.choose import restore as restore
from solomonic.memory.forgetting.config import ChangePointsConfig as ChangePointsConfig
from solomonic.memory.forgetting.config import (
    SymbolChangePointsConfig as SymbolChangePointsConfig,
)
from solomonic.memory.forgetting.losses import ChangePoints as ChangePoints
from solomonic.memory.forgetting.symbols import SymbolChangePoints as SymbolChangePoints
