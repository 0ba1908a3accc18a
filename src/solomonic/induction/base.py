"""What the predictors of this part share: checks, costs, and states that know whose they are."""

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from solomonic.core import BitPredictor, CheckpointError, Predictor, VocabularyError

_MAGIC = b"SLMP"


def check_symbol(symbol: int, alphabet: int) -> None:
    """Raise `VocabularyError` unless `symbol` is one of 0 .. alphabet - 1."""
    if not 0 <= symbol < alphabet:
        raise VocabularyError(
            f"symbol {symbol} lies outside the alphabet of {alphabet} (0 to {alphabet - 1})."
        )


def cost(probabilities: np.ndarray, symbol: int) -> float:
    """-log2 of the symbol's probability."""
    return -math.log2(float(probabilities[symbol]))


def update_by_bits(predictor: BitPredictor, symbol: int) -> float:
    """Learn a byte, its highest bit first; returns what it cost in bits.

    Raises:
        VocabularyError: `symbol` is no byte.
    """
    check_symbol(symbol, 256)
    chance = 1.0
    for k in range(7, -1, -1):
        bit, one = (symbol >> k) & 1, predictor.bit()
        chance *= one if bit else 1 - one
        predictor.learn(bit)
    return -math.log2(chance)


def bits(predictor: Predictor, symbols: Iterable[int]) -> float:
    """What the symbols cost, one after the other; the predictor moves on."""
    return math.fsum(predictor.update(int(symbol)) for symbol in symbols)


def wrap_state(kind: str, settings: Mapping[str, Any], payload: bytes) -> bytes:
    """A state with its owner's kind and settings, and a checksum."""
    head = json.dumps({"kind": kind, **settings}, sort_keys=True).encode()
    body = len(head).to_bytes(4, "little") + head + payload
    return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def unwrap_state(kind: str, settings: Mapping[str, Any], data: bytes) -> bytes:
    """The payload of a state made with the same kind and settings.

    Raises:
        CheckpointError: it is damaged, or of another predictor.
    """
    body = data[8:]
    if data[:4] != _MAGIC or zlib.crc32(body).to_bytes(4, "little") != data[4:8]:
        raise CheckpointError("this is no state of a predictor, or it is cut short or damaged.")
    size = int.from_bytes(body[:4], "little")
    found, wanted = json.loads(body[4 : 4 + size]), {"kind": kind, **settings}
    if found != wanted:
        raise CheckpointError(
            f"the state is of the predictor {found}, this one is {wanted}; load it into its own "
            "kind."
        )
    return body[4 + size :]


def load_core(core: Any, payload: bytes) -> Any:
    """`core`, new, after it has taken over `payload`.

    Raises:
        CheckpointError: the payload does not fit.
    """
    try:
        core.load(payload)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return core
