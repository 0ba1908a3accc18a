"""Level 3: updates. What changed between two models in few bytes, and updates trained to be small.

docs/updates.md is the page about it.
"""

from solomonic.compress.delta.errors import AppliedError as AppliedError
from solomonic.compress.delta.errors import DamagedUpdateError as DamagedUpdateError
from solomonic.compress.delta.errors import NewerUpdateError as NewerUpdateError
from solomonic.compress.delta.errors import WrongBaseError as WrongBaseError
from solomonic.compress.delta.files import diff_files as diff_files
from solomonic.compress.delta.files import patch_files as patch_files
from solomonic.compress.delta.rules import HashRule as HashRule
from solomonic.compress.delta.rules import LowRankRule as LowRankRule
from solomonic.compress.delta.update import Change as Change
from solomonic.compress.delta.update import Diff as Diff
from solomonic.compress.delta.update import apply_update as apply_update
from solomonic.compress.delta.update import diff as diff
