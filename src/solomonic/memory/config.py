"""Settings of a memory."""

import dataclasses
from typing import Any

from solomonic.core import Config
from solomonic.core.config import require

METRICS = ("cosine", "dot", "l2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryConfig(Config):
    """How a memory searches, forgets and waits.

    Attributes:
        metric: how alike two vectors are: "cosine" in [-1, 1], "dot", or "l2" (minus the squared
            distance). Fixed when the memory is made.
        forgetting: name of a change detector ("none", or one of `solomonic.memory.forgetting`), or
            its configuration.
        weight_scale: how much the logarithm of a weight counts beside the similarity.
        exact_limit: items up to which vectors are compared one by one; above, by inverted lists.
        probes: share of the lists that a query visits; more find more and take longer.
        candidates: most candidates that one query considers when weights or filters ask for more.
        timeout: seconds to wait for another process's lock.
    """

    metric: str = "cosine"
    forgetting: Any = "none"
    weight_scale: float = 1.0
    exact_limit: int = 100_000
    probes: float = 0.4
    candidates: int = 4096
    timeout: float = 5.0

    def __post_init__(self) -> None:
        require(
            self.metric in METRICS,
            f"metric is '{self.metric}'; choose one of {', '.join(METRICS)}.",
        )
        require(self.weight_scale >= 0, "weight_scale must not be negative; 0 ignores weights.")
        require(self.exact_limit >= 0, "exact_limit is a number of items, 0 or more.")
        require(0 < self.probes <= 1, "probes is the share of lists visited: above 0, at most 1.")
        require(self.candidates >= 1, "candidates must be at least 1.")
        require(self.timeout >= 0, "timeout is in seconds, 0 or more.")
