"""Level 3: training. It knows a `Task` (a batch and its loss), not text or speech."""

from typing import TYPE_CHECKING

from solomonic.core.lazy import names_of

if TYPE_CHECKING:
    from solomonic.train.atomic import write_directory as write_directory
    from solomonic.train.atomic import write_files as write_files
    from solomonic.train.checkpoint import Snapshot as Snapshot
    from solomonic.train.checkpoint import list_checkpoints as list_checkpoints
    from solomonic.train.checkpoint import load_checkpoint as load_checkpoint
    from solomonic.train.checkpoint import save_checkpoint as save_checkpoint
    from solomonic.train.config import TrainConfig as TrainConfig
    from solomonic.train.log import read_log as read_log
    from solomonic.train.loop import DivergenceError as DivergenceError
    from solomonic.train.loop import TrainResult as TrainResult
    from solomonic.train.loop import train as train
    from solomonic.train.plot import plot_loss as plot_loss

__getattr__, __dir__ = names_of(
    __name__,
    {
        "atomic": "write_directory write_files",
        "checkpoint": "Snapshot list_checkpoints load_checkpoint save_checkpoint",
        "config": "TrainConfig",
        "log": "read_log",
        "loop": "DivergenceError TrainResult train",
        "plot": "plot_loss",
    },
)
