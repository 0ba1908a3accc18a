"""Why an update was not applied, for programs that decide what to do next.

The exit status of `solomonic patch`: 2 for files and settings, and these.
"""

from solomonic.core import CheckpointError


class WrongBaseError(CheckpointError):
    """The update was made from another file: fetch the one that fits."""

    exit_status = 3


class AppliedError(CheckpointError):
    """The file is what the update makes already: there is nothing to do."""

    exit_status = 4


class DamagedUpdateError(CheckpointError):
    """The update is cut short, corrupted or foreign: fetch it again."""

    exit_status = 5


class NewerUpdateError(CheckpointError):
    """The update was written by a later version: update this program first."""

    exit_status = 6
