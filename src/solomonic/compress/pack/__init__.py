"""The device file: everything a small machine needs to run a model, in one checked file.

FORMAT.md at the root of the repository has it byte by byte; native/src/device reads the same.
"""

from solomonic.compress.pack.contents import Pack as Pack
from solomonic.compress.pack.contents import Piece as Piece
from solomonic.compress.pack.contents import Signature as Signature
from solomonic.compress.pack.contents import Vocabulary as Vocabulary
from solomonic.compress.pack.contents import settings as settings
from solomonic.compress.pack.contents import typed as typed
from solomonic.compress.pack.describe import PackInfo as PackInfo
from solomonic.compress.pack.describe import TensorInfo as TensorInfo
from solomonic.compress.pack.describe import describe_pack as describe_pack
from solomonic.compress.pack.download import Squeezed as Squeezed
from solomonic.compress.pack.download import expand as expand
from solomonic.compress.pack.download import squeeze as squeeze
from solomonic.compress.pack.reader import pack_identity as pack_identity
from solomonic.compress.pack.reader import parse_pack as parse_pack
from solomonic.compress.pack.reader import read_pack as read_pack
from solomonic.compress.pack.sign import new_key as new_key
from solomonic.compress.pack.sign import sign_pack as sign_pack
from solomonic.compress.pack.sign import verify_pack as verify_pack
from solomonic.compress.pack.writer import build_pack as build_pack
from solomonic.compress.pack.writer import write_pack as write_pack
