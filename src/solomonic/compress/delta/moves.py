"""What an update may do to a frozen integer matrix, as something that can be trained.

The weights are (levels + change) * scales; scales, zeros and old levels stay as they are. Rounding
passes gradients straight through. Each move ends as a matrix of whole levels.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from solomonic.compress.delta.rules import (
    FIXED_ZEROS,
    HashRule,
    LowRankRule,
    Rule,
    movable,
    moved,
    places,
)
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.quantise import spread
from solomonic.core import ConfigError

_LARGEST_NUMBER = 127  # of a rule, an int8


class Move(nn.Module):
    """A trainable change of `matrix`; subclasses say which (`change`), and how it ends."""

    levels: Tensor
    steps: Tensor
    free: Tensor

    def __init__(self, matrix: QuantisedMatrix) -> None:
        super().__init__()
        if matrix.codebook is not None:
            raise ConfigError(
                "levels of a codebook are no numbers that could move; train updates of models with "
                "uniform levels."
            )
        self.matrix = matrix
        self.register_buffer("levels", torch.from_numpy(matrix.levels.astype(np.float32)))
        scales = torch.from_numpy(np.asarray(matrix.scales, np.float32))
        self.register_buffer("steps", spread(scales, matrix.levels.shape[1]))
        self.register_buffer("free", torch.from_numpy(movable(matrix)))

    def change(self) -> Tensor:
        """(N, K) by how many levels each weight moves; zero where it may not."""
        raise NotImplementedError

    def finish(self) -> tuple[QuantisedMatrix, Rule | None]:
        """The matrix as it will be, and the rule that makes it, where there is one."""
        raise NotImplementedError

    def weight(self) -> Tensor:
        """(N, K) float32, with gradients."""
        return self.within(self.levels + self.change()) * self.steps

    def within(self, levels: Tensor) -> Tensor:
        """Levels that the matrix may have: within its bits, and not zero where zeros are fixed."""
        most = self.matrix.largest
        found = levels.clamp(-most, most)
        if self.matrix.pattern in FIXED_ZEROS:
            found = torch.where(found == 0, self.levels, found)
        return found


class MaskMove(Move):
    """Few levels move: those that training moves most."""

    kept: Tensor

    def __init__(self, matrix: QuantisedMatrix) -> None:
        super().__init__(matrix)
        self.delta = nn.Parameter(torch.zeros_like(self.levels))
        self.register_buffer("kept", self.free.clone())
        self.whole = False
        """Until this is set levels move by fractions."""

    @torch.no_grad()
    def begin(self, weight: Tensor) -> None:
        """Move to these weights (N, K)."""
        self.delta.copy_((weight / self.steps - self.levels) * self.free)

    def score(self) -> Tensor:
        """(N, K) how far training moved each weight."""
        return self.delta.detach().abs() * self.free

    def choose(self, threshold: float) -> None:
        """Keep the changes above `threshold` and no other."""
        self.kept = self.score() > threshold

    def change(self) -> Tensor:
        wanted = self.delta * self.free
        change = self._whole() if self.whole else wanted * self.kept
        # What is not kept has gradients too, so that it can be chosen later.
        return wanted + (change - wanted).detach()

    def finish(self) -> tuple[QuantisedMatrix, Rule | None]:
        levels = self.within(self.levels + self._whole())
        return dataclasses.replace(self.matrix, levels=levels.cpu().to(torch.int8).numpy()), None

    def _whole(self) -> Tensor:
        return self.delta.detach().round() * self.kept


class RuleMove(Move):
    """A move by few numbers, rounded as the rule on the device does."""

    shift = 0

    def rule(self) -> Rule:
        """The numbers as they are sent."""
        raise NotImplementedError

    def coarser(self) -> None:
        """Send the numbers with a bit less."""
        self.limit = max(self.limit // 2, 1)

    def __init__(self, matrix: QuantisedMatrix) -> None:
        super().__init__(matrix)
        self.limit = _LARGEST_NUMBER

    def rounded(self, change: Tensor) -> Tensor:
        """Whole levels, with the gradient of the fractions."""
        whole = (change + 0.5).floor()
        return (change + (whole - change).detach()) * self.free

    def finish(self) -> tuple[QuantisedMatrix, Rule | None]:
        rule = self.rule()
        return moved(self.matrix, rule), rule


class HashMove(RuleMove):
    """`size` numbers; which one moves a weight, and with which sign, is hashed from its place."""

    buckets: Tensor
    signs: Tensor

    def __init__(self, matrix: QuantisedMatrix, size: int, seed: int = 0) -> None:
        super().__init__(matrix)
        self.seed = seed
        buckets, signs = places(matrix.levels.shape, size, seed)
        self.register_buffer("buckets", torch.from_numpy(buckets))
        self.register_buffer("signs", torch.from_numpy(signs).float())
        self.numbers = nn.Parameter(torch.zeros(size))

    def change(self) -> Tensor:
        return self.rounded(self.numbers[self.buckets] * self.signs)

    def rule(self) -> HashRule:
        numbers, shift = _fixed(self.numbers.detach(), self.limit)
        return HashRule(numbers, self.seed, shift)


class LowRankMove(RuleMove):
    """left (N, R) @ right (K, R)^T."""

    def __init__(self, matrix: QuantisedMatrix, rank: int, generator: torch.Generator) -> None:
        super().__init__(matrix)
        outputs, inputs = matrix.levels.shape
        self.left = nn.Parameter(torch.zeros(outputs, rank))
        self.right = nn.Parameter(torch.randn(inputs, rank, generator=generator))

    def change(self) -> Tensor:
        return self.rounded(self.left @ self.right.T)

    def rule(self) -> LowRankRule:
        left, shift_left = _fixed(self.left.detach(), self.limit)
        right, shift_right = _fixed(self.right.detach(), self.limit)
        return LowRankRule(left, right, max(shift_left + shift_right, 0))


def _fixed(values: Tensor, limit: int) -> tuple[np.ndarray, int]:
    """(int8 numbers up to `limit`, shift): values are about numbers * 2^-shift."""
    most = float(values.abs().max())
    shift = int(np.clip(np.floor(np.log2(limit / most)), 0, 12)) if most > 0 else 0
    numbers = (values * 2.0**shift).round().clamp(-limit, limit)
    return numbers.cpu().to(torch.int8).numpy(), shift
