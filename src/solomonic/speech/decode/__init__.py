"""Streaming search over a transducer: greedy and beam, N-best lists, lattices, partial results."""

from typing import TYPE_CHECKING

from solomonic.core.lazy import names_of

if TYPE_CHECKING:
    from solomonic.speech.decode.config import DecodeConfig as DecodeConfig
    from solomonic.speech.decode.decoder import Decoder as Decoder
    from solomonic.speech.decode.result import DecodeResult as DecodeResult
    from solomonic.speech.decode.result import Hypothesis as Hypothesis
    from solomonic.speech.decode.result import Partial as Partial
    from solomonic.speech.decode.search import Search as Search

__getattr__, __dir__ = names_of(
    __name__,
    {
        "config": "DecodeConfig",
        "decoder": "Decoder",
        "result": "DecodeResult Hypothesis Partial",
        "search": "Search",
    },
)
