"""What can be wrong with a system or with the data it is to be found from."""

from solomonic.core.errors import DataError, SolomonicError


class UnstableError(SolomonicError, ValueError):
    """The system has no stationary behaviour: an eigenvalue on or outside the unit circle."""


class NotMinimalError(SolomonicError, ValueError):
    """Some states are not driven or not seen, or the order asked for is not there."""


class IndefiniteNoiseError(SolomonicError, ValueError):
    """A noise covariance has a negative eigenvalue: no process has that noise."""


class TooFewSamplesError(DataError):
    """The series is too short for the order or the number of lags asked for."""
