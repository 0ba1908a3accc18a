"""Predictors to use: estimators, context trees, byte trees, the context mixer.

    mixer = Mixer()
    cost = bits(mixer, b"abracadabra")

Each is a `solomonic.core.Predictor`. `native=False` takes the slow definition, which gives the same
numbers.
"""

from typing import Any, Self

import numpy as np

from solomonic.core import CheckpointError, require
from solomonic.induction import base, native
from solomonic.induction.ctw_definition import ByteTreeDefinition, TreeDefinition
from solomonic.induction.mixer_definition import MixerDefinition


class Frequencies:
    """The Dirichlet estimator: (count + alpha) / (total + alphabet alpha); KT with alpha 1/2."""

    def __init__(self, alphabet: int = 2, alpha: float = 0.5) -> None:
        require(alphabet >= 1, "an alphabet has at least 1 symbol.")
        require(alpha > 0, f"alpha = {alpha} must be above 0.")
        self.alphabet, self.alpha = alphabet, alpha
        self._counts = np.zeros(alphabet)

    def predict(self) -> np.ndarray:
        total = self._counts.sum() + self.alphabet * self.alpha
        return (self._counts + self.alpha) / total

    def update(self, symbol: int) -> float:
        base.check_symbol(symbol, self.alphabet)
        paid = base.cost(self.predict(), symbol)
        self._counts[symbol] += 1
        return paid

    def fork(self) -> Self:
        other = type(self)(self.alphabet, self.alpha)
        other._counts = self._counts.copy()
        return other

    def state(self) -> bytes:
        return base.wrap_state("frequencies", self._settings(), self._counts.tobytes())

    def load(self, data: bytes) -> Self:
        counts = np.frombuffer(base.unwrap_state("frequencies", self._settings(), data))
        if counts.shape != self._counts.shape or not np.isfinite(counts).all():
            raise CheckpointError("the state of a predictor is damaged.")
        other = type(self)(self.alphabet, self.alpha)
        other._counts = counts.copy()
        return other

    def _settings(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "alpha": self.alpha}


class _Cored:
    """A predictor whose work is done by a core: the native one or its definition."""

    kind = ""
    alphabet = 256
    settings: dict[str, Any]
    _core: Any

    def _make(self, use: Any | None) -> Any:
        raise NotImplementedError

    def _begin(self, use: bool | None) -> None:
        core = native.choose(use)
        self.native = core is not None
        self._core = self._make(core)

    def identity(self) -> str:
        """Equal identities give equal predictions; what archives are marked with."""
        return self.kind + "".join(f",{k}={v}" for k, v in sorted(self.settings.items()))

    def _with(self, core: Any) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._core = core
        return other

    def fork(self) -> Self:
        return self._with(self._core.copy())

    def state(self) -> bytes:
        return base.wrap_state(self.kind, self._facts(), self._core.state())

    def load(self, data: bytes) -> Self:
        payload = base.unwrap_state(self.kind, self._facts(), data)
        fresh = self._make(native.choose(True) if self.native else None)
        return self._with(base.load_core(fresh, payload))

    def _facts(self) -> dict[str, Any]:
        # A definition of byte predictors keeps what it read, the native one its tables.
        return {**self.settings, "native": self.native}


class ContextTree(_Cored):
    """Context-tree weighting over `alphabet` symbols: all trees of contexts up to `depth` at once.

    Exactly P_w = (P_e + P_w^0 P_w^1 ...) / 2 at every node; what came before the first symbol
    counts as zeros. `alpha` is the Dirichlet parameter of the estimators (1/2: KT).
    """

    kind = "context-tree"

    def __init__(
        self, alphabet: int = 2, depth: int = 8, alpha: float = 0.5, native: bool | None = None
    ) -> None:
        require(2 <= alphabet <= 256, f"alphabet = {alphabet} must be from 2 to 256.")
        require(0 <= depth <= 64, f"depth = {depth} must be from 0 to 64.")
        require(alpha > 0, f"alpha = {alpha} must be above 0.")
        self.alphabet = alphabet
        self.settings = {"alphabet": alphabet, "depth": depth, "alpha": alpha}
        self._begin(native)

    def _make(self, use: Any | None) -> Any:
        return (TreeDefinition if use is None else use.ContextTree)(*self.settings.values())

    def _facts(self) -> dict[str, Any]:
        return self.settings  # both cores keep the same arrays

    def predict(self) -> np.ndarray:
        return self._core.predict()

    def update(self, symbol: int) -> float:
        base.check_symbol(symbol, self.alphabet)
        paid = base.cost(self.predict(), symbol)
        self._core.learn(symbol)
        return paid


class _Bytes(_Cored):
    """A predictor of bytes that works bit by bit (`solomonic.core.BitPredictor`)."""

    def predict(self) -> np.ndarray:
        return self._core.distribution()

    def update(self, symbol: int) -> float:
        return base.update_by_bits(self, symbol)

    def bit(self) -> float:
        return self._core.bit()

    def learn(self, bit: int) -> None:
        base.check_symbol(bit, 2)
        self._core.learn(bit)

    def costs(self, data: bytes) -> np.ndarray:
        """Bits each byte costs once probabilities are those of the coder, in 65536ths."""
        return self._core.costs(data)

    @property
    def core(self) -> Any:
        """What encodes and decodes whole blocks, where it is native."""
        return self._core if self.native else None


class ByteTree(_Bytes):
    """Context-tree weighting of bytes (Volf's decomposition): contexts of up to `depth` bytes.

    2^bits nodes of 16 bytes are kept; memory is taken as nodes come.
    """

    kind = "ctw"

    def __init__(self, depth: int = 6, bits: int = 24, native: bool | None = None) -> None:
        require(0 <= depth <= 16, f"depth = {depth} must be from 0 to 16.")
        require(8 <= bits <= 28, f"bits = {bits} must be from 8 to 28.")
        self.settings = {"depth": depth, "bits": bits}
        self._begin(native)

    def _make(self, use: Any | None) -> Any:
        return (ByteTreeDefinition if use is None else use.ByteTree)(*self.settings.values())


class Mixer(_Bytes):
    """The context mixer: the strongest predictor of text here that knows nothing beforehand.

    Each of its contexts has 2^bits slots of 4 bytes (22: 235 MB in all when full); memory is taken
    as they fill.
    """

    kind = "mix"

    def __init__(self, bits: int = 22, native: bool | None = None) -> None:
        require(10 <= bits <= 26, f"bits = {bits} must be from 10 to 26.")
        self.settings = {"bits": bits}
        self._begin(native)

    def _make(self, use: Any | None) -> Any:
        return (MixerDefinition if use is None else use.Mixer)(*self.settings.values())

    def hint(self, probabilities: np.ndarray) -> None:
        """Mix in somebody else's opinion on the next byte: 256 probabilities, until it ends."""
        self._core.hint(np.ascontiguousarray(probabilities, dtype=np.float64))
