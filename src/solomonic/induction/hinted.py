"""A context mixer that hears another predictor: `Hinted(OnlineLm(), Mixer())`.

The other's opinion on the next byte enters the mixer's own networks beside those of its contexts,
with weights that depend on what is being read; that is worth more than mixing two finished
predictions (`mix`).
"""

import base64
import json
from typing import Any, Self

import numpy as np

from solomonic.core import Predictor, require
from solomonic.induction import base
from solomonic.induction.predictors import Mixer


class Hinted:
    """A predictor of bytes that works bit by bit (`solomonic.core.BitPredictor`).

    Args:
        outside: any predictor of bytes; it belongs to this one from then on.
        mixer: new, and also given away.

    Raises:
        ConfigError: the outside predictor is not one of bytes.
    """

    alphabet = 256

    def __init__(self, outside: Predictor, mixer: Mixer) -> None:
        require(
            outside.alphabet == 256,
            f"the mixer reads bytes, and the other predictor {outside.alphabet} symbols; give one "
            "of 256.",
        )
        self.outside, self.mixer = outside, mixer
        self._partial = 1
        # The definition of the mixer keeps no tables: its states are read again, hints and all.
        self._seen: bytearray | None = None if mixer.native else bytearray()
        self._start = b"" if mixer.native else outside.state()
        mixer.hint(outside.predict())

    def predict(self) -> np.ndarray:
        return self.mixer.predict()

    def update(self, symbol: int) -> float:
        return base.update_by_bits(self, symbol)

    def bit(self) -> float:
        return self.mixer.bit()

    def learn(self, bit: int) -> None:
        self.mixer.learn(bit)
        self._partial = self._partial * 2 + bit
        if self._partial >= 256:
            symbol, self._partial = self._partial & 255, 1
            self.outside.update(symbol)
            if self._seen is not None:
                self._seen.append(symbol)
            self.mixer.hint(self.outside.predict())

    def fork(self) -> Self:
        return self._with(self.outside.fork(), self.mixer.fork())

    def state(self) -> bytes:
        record: dict[str, Any] = {"outside": _text(self.outside.state())}
        if self._seen is None:
            record["mixer"] = _text(self.mixer.state())
        else:
            record |= {"start": _text(self._start), "seen": _text(bytes(self._seen))}
        return base.wrap_state("hinted", self._settings(), json.dumps(record).encode())

    def load(self, data: bytes) -> Self:
        record = json.loads(base.unwrap_state("hinted", self._settings(), data))
        parts = {name: base64.b64decode(value) for name, value in record.items()}
        if self._seen is None:
            mixer, outside = self.mixer.load(parts["mixer"]), self.outside.load(parts["outside"])
            return self._with(outside, mixer)
        outside = self.outside.load(parts["start"])
        other = type(self)(outside, Mixer(self.mixer.settings["bits"], native=False))
        for symbol in parts["seen"]:
            other.update(symbol)
        return other

    def identity(self) -> str:
        """Equal identities give equal predictions."""
        name = str(getattr(self.outside, "identity", lambda: "?")())
        return f"hinted({name};{self.mixer.identity()})"

    def _settings(self) -> dict[str, Any]:
        return {"bits": self.mixer.settings["bits"], "native": self.mixer.native}

    def _with(self, outside: Predictor, mixer: Mixer) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.outside, other.mixer = outside, mixer
        other._seen = None if self._seen is None else bytearray(self._seen)
        return other


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
