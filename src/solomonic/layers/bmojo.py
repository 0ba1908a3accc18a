"""The B'MOJO layer (`B`), and by configuration B'MOJO-F (`F`) and the sliding window (`W`).

Source: Zancato et al., arXiv 2407.06324, section 3. One softmax reads three memories: the last w
tokens verbatim, the outputs of a state-space model that fades, and the tokens it failed to foresee.
"""

import dataclasses

import torch
from torch import Tensor, nn

from solomonic import kernels
from solomonic.core import ConfigError
from solomonic.kernels import AttentionSpec, Carry, Recalled, empty_carry
from solomonic.kernels.segments import compute_dtype
from solomonic.kernels.segments import tail as take_tail
from solomonic.layers.checks import check_input
from solomonic.layers.config import ModelConfig
from solomonic.layers.conv import ShortConv
from solomonic.layers.delta import DeltaRule
from solomonic.layers.linear import Linear
from solomonic.layers.projections import project, project_pairs
from solomonic.layers.ssm import SSM, RecurrentState
from solomonic.state import State, field


@dataclasses.dataclass
class LayerRecall:
    """What passes between one layer and a long-term memory in one call.

    slots: what was recalled for the chunks of the call; None: nothing. take: leave the keys and
    values of the tokens read in pairs, (B, T, 2, G, D), for the memory to keep.
    """

    slots: Recalled | None = None
    take: bool = False
    pairs: Tensor | None = None


@dataclasses.dataclass
class BMojoState(State):
    """Constant in the number of tokens read.

    The first seven fields are `kernels.Carry`; ssm is the fading memory's state; past (B, k, d) its
    last outputs, from which the innovation is foretold; conv the short convolution's tail.
    """

    time: Tensor = field()
    raw: Tensor = field()
    raw_eps: Tensor = field(fill=-torch.inf)
    faded: Tensor = field()
    slots: Tensor = field()
    slot_eps: Tensor = field(fill=-torch.inf)
    slot_time: Tensor = field(fill=-1)
    ssm: RecurrentState | None = None
    past: Tensor | None = None
    conv: Tensor | None = None


class BMojo(nn.Module):
    """y, state = layer(u, state): (B, T, d) -> (B, T, d).

    Args:
        config: the model's configuration.
        kind: "B" (all three memories), "F" (no eidetic one) or "W" (window only).
        spec: overrides the sets derived from config and kind; for proofs of special cases.
        with_ssm: overrides whether there is a fading memory. Without one every token has
            innovation 1, so the eidetic memory keeps the first tokens.

    Raises:
        ConfigError: a fading memory that no query reads would get no gradient.
    """

    def __init__(
        self,
        config: ModelConfig,
        kind: str = "B",
        spec: AttentionSpec | None = None,
        with_ssm: bool | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec or attention_spec(config, kind)
        self.width, self.heads, self.size = (
            config.hidden_size, config.num_attention_heads, config.head_size,
        )  # fmt: skip
        self.groups, self.taps = config.key_value_heads, config.predictor_taps
        fades = kind != "W" if with_ssm is None else with_ssm
        if fades != (self.spec.fading > 0):
            raise ConfigError(
                "a B'MOJO layer needs fading_slots of at least 1 exactly when it has a state-space "
                "model, which would otherwise get no gradient; change fading_slots."
            )
        self.skip = config.fading_skip
        recurrence = DeltaRule if config.transition == "delta" else SSM
        self.ssm = recurrence(config) if fades else None
        has_conv = config.short_conv_size and kind in config.short_conv_layers
        self.conv = ShortConv(self.width, config.short_conv_size) if has_conv else None
        inner, shared = self.heads * self.size, self.groups * self.size
        self.query = Linear(self.width, inner)
        self.key = Linear(self.width, shared)
        self.value = Linear(self.width, shared)
        self.output = Linear(inner, self.width)

    def init_state(self, batch: int, like: Tensor) -> BMojoState:
        """The state before any token; `like` gives device and type."""
        kind = compute_dtype(like)
        eidetic = self.spec.slots > 0 and self.ssm is not None
        past = torch.zeros(batch, self.taps, self.width, dtype=kind, device=like.device)
        return BMojoState(
            *empty_carry(self.spec, batch, self.groups, self.size, like),
            ssm=None if self.ssm is None else self.ssm.init_state(batch, like),
            past=past if eidetic else None,
            conv=None if self.conv is None else self.conv.empty(batch, like),
        )

    def forward(
        self,
        u: Tensor,
        state: BMojoState | None = None,
        lengths: Tensor | None = None,
        trace: list[dict[str, Tensor]] | None = None,
        recall: LayerRecall | None = None,
    ) -> tuple[Tensor, BMojoState]:
        """Read u (B, T, d).

        Args:
            state: what earlier calls returned; None before the first token.
            lengths: (B,) int64 real tokens of right-padded rows.
            trace: a list to which the layer appends what it found surprising and what it kept:
                "innovation" (B, T) and "kept" (B, n + 1, m_e), the times of the kept tokens before
                each refresh block and after the last, -1 for an empty slot.
            recall: slots that a long-term memory enters into this layer's softmax, and where the
                layer leaves its keys and values for that memory; None: neither.

        Raises:
            ShapeError: a wrong dimension, named.
        """
        check_input(u, self.width, lengths, None if state is None else len(state.time))
        fresh, rows = state is None, len(u)
        state = state or self.init_state(rows, self.query.weight)
        mixed, conv = u, state.conv
        if self.conv is not None:
            local, conv = self.conv(u, state.conv, lengths)
            mixed = u + local
        q, kv = project(self, mixed)
        y, faded, eps, ssm, past = None, None, None, state.ssm, state.past
        if self.ssm is not None:
            y, ssm = self.ssm(u, state.ssm, lengths)
            faded = project_pairs(self, y)
            if state.past is not None:
                eps = kernels.run("innovation", y, state.past, state.time)
                history = torch.cat((state.past, y.detach().to(state.past.dtype)), dim=1)
                past = take_tail(history, self.taps, lengths, self.taps)
        elif self.spec.slots:
            eps = torch.ones(u.shape[:2], device=u.device)
        carry = Carry(*(getattr(state, name) for name in Carry._fields))
        entered = () if recall is None or recall.slots is None else (recall.slots,)
        out, carry, kept = kernels.run(
            "attention", q, kv, faded, eps, carry, self.spec, lengths, fresh, *entered
        )
        if recall is not None and recall.take:
            recall.pairs = kv
        if trace is not None and eps is not None and kept is not None:
            trace.append({"innovation": eps, "kept": kept})
        out = self.output(out.flatten(-2))
        if self.skip and y is not None:
            out = out + y
        return out, BMojoState(*carry, ssm=ssm, past=past, conv=conv)


def attention_spec(config: ModelConfig, kind: str) -> AttentionSpec:
    """The sets a layer of kind "B", "F" or "W" reads."""
    return AttentionSpec(
        window=config.window_size,
        refresh=config.refresh,
        slots=config.eidetic_slots if kind == "B" else 0,
        fading=0 if kind == "W" else config.fading_slots,
        lag=config.lag,
        chunked_fading=config.fading_mode == "chunk",
        keep_duplicates=config.keep_duplicates,
        rope_theta=config.rope_theta if config.position == "rope" else None,
    )
