"""A language model that learns from scratch while it predicts: `OnlineLm()`, a predictor of bytes.

    best = Hinted(OnlineLm(), Mixer())      # "B'MOJO + mixer", both begin with nothing

Every few dozen bytes it takes a step of gradient on the newest bytes and on windows drawn from all
it has read, with weights that the next prediction uses. Nothing is seen before it was predicted and
every number can be computed again, so it drives the coder.
"""

import copy
import dataclasses
import json
import math
import platform
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic.core import CheckpointError, Config, require, require_least
from solomonic.induction import base
from solomonic.kernels import native
from solomonic.layers.config import ModelConfig
from solomonic.lm.model import LanguageModel
from solomonic.lm.native import NativeModel
from solomonic.state import dumps, gather, loads

FLOOR = 2.0**-20
"""Share of the uniform distribution in every prediction."""
_START = 256  # the token before the first byte
_WARMUP = 30  # updates until the rate is full


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineConfig(Config):
    """The model and how it learns.

    Attributes:
        hidden_size, pattern, window_size, eidetic_slots: of the model (`ModelConfig`).
        every: bytes between two updates.
        rows: windows an update: the newest bytes and rows - 1 drawn from the past.
        length: bytes a window.
        lr: rate of Adam; it falls with the square root of the updates.
        seed: of the weights and of the windows drawn.
    """

    hidden_size: int = 128
    pattern: str = "MB"
    window_size: int = 32
    eidetic_slots: int = 32
    every: int = 64
    rows: int = 8
    length: int = 128
    lr: float = 4e-3
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(self, 1, "every", "rows", "length")
        require(self.lr > 0, f"lr = {self.lr} must be above 0.")

    def model(self) -> ModelConfig:
        """The language model's own configuration."""
        return ModelConfig(
            vocab_size=257,
            hidden_size=self.hidden_size,
            num_attention_heads=4,
            num_key_value_heads=1,
            pattern=self.pattern,
            window_size=self.window_size,
            eidetic_slots=self.eidetic_slots,
            fading_slots=1,
            fading_lag=0,
            fading_skip=True,
            ssm_head_dim=min(32, self.hidden_size),
            initializer_range=0.05,
        )


class OnlineLm:
    """Bytes, from a model that begins with random weights.

    Args:
        config: see `OnlineConfig`.
        packed: let the native core predict; None: where there is one.
    """

    alphabet = 256

    def __init__(self, config: OnlineConfig | None = None, packed: bool | None = None) -> None:
        self.config = config or OnlineConfig()
        self._packed = native.load() is not None if packed is None else packed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            self.model = LanguageModel(self.config.model()).eval()
        self._moments = [[torch.zeros_like(p) for p in self.model.parameters()] for _ in range(2)]
        self._chance = np.random.default_rng(self.config.seed)
        self._seen = bytearray()
        self._updates = 0
        self._reader: Any = self._pack()
        self._state: Any = self._reader.init_state(1)
        self._read(_START)

    def predict(self) -> np.ndarray:
        return self._chances.copy()

    def update(self, symbol: int) -> float:
        base.check_symbol(symbol, 256)
        paid = base.cost(self._chances, symbol)
        self._seen.append(symbol)
        if len(self._seen) % self.config.every == 0:
            self._learn()
        self._read(symbol)
        return paid

    def fork(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        # The packed weights are never written again, so copies share them.
        other.model = copy.deepcopy(self.model)
        other._moments = [[m.clone() for m in kind] for kind in self._moments]
        other._chance, other._seen = copy.deepcopy(self._chance), bytearray(self._seen)
        if isinstance(self._reader, NativeModel):
            other._state = self._state.gather([0])
        else:
            other._reader = other.model
            other._state = gather(self._state, torch.zeros(1, dtype=torch.int64))
        return other

    def state(self) -> bytes:
        tensors = {f"p.{name}": p.detach() for name, p in self.model.named_parameters()}
        for kind, moments in zip("mv", self._moments, strict=True):
            names = (name for name, _ in self.model.named_parameters())
            tensors |= {f"{kind}.{name}": m for name, m in zip(names, moments, strict=True)}
        tensors["chances"] = torch.from_numpy(self._chances.copy())
        tensors["seen"] = torch.tensor(list(self._seen), dtype=torch.uint8)
        tensors["stream"] = torch.frombuffer(bytearray(dumps(self._plain())), dtype=torch.uint8)
        record = {"updates": self._updates, "chance": self._chance.bit_generator.state}
        payload = save(
            {name: t.contiguous().clone() for name, t in tensors.items()},
            metadata={"record": json.dumps(record)},
        )
        return base.wrap_state("online-lm", self._settings(), payload)

    def load(self, data: bytes) -> Self:
        payload = base.unwrap_state("online-lm", self._settings(), data)
        tensors = load(payload)
        size = int.from_bytes(payload[:8], "little")
        record = json.loads(json.loads(payload[8 : 8 + size])["__metadata__"]["record"])
        other = type(self)(self.config, self._packed)
        with torch.no_grad():
            for at, (name, parameter) in enumerate(other.model.named_parameters()):
                if tensors[f"p.{name}"].shape != parameter.shape:
                    raise CheckpointError("the state of a predictor is damaged.")
                parameter.copy_(tensors[f"p.{name}"])
                for kind, moments in zip("mv", other._moments, strict=True):
                    moments[at] = tensors[f"{kind}.{name}"]
        other._chance.bit_generator.state = record["chance"]
        other._updates = record["updates"]
        other._seen = bytearray(tensors["seen"].numpy().tobytes())
        stream, _ = loads(tensors["stream"].numpy().tobytes(), other.model.init_state(1))
        other._reader = other._pack()
        other._state = other._taken(stream)
        other._chances = tensors["chances"].numpy()
        return other

    def identity(self) -> str:
        """Equal identities give equal predictions: settings, engine and machine."""
        core = native.load() if self._packed else None
        engine = "torch" if core is None else core.isa()
        versions = f"torch {torch.__version__},{platform.machine()}"
        return f"online,{json.dumps(self.config.to_json(), sort_keys=True)},{engine},{versions}"

    def _settings(self) -> dict[str, Any]:
        return {**self.config.to_json(), "packed": self._packed}

    def _pack(self) -> Any:
        return NativeModel(self.model) if self._packed else self.model

    def _plain(self) -> Any:
        """The stream as a `ModelState`."""
        if self._packed:
            return self._state.to_state(self.model.init_state(1))
        return self._state

    def _taken(self, stream: Any) -> Any:
        """The stream in the form of the reader."""
        if not self._packed:
            return stream
        streams = self._reader.streams(1)
        streams.load_state(stream)
        return streams

    @torch.no_grad()
    def _read(self, token: int) -> None:
        logits, self._state = self._reader.next_logits(torch.tensor([[token]]), self._state)
        scores = logits[0, :256].double().softmax(dim=-1).numpy()
        self._chances = scores * (1 - FLOOR) + FLOOR / 256

    def _learn(self) -> None:
        """One update; the stream goes on with what it remembers and the new weights."""
        stream, threads = self._plain(), torch.get_num_threads()
        torch.set_num_threads(1)  # sums in one order, whatever the machine is busy with
        try:
            self._descend(self._windows())
        finally:
            torch.set_num_threads(threads)
        self._reader = self._pack()
        self._state = self._taken(stream)

    def _windows(self) -> Tensor:
        """(rows, length + 1) bytes; the first row is the newest."""
        size = min(self.config.length + 1, len(self._seen))
        last = len(self._seen) - size
        starts = [last, *self._chance.integers(0, last + 1, self.config.rows - 1).tolist()]
        seen = np.frombuffer(bytes(self._seen), dtype=np.uint8)
        return torch.from_numpy(np.stack([seen[at : at + size] for at in starts]).astype(np.int64))

    @torch.enable_grad()
    def _descend(self, windows: Tensor) -> None:
        """A step of Adam on the windows."""
        parameters = list(self.model.parameters())
        logits, _ = self.model(windows[:, :-1])
        loss = cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        slopes = list(torch.autograd.grad(loss, parameters))
        length = torch.stack([slope.norm() for slope in slopes]).norm()
        shrink = float(1 / length.clamp(min=1.0))
        self._updates += 1
        first, second = 0.9, 0.98
        scale = math.sqrt(1 - second**self._updates) / (1 - first**self._updates)
        rate = self.config.lr * min(
            self._updates / _WARMUP, math.sqrt(10 * _WARMUP / (self._updates + 10 * _WARMUP))
        )
        with torch.no_grad():
            for parameter, slope, m, v in zip(parameters, slopes, *self._moments, strict=True):
                slope = slope * shrink
                m.lerp_(slope, 1 - first)
                v.lerp_(slope * slope, 1 - second)
                parameter.addcdiv_(m, v.sqrt() + 1e-8, value=-rate * scale)
