"""One step of learning at a time on chosen parameters, and the way back to the original weights.

The rule is that of dynamic evaluation (Krause et al., arXiv 1709.07432 and 1904.08378):

    now <- now - rate * g / (rms + floor * mean) + min(1, decay * rms / mean) * (start - now)

with the root mean square of each element's gradient and its mean over all elements. Where
statistics of training gradients are given (`statistics.py`) that is their rms, as in the papers.
Otherwise it is the running rms of the gradients met so far, and the decay is equal for all
elements: what Adam without momentum does.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from solomonic.core import CheckpointError
from solomonic.lm.adapt.config import AdaptConfig
from solomonic.lm.adapt.delta import Change, Delta, applied, base_fingerprint
from solomonic.lm.model import LanguageModel

_MEMORY = 0.99  # of the running mean square: about the last hundred segments


def chosen(model: LanguageModel, which: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that learn, by name; `which` is one of `config.PARAMETERS`."""
    everything = dict(model.named_parameters())
    if which == "all":
        return everything
    if which == "norms":
        return {name: p for name, p in everything.items() if p.dim() == 1}
    if which == "low_rank":
        inside = {n: p for n, p in everything.items() if n.startswith("blocks.")}
        return {name: p for name, p in inside.items() if p.dim() == 2}
    last = f"blocks.{len(model.blocks) - 1}."
    # A tied head is the embedding, and has its name.
    return {n: p for n, p in everything.items() if n.startswith((last, "norm.", "head.", "embed."))}


class Learner:
    """Holds what learns, and the values it started from.

    Args:
        model: in evaluation mode.
        statistics: mean squared training gradients by parameter name, or None.

    Raises:
        CheckpointError: the statistics belong to another model.
    """

    def __init__(
        self,
        model: LanguageModel,
        config: AdaptConfig,
        statistics: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model, self.config, self.steps = model, config, 0
        self.parameters = chosen(model, config.parameters)
        self.start = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.factors: dict[str, tuple[Tensor, Tensor]] = {}
        if config.parameters == "low_rank":
            self.factors = _factors(self.parameters, config)
            statistics = None  # of elements, and what learns are factors
        self._names = list(self.parameters)
        self._squares: list[Tensor] | None = None
        self._given = statistics is not None
        if statistics is not None:
            self._squares = [_statistic(statistics, name, self.parameters) for name in self._names]
            self._scales, self._pulls = self._fixed(self._squares)

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Gradients flow to what learns alone; flags are put back at the end."""
        flags = [(p, p.requires_grad) for p in self.model.parameters()]
        chosen = {id(p) for p in self.parameters.values()}
        for parameter, _ in flags:
            parameter.requires_grad_(id(parameter) in chosen)
        try:
            with torch.enable_grad():
                yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)

    @torch.no_grad()
    def step(self, loss: Tensor, rate: float | None = None) -> None:
        """One step down `loss` (a mean over tokens, in nats)."""
        rate = self.config.rate if rate is None else rate
        values = [self.parameters[name] for name in self._names]
        with self.gradients():
            found = torch.autograd.grad(loss, values, allow_unused=True)
        pairs = zip(values, found, strict=True)
        gradients = [torch.zeros_like(value) if g is None else g for value, g in pairs]
        if self.factors:
            self._step_factors(gradients, rate)
        else:
            self._step_whole([v.data for v in values], gradients, rate)
        self.steps += 1

    def _step_whole(self, values: list[Tensor], gradients: list[Tensor], rate: float) -> None:
        if self._given:
            scales, pulls = self._scales, self._pulls
        else:
            scales, pulls = self._running(gradients), [self.config.decay] * len(values)
        for name, value, g, scale, pull in zip(
            self._names, values, gradients, scales, pulls, strict=True
        ):
            back = (self.start[name] - value).mul_(pull)
            value.add_(g.mul(scale), alpha=-rate).add_(back)

    def _step_factors(self, gradients: list[Tensor], rate: float) -> None:
        """W = start + left right: the factors' gradients follow from the matrix's."""
        flat: list[Tensor] = []
        for name, g in zip(self._names, gradients, strict=True):
            left, right = self.factors[name]
            flat += [g @ right.T, left.T @ g]
        scales = self._running(flat)
        for index, name in enumerate(self._names):
            left, right = self.factors[name]
            left.mul_(1 - self.config.decay).sub_(rate * flat[2 * index] * scales[2 * index])
            right.sub_(rate * flat[2 * index + 1] * scales[2 * index + 1])
            self.parameters[name].data.copy_(self.start[name] + left @ right)

    def _running(self, gradients: list[Tensor]) -> list[Tensor]:
        """1 / (rms + floor * mean rms) by the running mean squares, `gradients` included."""
        if self._squares is None:
            self._squares = [torch.zeros_like(g) for g in gradients]
        for square, g in zip(self._squares, gradients, strict=True):
            square.mul_(_MEMORY).addcmul_(g, g, value=1 - _MEMORY)
        known = 1 - _MEMORY ** (self.steps + 1)
        rms = [(square / known).sqrt_() for square in self._squares]
        least = self.config.floor * _mean(rms) + 1e-30
        return [r.add_(least).reciprocal_() for r in rms]

    def _fixed(self, squares: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """What a gradient and the way back are multiplied by, from training's mean squares."""
        rms = [s.sqrt() for s in squares]
        mean = _mean(rms) + 1e-30
        scales = [1 / (r + self.config.floor * mean) for r in rms]
        return scales, [(self.config.decay * r / mean).clamp(max=1) for r in rms]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the original values back, bit for bit, and forget what was learned."""
        for name, value in self.start.items():
            self.parameters[name].data.copy_(value)
        if self.factors:
            self.factors = _factors(self.parameters, self.config)
        if not self._given:
            self._squares = None
        self.steps = 0

    def delta(self, notes: Mapping[str, object] | None = None) -> Delta:
        """What has been learned so far, in the type of `config.stored`."""
        kind = getattr(torch, self.config.stored)
        changes: dict[str, Change] = {}
        for name, value in self.parameters.items():
            if self.factors:
                changes[name] = tuple(x.detach().to(kind) for x in self.factors[name])
            else:
                changes[name] = ((value.detach().float() - self.start[name].float()).to(kind),)
        below = applied(self.model)
        now = {name: p.detach().clone() for name, p in self.parameters.items()}
        for name, value in self.start.items():
            self.parameters[name].data.copy_(value)
        try:
            mark = base_fingerprint(self.model)
        finally:
            for name, value in now.items():
                self.parameters[name].data.copy_(value)
        return Delta(
            fingerprint=mark,
            changes=changes,
            over=tuple(delta.identity for delta in below),
            notes=dict(notes or {}),
        )


def _mean(parts: list[Tensor]) -> float:
    total = math.fsum(float(part.sum(dtype=torch.float64)) for part in parts)
    return total / sum(part.numel() for part in parts)


def _statistic(
    statistics: Mapping[str, Tensor], name: str, parameters: Mapping[str, Tensor]
) -> Tensor:
    found, wanted = statistics.get(name), parameters[name]
    if found is None or found.shape != wanted.shape:
        raise CheckpointError(
            f"the gradient statistics belong to another model: '{name}' is not in them or has "
            "another shape; collect them anew."
        )
    return found.to(device=wanted.device, dtype=wanted.dtype)


def _factors(
    parameters: Mapping[str, Tensor], config: AdaptConfig
) -> dict[str, tuple[Tensor, Tensor]]:
    """Left factors of zeros, so that nothing is changed yet; right ones of random directions."""
    generator = torch.Generator().manual_seed(config.seed)
    found = {}
    for name, p in parameters.items():
        rows, columns = p.shape
        rank = min(config.rank, rows, columns)
        right = torch.randn(rank, columns, generator=generator) / math.sqrt(columns)
        found[name] = (p.new_zeros(rows, rank), right.to(p))
    return found
