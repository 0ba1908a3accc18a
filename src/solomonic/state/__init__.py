"""What a stream remembers: an explicit value with reset, hold, gather, save, load and `nbytes`."""

from solomonic.state.base import State as State
from solomonic.state.base import field as field
from solomonic.state.files import dumps as dumps
from solomonic.state.files import load as load
from solomonic.state.files import loads as loads
from solomonic.state.files import save as save
from solomonic.state.ops import concatenate as concatenate
from solomonic.state.ops import detach as detach
from solomonic.state.ops import gather as gather
from solomonic.state.ops import hold as hold
from solomonic.state.ops import nbytes as nbytes
from solomonic.state.ops import reset as reset
