"""Balanced truncation of a trained model's states: the same model with a smaller memory.

A head's state moves by h⁺ = a h + (dt x) bᵀ and is read by y = h c. The decay a is one number, so
any change of coordinates of the state passes through it, whatever the input makes of a. In the
coordinates where states (on a text) and readers c have the same diagonal second moment, the last
directions carry least; they are left out. Two matrices lead b and c to what is kept
(`ModelConfig.ssm_state_rank`).

What is certain and what is measured:

- On a text, with decays that depend on the input, what a layer loses at a token is exactly
  h_t · c_t over the dropped directions, so its size is at most |h_t| |c_t| there. No approximation.
- With the decay frozen and the inputs white the layer is linear and time-invariant, and Glover's
  theorem bounds its transfer function: at most twice the sum of what is dropped.
- What later layers and the prediction make of it is only measured.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solomonic.core import Config, ConfigError, require
from solomonic.layers import SSM
from solomonic.lm.model import LanguageModel
from solomonic.lm.probe.signals import Drive, recurrent_layers, watch
from solomonic.realization import Linear, reduce, truncation

EVERY = 16
"""Tokens between two states that are looked at."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncateConfig(Config):
    """How far states are cut.

    Attributes:
        states: directions to keep in each layer; None is half.
    """

    states: int | None = None

    def __post_init__(self) -> None:
        require(
            self.states is None or self.states >= 1,
            f"states = {self.states} must be at least 1.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCut:
    """What was cut from one layer.

    Figures of outputs are root mean squares over a text, each output channel weighted by what the
    gate and the output matrix make of it.

    Attributes:
        layer, before, after: which, and its state's directions.
        singular_values: (before,) of states and readers on the text, largest first.
        frozen_decay: of the head that remembers longest, at which the bound is computed.
        bound: Glover's: the frozen layer's transfer function changes by at most this.
        frozen_error: by how much it does, at the worst frequency.
        frozen_norm: the largest size of that transfer function.
        output: size of the layer's state output on the text.
        error: what is lost of it, measured on tokens that were not used to choose.
        guarantee: the most that can be lost on those tokens: |h| |c| over what is dropped.
    """

    layer: int
    before: int
    after: int
    singular_values: tuple[float, ...]
    frozen_decay: float
    bound: float
    frozen_error: float
    frozen_norm: float
    output: float
    error: float
    guarantee: float

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class _Moments:
    """Second moments of one layer's states and readers over a text."""

    def __init__(self, module: SSM) -> None:
        n = module.rank
        self.columns = module.out_proj.weight.detach().double().cpu().square().sum(0)  # (inner,)
        self.states, self.readers = torch.zeros(n, n).double(), torch.zeros(n, n).double()
        self.decays: list[Tensor] = []
        self.looked = self.tokens = 0

    def weights(self, gate: Tensor) -> Tensor:
        """How much the outputs of one token count, (H, P), from its gate (H P,)."""
        return gate.square() * self.columns

    def add(self, drive: Drive) -> None:
        shape = drive.x.shape[1:]
        weights = self.weights(drive.gate).mean(0).view(shape)
        for _, h in drive.states(EVERY):
            scaled = (h * weights.sqrt()[..., None]).flatten(0, 1)
            self.states += scaled.T @ scaled
            self.looked += 1
        self.readers += drive.c.T @ drive.c
        self.decays.append(drive.log_decay)
        self.tokens += len(drive.c)

    def gramians(self) -> tuple[np.ndarray, np.ndarray]:
        """Means over the text; a little is added, so that no direction is singular."""
        found = (self.states / self.looked).numpy(), (self.readers / self.tokens).numpy()
        reached, seen = (m + 1e-10 * np.trace(m) * np.eye(len(m)) for m in found)
        return reached, seen

    def slowest(self) -> float:
        """The mean decay of the head that remembers longest."""
        return float(torch.cat(self.decays).mean(0).max().exp())


@torch.no_grad()
def truncate(
    model: LanguageModel, ids: Tensor, config: TruncateConfig | None = None
) -> tuple[LanguageModel, list[LayerCut]]:
    """A smaller model; the first half of ids (T,) says what may go, the second what it cost.

    Raises:
        ConfigError: no state-space layer, states that were cut before, or more states asked for
            than there are.
        DataError: fewer than two tokens.
    """
    config = config or TruncateConfig()
    modules = recurrent_layers(model)
    size = model.config.ssm_state_size
    order = config.states or max(size // 2, 1)
    if model.config.ssm_state_rank is not None:
        raise ConfigError("this model's states were truncated before; start from the first model.")
    if order > size:
        raise ConfigError(f"{order} states are more than the model's {size}; keep fewer.")
    moments = {layer: _Moments(module) for layer, module in modules.items()}
    half = max(len(ids) // 2, 1)
    watch(model, ids[:half], lambda layer, _, drive: moments[layer].add(drive))
    losses = {layer: _Loss(found, order) for layer, found in moments.items()}
    watch(model, ids[half:], lambda layer, _, drive: losses[layer].add(drive))
    cuts = [losses[layer].describe(layer) for layer in modules]
    return _smaller(model, order, losses), cuts


class _Loss:
    """What one layer's outputs lose on a text, and the most they can."""

    def __init__(self, moments: _Moments, order: int) -> None:
        self.moments, self.order = moments, order
        self.reached, self.seen = moments.gramians()
        size = len(self.reached)
        change, back, self.values = truncation(self.reached, self.seen, size)
        # Rows are the balanced directions of the state, and of what reads it.
        self.change, self.back = torch.from_numpy(change), torch.from_numpy(back.T.copy())
        self.sums, self.tokens = torch.zeros(3).double(), 0

    def add(self, drive: Drive) -> None:
        """Look at the states of one segment."""
        for stop, h in drive.states(EVERY):
            at = self.moments.weights(drive.gate[stop - 1]).view(h.shape[:2])
            c = drive.c[stop - 1]
            gone = h @ self.change[self.order :].T
            reader = self.back[self.order :] @ c
            most = gone.square().sum(-1) * reader.square().sum()
            parts = ((h @ c).square(), (gone @ reader).square(), most)
            self.sums += torch.stack([(at * part).sum() for part in parts])
            self.tokens += 1

    def describe(self, layer: int) -> LayerCut:
        """The figures, with Glover's bound on the layer whose decay is frozen."""
        a = self.moments.slowest()
        system = Linear(
            a * np.eye(len(self.reached)),
            math.sqrt(1 - a * a) * np.linalg.cholesky(self.reached),
            np.linalg.cholesky(self.seen).T,
        )
        small = reduce(system, self.order)
        assert isinstance(small.system, Linear) and small.bound is not None
        circle = np.linspace(0, np.pi, 65)
        whole, part = system.response(circle), small.system.response(circle)
        output, error, guarantee = (self.sums / max(self.tokens, 1)).sqrt().tolist()
        return LayerCut(
            layer=layer,
            before=system.order,
            after=self.order,
            singular_values=tuple(float(s) for s in self.values),
            frozen_decay=a,
            bound=small.bound,
            frozen_error=float(np.linalg.norm(whole - part, 2, axis=(1, 2)).max()),
            frozen_norm=float(np.linalg.norm(whole, 2, axis=(1, 2)).max()),
            output=output,
            error=error,
            guarantee=guarantee,
        )


def _smaller(model: LanguageModel, order: int, losses: dict[int, _Loss]) -> LanguageModel:
    """The model with maps onto the first `order` directions of every layer."""
    with torch.random.fork_rng(devices=[]):
        small = LanguageModel(model.config.replace(ssm_state_rank=order))
    small.to(model.device, model.embed.weight.dtype)
    small.load_state_dict(model.state_dict(), strict=False)
    for layer, module in recurrent_layers(small).items():
        assert module.b_map is not None and module.c_map is not None
        module.b_map.weight.copy_(losses[layer].change[:order])
        module.c_map.weight.copy_(losses[layer].back[:order])
    small.tie_weights()
    return small.train(model.training)
