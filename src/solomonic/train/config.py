"""How to train: steps, learning rates, what is written when."""

import dataclasses

from solomonic.core import Config, require

PRECISIONS = ("auto", "float32", "bfloat16")
# What may differ between a checkpoint and the run that resumes it; all else would change the curve.
MAY_CHANGE = ("steps", "max_seconds", "eval_every", "save_every", "log_every", "keep")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Config):
    """Settings of a training run. A step is one update of the weights.

    Raises:
        ConfigError: a value out of range.
    """

    steps: int = 1000
    """Updates in all, those before a resume included."""
    batch_size: int = 16
    """Rows of a batch. Whoever builds the task reads it; the loop sees only batches."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one update."""
    processes: int = 1
    """Processes that share the batches of an update, one thread each (CPU only): faster than as
    many threads where layers are small. `accumulate` must be a multiple of it."""
    lr: float = 2e-3
    """Peak learning rate of attention, MLPs and embeddings."""
    ssm_lr: float | None = None
    """Peak learning rate of the state-space parts; None: as `lr`."""
    warmup: int | None = None
    """Steps of linear warm-up; None: a tenth of the steps, at most 200."""
    min_lr_ratio: float = 0.1
    """Where the cosine ends, as a share of the peak."""
    weight_decay: float = 0.1
    """AdamW's decay of matrices; norms, biases and the like are never decayed."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    grad_clip: float = 1.0
    """Largest norm of the whole gradient; 0: no clipping."""
    precision: str = "auto"
    """'float32', 'bfloat16' (autocast), or 'auto': bfloat16 where the hardware multiplies it."""
    eval_every: int = 200
    """Steps between evaluations; 0: only at the end."""
    save_every: int = 200
    """Steps between checkpoints; 0: only at the end."""
    log_every: int = 10
    """Steps between records in the log."""
    keep: int = 2
    """Checkpoints kept (the newest); the best model is kept besides."""
    max_seconds: float | None = None
    """Wall-clock budget. The schedule then runs by whichever of steps and seconds is further along,
    so such a run is not reproducible bit for bit."""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON has only lists
        for name in ("steps", "batch_size", "accumulate", "processes", "log_every", "keep"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        require(
            self.accumulate % self.processes == 0,
            f"accumulate = {self.accumulate} must be a multiple of processes = {self.processes}, "
            f"so that each has as much to do; try accumulate = {self.processes}.",
        )
        for name in ("weight_decay", "grad_clip", "eval_every", "save_every", "seed"):
            value = getattr(self, name)
            require(value >= 0, f"{name} = {value} must not be negative.")
        for name in ("lr", "ssm_lr", "eps", "max_seconds"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{name} = {value} must be above 0.")
        require(
            0 <= self.min_lr_ratio <= 1,
            f"min_lr_ratio = {self.min_lr_ratio} must lie between 0 and 1.",
        )
        require(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"betas = {self.betas} must be two numbers from 0 up to, not including, 1.",
        )
        require(
            self.precision in PRECISIONS,
            f"precision = '{self.precision}' is unknown; use one of {', '.join(PRECISIONS)}.",
        )
        require(
            self.warmup is None or 0 <= self.warmup <= self.steps,
            f"warmup = {self.warmup} must lie between 0 and steps = {self.steps}.",
        )

    @property
    def warmup_steps(self) -> int:
        """Steps of warm-up, resolved."""
        return min(200, self.steps // 10) if self.warmup is None else self.warmup
