"""What drives the recurrences of a model while it reads a text, layer by layer.

A layer's state moves by h⁺ = a h + (dt x) bᵀ and is read by c: a scalar decay a = exp(-dt rate) a
head that depends on the input, and b and c that the heads share. Everything here follows from a, b
and c alone.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.nn.functional import silu

from solomonic import kernels
from solomonic.core import ConfigError, DataError
from solomonic.layers import SSM, Block, BMojo, RecurrentState
from solomonic.lm.model import LanguageModel

SEGMENT = 512
"""Tokens a call; bounds memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class Drive:
    """One segment of one layer, in float64 and without the batch.

    rate (H,) negative; steps (T, H); x (T, H, P); b, c (T, N); gate (T, H P) what each output
    channel is multiplied with before the output matrix; state (H, P, N) before the segment;
    output (T, d) what the layer says.
    """

    rate: Tensor
    steps: Tensor
    x: Tensor
    b: Tensor
    c: Tensor
    gate: Tensor
    state: Tensor
    output: Tensor

    def states(self, every: int) -> Iterator[tuple[int, Tensor]]:
        """(tokens read, state (H, P, N)) after each `every` tokens and at the end."""
        h = self.state[None]
        for start in range(0, len(self.b), every):
            part = slice(start, min(start + every, len(self.b)))
            sizes = (self.x[None, part], self.steps[None, part], self.rate)
            _, h = kernels.run("ssd", *sizes, self.b[None, part], self.c[None, part], h, every)
            yield part.stop, h[0]

    @property
    def log_decay(self) -> Tensor:
        """log a (T, H)."""
        return self.steps * self.rate


def recurrent_layers(model: LanguageModel) -> dict[int, SSM]:
    """The selective state-space models of a model, by layer."""
    found: dict[int, SSM] = {}
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        mixer = block.mixer
        inside = mixer.ssm if isinstance(mixer, BMojo) else mixer
        if isinstance(inside, SSM):
            found[index] = inside
    return found


@torch.no_grad()
def watch(
    model: LanguageModel,
    ids: Tensor,
    visit: Callable[[int, SSM, Drive], None],
    after: Callable[[int, Tensor], None] | None = None,
) -> None:
    """Let `model` read ids (T,) and show every segment of every recurrent layer to `visit`.

    Args:
        visit: called with (layer, module, drive) in the order of the text.
        after: called with (tokens read before, hidden (T', d)) after each segment.

    Raises:
        ConfigError: the model has no state-space layer with scalar decay.
        DataError: fewer than two tokens.
    """
    layers = recurrent_layers(model)
    if not layers:
        raise ConfigError(
            f"pattern '{model.config.pattern}' has no selective state-space layer to look into; "
            "use a model with 'M', 'F' or 'B' layers and transition 'ssd'."
        )
    if len(ids) < 2:
        raise DataError(f"the text has {len(ids)} tokens; give at least two.")
    with ExitStack() as stack:
        for index, module in layers.items():

            def show(module: SSM, inputs: tuple, out: tuple, index: int = index) -> None:
                before = inputs[1] if inputs[1:] else None
                visit(index, module, drive(module, inputs[0], before, out[0]))

            stack.callback(module.register_forward_hook(show).remove)
        was = model.training
        stack.callback(model.train, was)
        model.eval()
        state = None
        for start in range(0, len(ids), SEGMENT):
            part = ids[None, start : start + SEGMENT].to(model.device)
            hidden, state = model.hidden(part, state)
            if after is not None:
                after(start, hidden[0])


def drive(module: SSM, u: Tensor, state: RecurrentState | None, output: Tensor) -> Drive:
    """The signals of a batch of one, from what the module was called with and what it answered."""
    z, x, dt, b, c, h, _ = module.signals(u, state)
    y, _ = kernels.run("ssd", x, dt, -module.A_log.exp(), b, c, h, module.chunk)
    y = (y + module.D.to(y.dtype)[:, None] * x).flatten(-2)
    gated = y * silu(z)
    scale = torch.rsqrt(gated.square().mean(dim=-1, keepdim=True) + module.norm.eps)
    gate = silu(z) * scale * module.norm.weight
    values = (-module.A_log.exp()[None], dt, x, b, c, gate, h, output)
    return Drive(*(v[0].detach().double().cpu() for v in values))
