"""A recogniser's networks on the native core, in the place of a `Transducer`.

recognizer = Recognizer(native_model(load_speech_model("english-small"), "int8"))

`NativeTransducer` has what `Recognizer` and `Decoder` use of a transducer; the search then sees
exactly the numbers that the native search sees. Nothing here computes: the work is in
native/src/speech.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch import Tensor

from solomonic.core import ConfigError, ShapeError
from solomonic.kernels.native import require_core as require_core
from solomonic.speech.config import TransducerConfig
from solomonic.speech.features import FeatureConfig
from solomonic.speech.pretrained import SpeechModel
from solomonic.state import State, field

if TYPE_CHECKING:
    from solomonic.speech.model import Transducer

WEIGHTS = ("float32", "bfloat16", "int8", "int4")
"""Types the matrices can be packed in; everything that is not a matrix stays float32."""


@dataclasses.dataclass
class NativeState(State):
    """data: (B, n) uint8, what a stream's encoder or a hypothesis' labels leave behind."""

    data: Tensor = field()


class NativeTransducer:
    """A transducer's networks packed for the CPU; later changes to it are not seen.

    Args:
        transducer: any one, on any device.
        weights: one of `WEIGHTS`. int8 has a scale a row and quantises activations; int4 a scale
            for 64 inputs.

    Raises:
        ConfigError: there is no native core here, or the weights are of another kind.
    """

    def __init__(self, transducer: "Transducer", weights: str = "float32") -> None:
        self._core = require_core()
        if weights not in WEIGHTS:
            raise ConfigError(f"weights = '{weights}' is unknown; use one of {', '.join(WEIGHTS)}.")
        try:
            net = self._core.speech_net.make(_settings(transducer.config), WEIGHTS.index(weights))
            # Attention to personal words stays with PyTorch.
            for name, tensor in transducer.plain_state().items():
                values = tensor.detach().to("cpu", torch.float32).contiguous()
                net.set(name, values.data_ptr(), values.numel())
            net.finish()
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._take(net, transducer, weights)

    @classmethod
    def open(cls, path: str | Path, transducer: "Transducer") -> Self:
        """The networks of a device file, as it has packed them.

        Args:
            transducer: what `read_device_model` gives for it: configuration and attention.
        """
        made = cls.__new__(cls)
        made._core = require_core()
        try:
            net = made._core.speech_net.open(str(path))
        except ValueError as error:
            raise ConfigError(str(error)) from None
        made._take(net, transducer, "packed")
        return made

    def _take(self, net: Any, transducer: "Transducer", weights: str) -> None:
        self._net, self.weights = net, weights
        self.config, self.context = transducer.config, transducer.context
        self.pointer = transducer.pointer
        self.predictor = _Predictor(net, self.config)
        self.joint = _Joint(net, self.config)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return self._net.bytes()

    @property
    def macs(self) -> tuple[int, int, int]:
        """Multiplications with stored weights for an encoder frame, a label, and a hypothesis'
        log-probabilities."""
        frame, label, row = self._net.macs()
        return frame, label, row

    def describe(self) -> str:
        """What runs: instruction set, type and bytes of the weights."""
        return (
            f"native ({self._core.isa()}), {self.weights} weights, {self.nbytes / 2**20:.1f} MiB, "
            f"{self.macs[0] / 1e6:.2f} million multiplications an encoder frame"
        )

    def init_state(self, batch: int) -> NativeState:
        """The state of `batch` streams before any audio."""
        one = torch.empty(1, self._net.encoder_bytes(), dtype=torch.uint8)
        self._net.start_encoder(one.data_ptr())
        return NativeState(one.expand(batch, -1).contiguous())

    def hidden(
        self, features: Tensor, state: NativeState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, NativeState, Tensor | None]:
        """As `Encoder.forward`; behind a row's length there are zeros.

        Raises:
            ShapeError: a wrong dimension, named.
        """
        step, bins = self.config.frames_per_step, self.config.bins
        if features.dim() != 3 or features.shape[2] != bins or features.shape[1] % step:
            raise ShapeError(
                f"features must be (batch, time, {bins}) with a time that is a multiple of {step}, "
                f"not {tuple(features.shape)}; pad them or hold the rest back."
            )
        state = self.init_state(len(features)) if state is None else state
        data, frames = state.data.clone(), features.detach().to("cpu", torch.float32)
        steps = None if lengths is None else -(-lengths // step)
        whole = features.shape[1] // step
        out = torch.zeros(len(features), whole, self.config.hidden_size)
        for index in range(whole):
            rows = torch.arange(len(features)) if steps is None else (steps > index).nonzero()[:, 0]
            before = data.index_select(0, rows).contiguous()
            after = torch.empty_like(before)
            part = frames[rows, index * step : (index + 1) * step].contiguous()
            hidden = torch.empty(len(rows), self.config.hidden_size)
            acoustic = torch.empty(len(rows), self.config.joint_size)
            self._net.encode(
                len(rows), before.data_ptr(), after.data_ptr(), part.data_ptr(),
                hidden.data_ptr(), acoustic.data_ptr(),
            )  # fmt: skip
            data[rows], out[rows, index] = after, hidden
        return out, NativeState(data), steps

    def acoustic(self, hidden: Tensor, context: object | None = None) -> Tensor:
        """As `Transducer.acoustic`."""
        if context is not None and self.context is not None:
            hidden = self.context(hidden, context)
        hidden = hidden.detach().contiguous()
        out = torch.empty(*hidden.shape[:-1], self.config.joint_size)
        rows = hidden.shape[:-1].numel()
        self._net.project(hidden.data_ptr(), rows, out.data_ptr())
        return out


class _Predictor:
    """`start` and `step` of a prediction network."""

    def __init__(self, net: Any, config: TransducerConfig) -> None:
        self._net, self._config = net, config

    def start(self, batch: int) -> tuple[Tensor, NativeState]:
        """The vector (batch, J) and the state before any label."""
        state = torch.empty(1, self._net.label_bytes(), dtype=torch.uint8)
        label = torch.empty(1, self._config.joint_size)
        self._net.start_label(state.data_ptr(), label.data_ptr())
        return label.expand(batch, -1).contiguous(), NativeState(
            state.expand(batch, -1).contiguous()
        )

    def step(self, labels: Tensor, state: NativeState) -> tuple[Tensor, NativeState]:
        """The vector (B, J) after one more label (B,) a row, and the next state."""
        tokens, before = labels.to("cpu", torch.int32).contiguous(), state.data.contiguous()
        after, out = torch.empty_like(before), torch.empty(len(labels), self._config.joint_size)
        try:
            self._net.step_labels(
                len(labels), before.data_ptr(), tokens.data_ptr(), after.data_ptr(), out.data_ptr()
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return out, NativeState(after)


class _Joint:
    """The joint network; `bias` tells the device, and there is no `weight` to copy."""

    def __init__(self, net: Any, config: TransducerConfig) -> None:
        self._net, self._config = net, config
        self.bias = torch.zeros(config.vocab_size)

    def __call__(self, acoustic: Tensor, label: Tensor) -> Tensor:
        """Log-probabilities (n, V) of acoustic (n, J) and label (n, J), pair by pair."""
        rows = [
            self.log_probs(a, [b]) for a, b in zip(acoustic.numpy(), label.numpy(), strict=True)
        ]
        return torch.from_numpy(np.concatenate(rows))

    def log_probs(self, acoustic: np.ndarray, labels: Sequence[np.ndarray]) -> np.ndarray:
        """Log-probabilities (n, V) at one frame (J,) of n label vectors (J,)."""
        frame = np.ascontiguousarray(acoustic, np.float32)
        rows = np.ascontiguousarray(np.stack(labels), np.float32)
        out = np.empty((len(rows), self._config.vocab_size), np.float32)
        self._net.log_probs(frame.ctypes.data, rows.ctypes.data, len(rows), out.ctypes.data)
        return out


class NativeFeatures:
    """`FeatureStream` in the native core: equal to it but for rounding."""

    def __init__(self, config: FeatureConfig | None = None) -> None:
        c = self.config = config or FeatureConfig()
        self._core = require_core().speech_net.features(
            c.sample_rate, c.bins, c.frame_ms, c.shift_ms, c.low, c.high
        )

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take (n,) samples, give the (T, bins) float32 frames that are complete now."""
        given = np.ascontiguousarray(samples, np.float32)
        return self._frames(self._core.accept(given.ctypes.data, len(given)))

    def finish(self) -> np.ndarray:
        """The frames that were waiting for more audio."""
        return self._frames(self._core.finish())

    def _frames(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, np.float32).reshape(-1, self.config.bins)


def native_model(model: SpeechModel, weights: str = "float32") -> SpeechModel:
    """The model with its networks on the native core, for `Recognizer`; the end head stays."""
    net = NativeTransducer(model.transducer, weights)
    return dataclasses.replace(model, transducer=cast(Any, net))


def _settings(config: TransducerConfig) -> dict[str, Any]:
    """What native/src/speech/net.h calls NetConfig."""
    layers = config.layers(config.pattern)
    whole = (
        "vocab_size", "stack", "reduction", "front", "pattern", "predictor_size",
        "predictor_layers", "predictor_context", "joint_size", "bins", "shift_ms", "hidden_size",
    )  # fmt: skip
    return {name: getattr(config, name) for name in whole} | {
        "lstm": config.predictor == "lstm",
        "short_conv_layers": layers.short_conv_layers,
        "heads": layers.num_attention_heads,
        "key_value_heads": layers.key_value_heads,
        "head_dim": layers.head_size,
        "mlp_size": layers.mlp_size,
        "window": layers.window_size,
        "refresh": layers.refresh,
        "slots": layers.eidetic_slots,
        "fading": layers.fading_slots,
        "lag": layers.lag,
        "taps": layers.predictor_taps,
        "ssm_state": layers.ssm_state_size,
        "ssm_head_dim": layers.ssm_head_dim,
        "ssm_expand": layers.ssm_expand,
        "ssm_conv": layers.ssm_conv_size,
        "chunk": layers.chunk_size,
        "short_conv": layers.short_conv_size,
        "chunked_fading": layers.fading_mode == "chunk",
        "fading_skip": layers.fading_skip,
        "keep_duplicates": layers.keep_duplicates,
        "delta_transition": layers.transition == "delta",
        "rope_theta": layers.rope_theta if layers.position == "rope" else 0.0,
        "norm_eps": layers.norm_eps,
    }
