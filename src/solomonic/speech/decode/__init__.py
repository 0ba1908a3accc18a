"""Streaming search over a transducer: greedy and beam, N-best lists, lattices, partial results."""

from solomonic.speech.decode.config import DecodeConfig as DecodeConfig
from solomonic.speech.decode.decoder import Decoder as Decoder
from solomonic.speech.decode.result import DecodeResult as DecodeResult
from solomonic.speech.decode.result import Hypothesis as Hypothesis
from solomonic.speech.decode.result import Partial as Partial
from solomonic.speech.decode.search import Search as Search
