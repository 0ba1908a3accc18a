"""Compression while training: masks that grow, weights that walk to their levels, and the result.

A `Compressor` holds no weights. Its buffers (masks, scales, how far the run is) go into the
checkpoint of the module that holds it, so a run that was killed goes on where it was.

    begin -- sparsify -- masks fixed, scales chosen -- quantise -- end

Before each batch `advance` prunes and clears what an optimizer's momentum revived.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from solomonic.compress.activations import quantise_inputs
from solomonic.compress.config import CompressConfig, Plan, select
from solomonic.compress.masks import keep_mask, vectors
from solomonic.compress.matrix import VECTOR, QuantisedMatrix
from solomonic.compress.periodic import periodic
from solomonic.compress.quantise import Grid, as_matrix, fit_grid
from solomonic.compress.schedule import cubic, ramp
from solomonic.core import ConfigError


@dataclasses.dataclass
class _Entry:
    """One matrix: where it lives (tied weights in several places) and what becomes of it."""

    weight: nn.Parameter
    plan: Plan
    owners: list[tuple[nn.Module, str]]
    key: str
    shadow: Tensor | None
    """A running mean of the weight; it is masked and rounded with it."""


class Compressor(nn.Module):
    """Compresses the matrices of `module` over a run.

    Args:
        shadows: parameter -> buffer of `module` that holds its running mean: what is evaluated and
            exported then.

    Raises:
        ConfigError: there is nothing to compress.
    """

    step: Tensor
    seconds: Tensor
    last: Tensor
    cycle: Tensor
    masked: Tensor
    scaled: Tensor

    def __init__(
        self, module: nn.Module, config: CompressConfig, shadows: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self._entries: dict[str, _Entry] = {}
        buffers = dict(module.named_buffers())
        for name, (weight, plan) in select(module, config).items():
            key = name.replace(".", "__")
            shadow = buffers[shadows[name]] if shadows and name in shadows else None
            owners = [
                (one, attribute)
                for one in module.modules()
                for attribute, held in one._parameters.items()
                if held is weight
            ]
            self._entries[name] = _Entry(weight, plan, owners, key, shadow)
            self._reserve(key, weight, plan)
        for name, kind in (("seconds", torch.float64), ("last", torch.float64),
                           ("step", torch.int64), ("cycle", torch.int64),
                           ("masked", torch.bool), ("scaled", torch.bool)):  # fmt: skip
            self.register_buffer(name, torch.zeros((), dtype=kind))
        self.cycle.fill_(-1)
        self._clock: float | None = None
        self._rounding = False
        owners = {owner for entry in self._entries.values() for owner, _ in entry.owners}
        self._hooks = quantise_inputs(module, owners, lambda: self._rounding)

    def _reserve(self, key: str, weight: Tensor, plan: Plan) -> None:
        grid = fit_grid(weight, plan.scheme)
        if plan.sparsity:
            self.register_buffer(f"mask__{key}", torch.ones_like(weight, dtype=torch.bool))
            self.register_buffer(f"threshold__{key}", torch.zeros((), device=weight.device))
        self.register_buffer(f"scales__{key}", grid.scales.to(weight.device))
        if grid.codebook is not None:
            self.register_buffer(f"codebook__{key}", grid.codebook.to(weight.device))

    @property
    def names(self) -> list[str]:
        """The matrices that are compressed."""
        return list(self._entries)

    @property
    def progress(self) -> float:
        """Share of the run that is behind, 0 to 1."""
        share = int(self.step) / self.config.steps
        if self.config.max_seconds is not None:
            share = max(share, float(self.seconds) / self.config.max_seconds)
        return min(share, 1.0)

    def mask(self, name: str) -> Tensor | None:
        """(N, K) bool, true for what is kept; None: the matrix stays dense."""
        entry = self._entries[name]
        return self.get_buffer(f"mask__{entry.key}") if entry.plan.sparsity else None

    def grid(self, name: str) -> Grid:
        """The levels a matrix is pulled to."""
        entry = self._entries[name]
        book = self.get_buffer(f"codebook__{entry.key}") if entry.plan.scheme.codebook else None
        return Grid(entry.plan.scheme.bits, self.get_buffer(f"scales__{entry.key}"), book)

    def sparsity(self) -> float:
        """Share of zeros among the weights that are pruned at all."""
        masks = [m for name in self.names if (m := self.mask(name)) is not None]
        return (
            1 - sum(int(m.sum()) for m in masks) / sum(m.numel() for m in masks) if masks else 0.0
        )

    @torch.no_grad()
    def begin_from(
        self, matrices: Mapping[str, QuantisedMatrix], masks: Mapping[str, Tensor]
    ) -> None:
        """Begin with matrices that were compressed already: their zeros and scales are fixed, and
        training has the whole run to find better levels.

        Args:
            matrices, masks: of `compress_weights` and `choose_masks`, for every matrix; what a
                mask keeps may be zero now and need not stay so.

        Raises:
            ConfigError: a matrix or mask is missing, or was made with other settings.
        """
        for name, entry in self._entries.items():
            found, kept, plan = matrices.get(name), masks.get(name), entry.plan
            if found is None or (plan.sparsity and kept is None):
                raise ConfigError(f"there is no matrix or mask '{name}' to begin from.")
            grid = self.grid(name)
            if found.bits != grid.bits or found.scales.shape != tuple(grid.scales.shape):
                raise ConfigError(
                    f"'{name}' has {found.bits} bits and {found.scales.size} scales, not "
                    f"{grid.bits} and {grid.scales.numel()}; compress it with the same settings."
                )
            if kept is not None:
                self.get_buffer(f"mask__{entry.key}").copy_(kept)
            self.get_buffer(f"scales__{entry.key}").copy_(torch.from_numpy(found.scales))
            if found.codebook is not None and plan.scheme.codebook:
                book = torch.from_numpy(found.codebook)
                self.get_buffer(f"codebook__{entry.key}").copy_(book)
            for held in self._held(entry):
                held.copy_(torch.from_numpy(found.dequantised()))
        self.masked.fill_(True)
        self.scaled.fill_(True)

    @torch.no_grad()
    def advance(self) -> None:
        """Call before every batch: prune, choose the scales, clear what must be zero."""
        now = time.monotonic()
        if self._clock is not None:
            self.seconds += now - self._clock
        self._clock = now
        progress, step = self.progress, int(self.step)
        if self.config.sparsity and not bool(self.masked):
            if self.config.way == "alternating":
                self._alternate(progress)
            else:
                self._prune(progress, step)
        ready = bool(self.masked) or not self.config.sparsity
        if not bool(self.scaled) and ready and progress >= self.config.quantise[0]:
            self._choose_scales()
        self._project()
        every = self.config.compress_every
        if every and bool(self.scaled) and self.config.method == "periodic" and step % every == 0:
            for name, entry in self._entries.items():
                entry.weight.copy_(self.grid(name).nearest(entry.weight))
        self.last.fill_(progress)
        self.step += 1

    def terms(self) -> dict[str, Tensor]:
        """What is added to the loss of this batch, by name."""
        begin, end = self.config.quantise
        strength = self.config.strength * ramp(self.progress, begin, end)
        if self.config.method != "periodic" or not bool(self.scaled) or strength == 0:
            return {}
        total = sum(periodic(entry.weight, self.grid(n)) for n, entry in self._entries.items())
        assert isinstance(total, Tensor)
        return {"periodic": strength * total}

    @contextlib.contextmanager
    def training_weights(self) -> Iterator[None]:
        """While entered, the module computes with rounded inputs, and with "straight-through" with
        rounded weights, whose gradients reach the real ones."""
        straight = self.config.method == "straight-through" and bool(self.scaled)
        self._rounding = self.config.activations and bool(self.scaled)
        try:
            if straight:
                for name, entry in self._entries.items():
                    self._place(entry, self._straight(name, entry))
            yield
        finally:
            self._rounding = False
            for entry in self._entries.values() if straight else ():
                self._place(entry, entry.weight)

    @contextlib.contextmanager
    def deployed(self) -> Iterator[None]:
        """While entered, weights and running means are those of the finished model: all zeros
        pruned, on the grid, as `export` gives them, whatever share of the run is behind."""
        before: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for name, entry in self._entries.items():
                for held in self._held(entry):
                    levels, grid = self._finished(name, entry, held)
                    before.append((held, held.detach().clone()))
                    held.copy_(grid.values(levels))
        self._rounding = self.config.activations
        try:
            yield
        finally:
            self._rounding = False
            with torch.no_grad():
                for held, value in before:
                    held.copy_(value)

    @torch.no_grad()
    def export(self) -> dict[str, QuantisedMatrix]:
        """The finished matrices by name, of the running means where there are such."""
        found = {}
        for name, entry in self._entries.items():
            levels, grid = self._finished(name, entry, self._held(entry)[-1])
            found[name] = as_matrix(levels, grid, entry.plan.pattern)
        return found

    def detach(self) -> None:
        """Take the hooks off the module."""
        for hook in self._hooks:
            hook.remove()

    @staticmethod
    def _held(entry: _Entry) -> list[Tensor]:
        return [entry.weight] if entry.shadow is None else [entry.weight, entry.shadow]

    @staticmethod
    def _place(entry: _Entry, tensor: Tensor) -> None:
        for owner, attribute in entry.owners:
            owner._parameters[attribute] = tensor  # type: ignore[assignment]  # as functional_call

    def _straight(self, name: str, entry: _Entry) -> Tensor:
        weight = entry.weight
        return weight + (self.grid(name).nearest(weight.detach()) - weight.detach())

    def _finished(self, name: str, entry: _Entry, held: Tensor) -> tuple[Tensor, Grid]:
        weight, plan = held.detach().float(), entry.plan
        if plan.sparsity:
            mask = self.mask(name) if bool(self.masked) else None
            if mask is None:
                mask = keep_mask(weight.square(), plan.sparsity, plan.pattern)
            weight = weight * mask
        grid = self.grid(name) if bool(self.scaled) else fit_grid(weight, plan.scheme)
        return grid.levels(weight), grid

    def _choose_scales(self) -> None:
        for name, entry in self._entries.items():
            mask = self.mask(name)
            weight = entry.weight if mask is None else entry.weight * mask
            grid = fit_grid(weight, entry.plan.scheme)
            self.get_buffer(f"scales__{entry.key}").copy_(grid.scales)
            if grid.codebook is not None:
                self.get_buffer(f"codebook__{entry.key}").copy_(grid.codebook)
        self.scaled.fill_(True)

    @torch.no_grad()
    def _project(self) -> None:
        cut = self.config.way == "gradual" or bool(self.masked) or self._hard(self.progress)
        for name, entry in self._entries.items():
            mask = self.mask(name)
            for held in self._held(entry):
                if mask is not None and cut:
                    held.mul_(mask)
                if bool(self.scaled):
                    low, high = self.grid(name).limit(held.shape[1])
                    torch.minimum(torch.maximum(held, low), high, out=held)

    def _sparse(self) -> Iterator[tuple[str, _Entry]]:
        return ((n, entry) for n, entry in self._entries.items() if entry.plan.sparsity)

    def _prune(self, progress: float, step: int) -> None:
        """Gradual magnitude pruning: every now and then the least weights become zero, for good."""
        begin, end = self.config.sparsify
        if progress < end and step % self.config.update_every:
            return
        self._cut(cubic(progress, begin, end, self.config.sparsity))
        self.masked.fill_(progress >= end)

    def _cut(self, sparsity: float) -> None:
        for name, entry in self._sparse():
            mask, share = self.mask(name), sparsity / self.config.sparsity * entry.plan.sparsity
            assert mask is not None
            mask.copy_(keep_mask(entry.weight.square(), share, entry.plan.pattern))

    def _hard(self, progress: float) -> bool:
        """Whether an alternation is in the half where zeros are zeros."""
        begin, end = self.config.sparsify
        return progress > begin and self.config.cycles * ramp(progress, begin, end) % 1 >= 0.5

    def _alternate(self, progress: float) -> None:
        """Compressed sensing (CSP, Zhen et al., arXiv 2102.04932), as this library reads it.

        In the first half of a cycle what lies below the cycle's threshold shrinks, to zero at the
        half if the loss does not object; in the second half what is least now is zero, and the rest
        makes up for it. The next cycle frees all again, so that a weight may come back.
        """
        begin, end = self.config.sparsify
        along = self.config.cycles * ramp(progress, begin, end)
        number = min(int(along), self.config.cycles)
        target = cubic((number + 1) / self.config.cycles, 0.0, 1.0, self.config.sparsity)
        if progress >= end:
            self._cut(self.config.sparsity)
            self.masked.fill_(True)
        elif progress > begin and number != int(self.cycle):
            self._cut(target)
            self._remember_thresholds()
            self.cycle.fill_(number)
        elif self._hard(progress):
            if not self._hard(float(self.last)):
                self._cut(target)
        elif progress > begin:
            share = 2 * self.config.cycles * (progress - float(self.last)) / max(end - begin, 1e-9)
            self._shrink(share)

    def _remember_thresholds(self) -> None:
        for name, entry in self._sparse():
            mask = self.mask(name)
            assert mask is not None
            norms = _norms(entry)[~_of_units(mask, entry)]
            top = norms.max() if norms.numel() else torch.zeros(())
            self.get_buffer(f"threshold__{entry.key}").copy_(top)

    def _shrink(self, share: float) -> None:
        """Soft-threshold what is to go: its norm falls by `share` of the threshold."""
        for name, entry in self._sparse():
            mask = self.mask(name)
            assert mask is not None
            norms = _norms(entry).clamp(min=1e-12)
            fall = share * self.get_buffer(f"threshold__{entry.key}")
            factor = (1 - fall / norms).clamp(min=0)
            factor = torch.where(_of_units(mask, entry), torch.ones_like(factor), factor)
            if entry.plan.pattern == "vec16":
                factor = factor.repeat_interleave(VECTOR, dim=0)[: len(mask)]
            entry.weight.mul_(factor)


def _norms(entry: _Entry) -> Tensor:
    """The size of every unit that goes or stays as one."""
    square = entry.weight.detach().square()
    return (vectors(square) if entry.plan.pattern == "vec16" else square).sqrt()


def _of_units(mask: Tensor, entry: _Entry) -> Tensor:
    """The mask of units from that of weights."""
    return mask[::VECTOR] if entry.plan.pattern == "vec16" else mask


def mean_bits(matrices: Mapping[str, QuantisedMatrix]) -> float:
    """Entropy of the levels and the scales, in bits a weight: what a good coder needs."""
    bits = weights = 0.0
    for matrix in matrices.values():
        counts = torch.bincount(torch.from_numpy(matrix.levels).flatten().long() + 128).double()
        shares = counts[counts > 0] / counts.sum()
        bits += matrix.levels.size * float(-(shares * shares.log2()).sum())
        bits += matrix.scales.size * (16 if matrix.grouped else 32)
        weights += matrix.levels.size
    return bits / weights if weights else math.nan
