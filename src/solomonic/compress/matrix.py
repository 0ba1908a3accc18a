"""A quantised matrix: what training gives, what the device file stores and what kernels multiply.

w[n, k] = levels[n, k] * scale(n, k), or codebook[levels[n, k]] * scale(n, k). Level 0 is zero, so
that zeros need no bits of their own and nobody has to multiply by them.
"""

import dataclasses

import numpy as np

from solomonic.core import ConfigError, ShapeError

GROUP = 64
"""Inputs that share a scale where a matrix has group scales."""
VECTOR = 16
"""Outputs that share each zero in the pattern "vec16"."""
PATTERNS = ("dense", "2:4", "vec16", "unstructured")
LARGEST = {8: 127, 6: 31, 5: 15, 4: 7}
"""Bits of a level to its largest magnitude; the grid is symmetric and contains zero."""


@dataclasses.dataclass(frozen=True, eq=False)
class QuantisedMatrix:
    """Outputs n, inputs k.

    Attributes:
        levels: (N, K) int8, |level| <= LARGEST[bits]; with a codebook its indices, from 0.
        scales: (N,) float32, one an output; or (N, ceil(K / GROUP)) float32, one for GROUP inputs
            of an output, each exactly a bfloat16.
        bits: 8, 6, 5 or 4: of a level.
        pattern: what is known of the zeros. "2:4": of every four inputs of an output at most two
            are not zero. "vec16": outputs 16 i to 16 i + 15 are zero together at an input.
            "unstructured": zeros anywhere, which save bytes and no time.
        codebook: (32,) int8, ascending, with a zero, for bits = 5; None: levels are uniform.

    Raises:
        ConfigError: bits or pattern that there is not, or a pattern that the levels break.
        ShapeError: sizes that do not fit.
    """

    levels: np.ndarray
    scales: np.ndarray
    bits: int
    pattern: str = "dense"
    codebook: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.bits not in LARGEST:
            raise ConfigError(f"bits = {self.bits} is unknown; use 8, 6, 5 or 4.")
        if self.pattern not in PATTERNS:
            raise ConfigError(
                f"pattern = '{self.pattern}' is unknown; use one of {', '.join(PATTERNS)}."
            )
        if self.levels.ndim != 2 or self.levels.dtype != np.int8:
            raise ShapeError("levels must be an int8 array (outputs, inputs).")
        outputs, inputs = self.levels.shape
        if self.scales.shape not in ((outputs,), (outputs, -(-inputs // GROUP))):
            raise ShapeError(
                f"scales of shape {self.scales.shape} do not fit {outputs} outputs and {inputs} "
                f"inputs; give one an output, or one for {GROUP} inputs of an output."
            )
        if self.codebook is None:
            if self.levels.size and int(np.abs(self.levels.astype(np.int16)).max()) > self.largest:
                raise ConfigError(
                    f"a level is larger than {self.largest}, the most in {self.bits} bits."
                )
        elif self.bits != 5 or self.codebook.shape != (32,) or self.codebook.dtype != np.int8:
            raise ConfigError("a codebook is an int8 array (32,) and goes with bits = 5.")
        elif self.levels.size and not 0 <= int(self.levels.min()) <= int(self.levels.max()) < 32:
            raise ConfigError("a level is no index of the codebook (0 to 31).")
        if not fits(self.values != 0, self.pattern):
            raise ConfigError(f"the zeros of the levels do not have the pattern '{self.pattern}'.")

    @property
    def largest(self) -> int:
        """The largest magnitude of a level."""
        return LARGEST[self.bits]

    @property
    def grouped(self) -> bool:
        """Whether GROUP inputs share a scale instead of a whole row."""
        return self.scales.ndim == 2

    @property
    def values(self) -> np.ndarray:
        """(N, K) int8: what is multiplied, with the codebook looked up."""
        return self.levels if self.codebook is None else self.codebook[self.levels]

    def dequantised(self) -> np.ndarray:
        """(N, K) float32 weights."""
        scales = self.scales
        if self.grouped:
            scales = np.repeat(scales, GROUP, axis=1)[:, : self.levels.shape[1]]
        else:
            scales = scales[:, None]
        return self.values.astype(np.float32) * scales.astype(np.float32)


def fits(kept: np.ndarray, pattern: str) -> bool:
    """Whether `kept` (N, K) bool, true where a weight is not zero, has the pattern."""
    outputs, inputs = kept.shape
    if pattern == "2:4":
        whole = np.zeros((outputs, -(-inputs // 4) * 4), bool)
        whole[:, :inputs] = kept
        return bool((whole.reshape(outputs, whole.shape[1] // 4, 4).sum(axis=2) <= 2).all())
    return True  # any matrix is vectors: one is stored if any of its weights is not zero


def by_vectors(values: np.ndarray) -> np.ndarray:
    """(N, K) as (ceil(N / 16), 16, K): the vectors of 16 outputs by one input, zeros behind N."""
    outputs, inputs = values.shape
    groups = -(-outputs // VECTOR)
    whole = np.zeros((groups * VECTOR, inputs), values.dtype)
    whole[:outputs] = values
    return whole.reshape(groups, VECTOR, inputs)
