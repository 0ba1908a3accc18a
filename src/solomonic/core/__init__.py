"""Level 0: errors, configuration and protocols that every other part stands on."""

from solomonic.core.config import Config as Config
from solomonic.core.config import require as require
from solomonic.core.config import require_least as require_least
from solomonic.core.config import require_one_of as require_one_of
from solomonic.core.errors import CheckpointError as CheckpointError
from solomonic.core.errors import ConfigError as ConfigError
from solomonic.core.errors import DataError as DataError
from solomonic.core.errors import ShapeError as ShapeError
from solomonic.core.errors import SolomonicError as SolomonicError
from solomonic.core.errors import StorageError as StorageError
from solomonic.core.errors import VocabularyError as VocabularyError
from solomonic.core.files import write_whole as write_whole
from solomonic.core.protocols import BitPredictor as BitPredictor
from solomonic.core.protocols import Predictor as Predictor
from solomonic.core.protocols import Scorer as Scorer
from solomonic.core.protocols import Task as Task
