"""What is done to a model that is made small: settings of quantisation, sparsity, and when."""

import dataclasses
from fnmatch import fnmatch

from torch import Tensor, nn

from solomonic.compress.masks import check
from solomonic.compress.quantise import Scheme
from solomonic.core import Config, ConfigError, require

METHODS = ("periodic", "straight-through", "none")
WAYS = ("gradual", "alternating")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompressConfig(Config):
    """Settings of a compression. Spans are shares of the run: (0.0, 0.4) is its first 40%.

    Raises:
        ConfigError: a value out of range, or settings that exclude each other.
    """

    bits: int = 4
    grouped: bool = False
    """A scale for 64 inputs of an output; the sparse kernels read a scale a row."""
    codebook: bool = False
    clip: str = "squares"
    percentile: float = 99.9
    sparsity: float = 0.0
    pattern: str = "dense"
    """dense, unstructured, 2:4 or vec16 (16 consecutive outputs are zero together at an input)."""
    method: str = "periodic"
    """How training learns of the levels: "periodic" pulls weights to them (ACosR, MRACos),
    "straight-through" computes with rounded weights, "none" rounds at the end."""
    strength: float = 3e-4
    """Of the periodic regulariser: the largest pull on one weight, in nats a unit of weight."""
    compress_every: int = 0
    """Batches between two snaps of all weights to their centroids (MRACos's hard compressor);
    0: never."""
    way: str = "gradual"
    """"gradual" pruning, or "alternating": shrink what lies below the threshold, cut, repeat."""
    cycles: int = 6
    """Of "alternating"."""
    steps: int = 2000
    """Batches of the whole run."""
    max_seconds: float | None = None
    """Wall clock of the run; it then goes by whichever of steps and seconds is further along."""
    sparsify: tuple[float, float] = (0.0, 0.4)
    quantise: tuple[float, float] = (0.4, 0.8)
    """Masks and scales are fixed at its begin; the periodic pull grows over it."""
    update_every: int = 50
    """Batches between two choices of what is pruned."""
    sensitive: tuple[str, ...] = (
        "*joint.weight", "*embed.weight", "*embedding.weight", "*head.weight",
    )  # fmt: skip
    """Matrices that stay dense, in `sensitive_bits`: shell patterns of their names. What reads
    features or tokens and what gives the output suffer most."""
    sensitive_bits: int = 8
    leave: tuple[str, ...] = ("ctc.*", "simple_*")
    """Matrices that are left alone."""
    smallest: int = 24
    """Matrices with a side below this are left alone: convolutions and the like."""
    activations: bool = True
    """Compute with inputs in 8 bits while training, as the device will."""

    def __post_init__(self) -> None:
        for name in ("sparsify", "quantise", "sensitive", "leave"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has only lists
        check(self.pattern, self.sparsity)
        for name, known in (("method", METHODS), ("way", WAYS)):
            value = getattr(self, name)
            require(
                value in known, f"{name} = '{value}' is unknown; use one of {', '.join(known)}."
            )
        for name in ("steps", "update_every", "smallest", "cycles"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        require(self.strength >= 0, "strength must not be negative.")
        require(self.compress_every >= 0, "compress_every must not be negative.")
        require(self.max_seconds is None or self.max_seconds > 0, "max_seconds must be above 0.")
        for name in ("sparsify", "quantise"):
            span = getattr(self, name)
            require(
                len(span) == 2 and 0 <= span[0] <= span[1] <= 1,
                f"{name} = {span} must be two shares of the run, in order.",
            )
        require(
            self.sparsity == 0 or self.sparsify[1] <= self.quantise[0],
            f"sparsify ends at {self.sparsify[1]} and quantise begins at {self.quantise[0]}; the "
            "zeros must be settled before the levels.",
        )
        if self.pattern in ("2:4", "vec16") and self.grouped:
            raise ConfigError(
                f"the kernels of {self.pattern} read a scale a row; leave grouped out."
            )
        _ = self.scheme, self.sensitive_scheme

    @property
    def scheme(self) -> Scheme:
        """Of the ordinary matrices."""
        return Scheme(
            bits=self.bits, grouped=self.grouped, codebook=self.codebook, clip=self.clip,
            percentile=self.percentile,
        )  # fmt: skip

    @property
    def sensitive_scheme(self) -> Scheme:
        """Of those that suffer most: never fewer bits than the others have."""
        return Scheme(bits=max(self.sensitive_bits, self.bits), clip=self.clip)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of one matrix."""

    scheme: Scheme
    pattern: str
    sparsity: float


def select(module: nn.Module, config: CompressConfig) -> dict[str, tuple[nn.Parameter, Plan]]:
    """The matrices of a module that are compressed, by name, and how each is. Tied ones once.

    Raises:
        ConfigError: there are none.
    """
    ordinary = Plan(config.scheme, config.pattern, config.sparsity)
    sensitive = Plan(config.sensitive_scheme, "dense", 0.0)
    found = {
        name: (parameter, sensitive if matches(name, config.sensitive) else ordinary)
        for name, parameter in module.named_parameters()
        if is_matrix(parameter, config.smallest) and not matches(name, config.leave)
    }
    if not found:
        raise ConfigError("the model has no matrix to compress; see smallest and leave.")
    return found


def is_matrix(tensor: Tensor, smallest: int) -> bool:
    """Whether it has two dimensions, neither below `smallest`."""
    return tensor.dim() == 2 and min(tensor.shape) >= smallest


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether any of the shell patterns fits the name."""
    return any(fnmatch(name, pattern) for pattern in patterns)
