"""A trained model on the native core: prefill and decoding on the CPU, one call for all layers.

`NativeModel` packs a `LanguageModel`'s weights in float32, bfloat16, 8 or 4 bits and reads tokens
with them. Its streams turn into a `ModelState` and back, so a text begun in one can go on in the
other. Nothing here computes: the work is in native/.
"""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from solomonic.core import ConfigError, ShapeError
from solomonic.kernels.native import require_core as require_core
from solomonic.layers import BMojoState, CacheState, LSTMState, ModelConfig, RecurrentState
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.state import State

WEIGHTS = ("float32", "bfloat16", "int8", "int4")
"""Types a model's matrices can be packed in; everything that is not a matrix stays float32."""


def refuses(config: ModelConfig) -> str | None:
    """None, or why the native core cannot read a model of this configuration."""
    if config.ssm_state_rank is not None:
        return "the model's states were truncated (ssm_state_rank), which only torch reads"
    return None


class NativeModel:
    """A model packed for the CPU; parameters are copied, later changes to `model` are not seen.

    Args:
        model: any pattern, on any device.
        weights: one of `WEIGHTS`. int8 has a scale a row and quantises activations per token; int4
            a bfloat16 scale for 64 inputs.
        threads: how many threads one call uses.

    Raises:
        ConfigError: there is no native core here, or an argument is out of range.
    """

    def __init__(self, model: LanguageModel, weights: str = "float32", threads: int = 1) -> None:
        self._core = require_core()
        if weights not in WEIGHTS:
            raise ConfigError(f"weights = '{weights}' is unknown; use one of {', '.join(WEIGHTS)}.")
        if reason := refuses(model.config):
            raise ConfigError(f"the native core cannot run this: {reason}.")
        self.config, self.weights, self.threads = model.config, weights, threads
        try:
            self._model = self._core.model(settings(model.config), WEIGHTS.index(weights))
            for name, parameter in model.named_parameters():
                values = parameter.detach().to("cpu", torch.float32).contiguous()
                self._model.set(name, values.data_ptr(), values.numel())
            self._model.finish()
            self._context = self._model.context(threads)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def twin(self) -> "NativeModel":
        """The same packed weights with scratch memory of its own, for use by another thread: a
        model reads for one thread at a time. Streams may go from one twin to the other."""
        other = copy.copy(self)
        other._context = self._model.context(self.threads)
        return other

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights."""
        return self._model.bytes()

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    def init_state(self, rows: int) -> "NativeStreams":
        """`streams` by the name it has in a `LanguageModel`, for `solomonic.lm.score`."""
        return self.streams(rows)

    def __call__(
        self, tokens: Tensor, state: "NativeStreams | None" = None
    ) -> tuple[Tensor, "NativeStreams"]:
        """Logits (B, T, V) after every token, as a `LanguageModel`; `state` moves on in place."""
        state = self.streams(len(tokens)) if state is None else state
        return self.read(tokens, state, every=True), state

    def next_logits(
        self, tokens: Tensor, state: "NativeStreams | None" = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, "NativeStreams"]:
        """`read` in the form that `solomonic.lm.generate` asks for; `state` moves on in place."""
        state = self.streams(len(tokens)) if state is None else state
        return self.read(tokens, state, lengths), state

    def describe(self) -> str:
        """What runs: instruction set, threads, type and bytes of the weights."""
        return (
            f"native ({self._core.isa()}), {self.threads} "
            f"thread{'s' if self.threads > 1 else ''}, {self.weights} weights, "
            f"{self.nbytes / 2**20:.1f} MiB"
        )

    def streams(self, rows: int) -> "NativeStreams":
        """`rows` streams before any token."""
        return NativeStreams(self, [self._model.stream() for _ in range(rows)])

    def read(
        self,
        tokens: Tensor,
        streams: "NativeStreams",
        lengths: Tensor | None = None,
        every: bool = False,
    ) -> Tensor:
        """Let each stream read its row of tokens (B, T); the streams move on.

        Args:
            lengths: (B,) real tokens of right-padded rows; None means all T. A row of length 0
                stands still.
            every: logits after every token instead of only after the last.

        Returns:
            float32 logits (B, V), zeros for rows of length 0; with `every` (B, T, V), zeros behind
            each row's length.

        Raises:
            ShapeError: rows of tokens and streams do not match.
            ConfigError: a token lies outside the vocabulary; no stream has moved.
        """
        return self._read(tokens, streams, lengths, every, (self.config.vocab_size,))[0]

    def advance(self, tokens: Tensor, streams: "NativeStreams") -> None:
        """`read` for rows of equal length whose logits nobody asks for."""
        self._read(tokens, streams, None, False, ())

    def read_hidden(
        self,
        tokens: Tensor,
        streams: "NativeStreams",
        lengths: Tensor | None = None,
        every: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """What `read` gives, and the vectors (.., d) that the head turned into these logits: what a
        `LanguageModel` calls `hidden`, the keys of a memory."""
        sizes = self.config.vocab_size, self.config.hidden_size
        logits, hidden = self._read(tokens, streams, lengths, every, sizes)
        return logits, hidden

    def _read(
        self,
        tokens: Tensor,
        streams: "NativeStreams",
        lengths: Tensor | None,
        every: bool,
        sizes: tuple[int, ...],
    ) -> list[Tensor]:
        """Outputs of these widths: none, logits, or logits and hidden vectors."""
        rows, steps = tokens.shape
        if rows != len(streams):
            raise ShapeError(f"tokens have {rows} rows and there are {len(streams)} streams.")
        real = None if lengths is None else torch.arange(steps) < lengths.cpu()[:, None]
        counts = torch.full((rows,), steps) if lengths is None else lengths.cpu()
        flat = tokens.cpu() if real is None else tokens.cpu()[real]
        flat, counts = flat.to(torch.int32).contiguous(), counts.to(torch.int32).contiguous()
        if steps == 0:
            return [torch.zeros(rows, *([0] if every else []), size) for size in sizes]
        # Rows that read nothing are not written.
        new = torch.empty if every or real is None else torch.zeros
        found = [new(flat.numel() if every else rows, size) for size in sizes]
        given = counts.data_ptr(), flat.data_ptr(), every, *(out.data_ptr() for out in found)
        try:
            if len(sizes) < 2:
                self._context.read(streams.handles, *given, *([] if sizes else [0]))
            else:
                self._context.read_hidden(streams.handles, *given)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if not every:
            return found
        if real is None:
            return [out.view(rows, steps, -1) for out in found]
        return [
            out.new_zeros(rows, steps, out.shape[1]).masked_scatter(real[..., None], out)
            for out in found
        ]


class NativeStreams:
    """What a `NativeModel` remembers of several texts, one handle a row."""

    def __init__(self, model: NativeModel, handles: list[Any]) -> None:
        self.model, self.handles = model, handles

    def __len__(self) -> int:
        return len(self.handles)

    @property
    def time(self) -> Tensor:
        """(B,) int64 tokens each row has read."""
        return torch.tensor([handle.time() for handle in self.handles], dtype=torch.int64)

    @property
    def nbytes(self) -> int:
        """Bytes held by all rows."""
        return sum(handle.bytes() for handle in self.handles)

    def gather(self, index: Sequence[int] | Tensor) -> "NativeStreams":
        """Copies of the rows named, in that order: beams and branches."""
        return NativeStreams(self.model, [self.handles[int(i)].copy() for i in index])

    def reset(self, mask: Tensor | None = None) -> None:
        """Forget everything in the rows where `mask` (B,) is true, or in all."""
        for row, handle in enumerate(self.handles):
            if mask is None or bool(mask[row]):
                handle.reset()

    def to_state(self, like: ModelState) -> ModelState:
        """The same memory as a `ModelState`; `like` is a state of the same model and rows."""
        layers = tuple(self._export(index, layer) for index, layer in enumerate(like.stack.layers))
        return ModelState(self.time, dataclasses.replace(like.stack, layers=layers))

    def load_state(self, state: ModelState) -> None:
        """Take over what a `ModelState` of the same model remembers."""
        for row, handle in enumerate(self.handles):
            handle.set_time(int(state.time[row]))
            for index, layer in enumerate(state.stack.layers):
                for part, tensor in parts(layer).items():
                    if part == "kv":
                        assert isinstance(layer, CacheState)
                        tensor = tensor[:, layer.kv_time[row] >= 0]
                    values = tensor[row].detach().to("cpu", torch.float32).contiguous()
                    if part == "slot_time":
                        times = tensor[row].cpu().contiguous()
                        handle.set_slot_times(index, times.data_ptr(), times.numel())
                    elif values.numel() or part == "kv":
                        handle.set(index, part, values.data_ptr(), values.numel())

    def _export(self, index: int, like: State) -> State:
        """Layer `index` of all rows in the tree of `like`."""
        grown = max((handle.count(index, "kv") for handle in self.handles), default=0)
        found: dict[str, Tensor] = {}
        for part, tensor in parts(like).items():
            rows = []
            for handle in self.handles:
                if part == "slot_time":
                    values = torch.empty(tensor.shape[1], dtype=torch.int64)
                    handle.get_slot_times(index, values.data_ptr(), values.numel())
                else:
                    values = torch.empty(handle.count(index, part))
                    handle.get(index, part, values.data_ptr(), values.numel())
                if part == "kv":
                    width = tensor.shape[2:].numel()
                    values = torch.nn.functional.pad(values, (0, grown - values.numel()))
                    rows.append(values.view(grown // width, *tensor.shape[2:]))
                else:
                    rows.append(values.view(tensor.shape[1:]))
            found[part] = torch.stack(rows)
        return _rebuild(like, found, self.time)


def settings(config: ModelConfig) -> dict[str, Any]:
    """What native/include/solomonic.h calls slm_config."""
    return {
        "layers": config.layers,
        "short_conv_layers": config.short_conv_layers,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "heads": config.num_attention_heads,
        "key_value_heads": config.key_value_heads,
        "head_dim": config.head_size,
        "mlp_size": config.mlp_size,
        "window": config.window_size,
        "refresh": config.refresh,
        "slots": config.eidetic_slots,
        "fading": config.fading_slots,
        "lag": config.lag,
        "taps": config.predictor_taps,
        "ssm_state": config.ssm_state_size,
        "ssm_head_dim": config.ssm_head_dim,
        "ssm_expand": config.ssm_expand,
        "ssm_conv": config.ssm_conv_size,
        "chunk": config.chunk_size,
        "short_conv": config.short_conv_size,
        "chunked_fading": config.fading_mode == "chunk",
        "fading_skip": config.fading_skip,
        "keep_duplicates": config.keep_duplicates,
        "delta_transition": config.transition == "delta",
        "tied": config.tie_word_embeddings,
        "rope_theta": config.rope_theta if config.position == "rope" else 0.0,
        "norm_eps": config.norm_eps,
    }


def parts(layer: State) -> dict[str, Tensor]:
    """The tensors of a layer's state by the names that the native core gives them."""
    if isinstance(layer, RecurrentState):
        return {"ssm.h": layer.h, "ssm.conv": layer.conv}
    if isinstance(layer, LSTMState):
        return {"lstm.h": layer.h, "lstm.c": layer.c}
    if isinstance(layer, CacheState):
        found = {"kv": layer.kv, "conv": layer.conv}
    else:
        assert isinstance(layer, BMojoState)
        found = {
            "raw": layer.raw, "faded": layer.faded, "past": layer.past, "conv": layer.conv,
        }  # fmt: skip
        if layer.slots.shape[1]:
            found |= {
                "raw_eps": layer.raw_eps, "slots": layer.slots,
                "slot_eps": layer.slot_eps, "slot_time": layer.slot_time,
            }  # fmt: skip
        if layer.ssm is not None:
            found |= {"ssm.h": layer.ssm.h, "ssm.conv": layer.ssm.conv}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _rebuild(like: State, found: dict[str, Tensor], time: Tensor) -> State:
    """`like` with the tensors found, in the types it had."""
    if isinstance(like, RecurrentState):
        return RecurrentState(
            found["ssm.h"].to(like.h.dtype), found["ssm.conv"].to(like.conv.dtype)
        )
    if isinstance(like, LSTMState):
        return LSTMState(found["lstm.h"].to(like.h.dtype), found["lstm.c"].to(like.c.dtype))
    known = parts(like)
    changes: dict[str, Any] = {
        name: tensor.to(known[name].dtype)
        for name, tensor in found.items()
        if not name.startswith("ssm.")
    }
    changes["time"] = time
    if isinstance(like, CacheState):
        places = torch.arange(changes["kv"].shape[1])
        changes["kv_time"] = places.expand(len(time), -1).masked_fill(places >= time[:, None], -1)
    elif isinstance(like, BMojoState) and like.ssm is not None:
        changes["ssm"] = _rebuild(like.ssm, found, time)
    return dataclasses.replace(like, **changes)
