"""A trained language model as a `solomonic.core.Predictor`, compared line by line with exact ones.

    model, tokenizer = load_pretrained("model")
    both = mix([LmPredictor.of_bytes(model, tokenizer), Mixer()], rule="logistic")

Its state is a state file of `solomonic.state` with the prediction it made, without the weights.
"""

import base64
import math
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from solomonic.core import CheckpointError, ConfigError, VocabularyError
from solomonic.kernels import native
from solomonic.lm.native import NativeModel, refuses
from solomonic.state import dumps, gather, loads
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel

FLOOR = 2.0**-30
"""Share of the uniform distribution in every prediction: nothing is impossible."""


class LmPredictor:
    """Tokens 0 .. alphabet - 1 of a model, from the beginning of a text.

    Args:
        model: in evaluation mode, on the CPU.
        start: the token read first, which is not predicted (the tokenizer's end of text).
        alphabet: predict only the first so many tokens, renormalised (256: the bytes of a model
            with a `ByteTokenizer`); None is all.
        packed: let the native core read, in float32 on one thread; None: where there is one.
    """

    def __init__(
        self,
        model: "LanguageModel",
        start: int,
        alphabet: int | None = None,
        packed: bool | None = None,
    ) -> None:
        size = model.config.vocab_size
        if alphabet is not None and not 1 <= alphabet <= size:
            raise ConfigError(f"alphabet = {alphabet} must be from 1 to the model's {size} tokens.")
        self.model, self.start, self.alphabet = model, start, alphabet or size
        can = native.load() is not None and refuses(model.config) is None
        use = can if packed is None else packed
        self._reader = NativeModel(model) if use else model
        self._state: Any = self._reader.init_state(1)
        self._read(start)

    @classmethod
    def of_bytes(
        cls, model: "LanguageModel", tokenizer: Tokenizer, packed: bool | None = None
    ) -> Self:
        """The bytes of a model whose tokens are bytes.

        Raises:
            ConfigError: its tokens are not.
        """
        ids = [tokenizer.token_bytes(i) for i in range(min(256, tokenizer.vocab_size))]
        if ids != [bytes([i]) for i in range(256)]:
            raise ConfigError(
                "the model's tokens are not bytes; train one without --vocab-size, or predict its "
                "tokens with LmPredictor(model, tokenizer.eos_id)."
            )
        return cls(model, tokenizer.eos_id, 256, packed)

    def predict(self) -> np.ndarray:
        return self._chances.copy()

    def update(self, symbol: int) -> float:
        if not 0 <= symbol < self.alphabet:
            raise VocabularyError(
                f"symbol {symbol} lies outside the alphabet of {self.alphabet} "
                f"(0 to {self.alphabet - 1})."
            )
        paid = -math.log2(float(self._chances[symbol]))
        self._read(symbol)
        return paid

    def fork(self) -> Self:
        if isinstance(self._reader, NativeModel):
            return self._with(self._state.gather([0]), self._chances)
        return self._with(gather(self._state, torch.zeros(1, dtype=torch.int64)), self._chances)

    def state(self) -> bytes:
        state = self._state
        if isinstance(self._reader, NativeModel):
            state = state.to_state(self.model.init_state(1))
        notes = base64.b64encode(self._chances.tobytes()).decode()
        return dumps(state, self._fingerprint(), notes)

    def load(self, data: bytes) -> Self:
        found, notes = loads(data, self.model.init_state(1), self._fingerprint())
        chances = np.frombuffer(base64.b64decode(notes))
        if len(chances) != self.alphabet:
            raise CheckpointError(
                f"the state predicts {len(chances)} symbols and this predictor {self.alphabet}; "
                "load it with the same alphabet."
            )
        if isinstance(self._reader, NativeModel):
            streams = self._reader.streams(1)
            streams.load_state(found)
            return self._with(streams, chances)
        return self._with(found, chances)

    def identity(self) -> str:
        """Equal identities give equal predictions: weights, engine, and what is predicted."""
        if isinstance(self._reader, NativeModel):
            engine = self._reader.describe()
        else:
            engine = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
        where = platform.machine()
        return f"lm,{self.start},{self.alphabet},{engine},{where},{self._fingerprint()}"

    def _fingerprint(self) -> str:
        if "_mark" not in self.__dict__:
            self._mark = self.model.fingerprint()
        return self._mark

    def _with(self, state: Any, chances: np.ndarray) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._state, other._chances = state, chances
        return other

    @torch.no_grad()
    def _read(self, token: int) -> None:
        logits, self._state = self._reader.next_logits(torch.tensor([[token]]), self._state)
        scores = logits[0, : self.alphabet].double().softmax(dim=-1).numpy()
        self._chances = scores * (1 - FLOOR) + FLOOR / self.alphabet


class LmCodec:
    """How `solomonic zip --predictor lm:DIR` turns text into a model's tokens and back."""

    def __init__(self, name: str, predictor: LmPredictor, tokenizer: Tokenizer) -> None:
        self.name, self.predictor, self._tokenizer = name, predictor, tokenizer
        self.identity = f"{predictor.identity()},{tokenizer.fingerprint}"

    def symbols(self, data: bytes) -> list[int]:
        """Tokens of `data`; any bytes have some."""
        return self._tokenizer.encode(data)

    def text(self, symbols: list[int]) -> bytes:
        """The exact bytes of tokens."""
        return self._tokenizer.decode_bytes(symbols)


def lm_codec(directory: str | Path) -> LmCodec:
    """The codec of a trained model, named as `any_model.find_model` takes it.

    Raises:
        CheckpointError: there is no model, or it is damaged.
    """
    from solomonic.lm.any_model import load_any

    model, tokenizer, _ = load_any(directory)
    return LmCodec(f"lm:{directory}", LmPredictor(model, tokenizer.eos_id), tokenizer)
