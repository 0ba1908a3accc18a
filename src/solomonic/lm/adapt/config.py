"""What `adapt` may do and how far: one record, whose defaults were chosen on a development text."""

import dataclasses
from typing import Any

from solomonic.core import Config, require, require_least, require_one_of

METHODS = ("examples", "neighbours", "dynamic")
"""In the order in which they are done."""

PARAMETERS = ("all", "norms", "last", "low_rank")
"""Which parameters learn: every one; gains, biases and decays; the last block, norm and head; or
low-rank changes of the matrices inside the blocks."""

STORED = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig(Config):
    """How a model is adapted.

    methods: names of `METHODS`; None is "dynamic", and "neighbours" before it where a memory is
        given.
    parameters: one of `PARAMETERS`; rank: of "low_rank".
    segment: tokens scored, then learned from, in one step (50 to 64 in the literature).
    rate, decay, floor: a step is -rate * g / (rms + floor * mean rms) + decay * (original - now),
        with the rms of the gradients' elements (dynamic.py).
    neighbours: stored chunks to learn from; neighbour_rate: their `rate`; neighbour_tokens: of
        each at most so many; query_tokens: the last so many of the text ask for them.
    examples: stored chunks to read before the text; example_tokens: all together at most.
    stored: type of the numbers in the `Delta` that comes out.

    Raises:
        ConfigError: a value out of range.
    """

    methods: tuple[str, ...] | None = None
    parameters: str = "all"
    rank: int = 4
    segment: int = 64
    rate: float = 3e-4
    decay: float = 0.0
    floor: float = 0.1
    neighbours: int = 4
    neighbour_rate: float = 3e-4
    neighbour_tokens: int = 256
    query_tokens: int = 128
    examples: int = 2
    example_tokens: int = 512
    stored: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.methods or ():
            require_one_of("method", name, METHODS)
        require_one_of("parameters", self.parameters, PARAMETERS)
        require_one_of("stored", self.stored, STORED)
        require_least(
            self, 1, "rank", "segment", "neighbour_tokens", "query_tokens", "example_tokens"
        )
        require_least(self, 0, "rate", "decay", "floor", "neighbours", "neighbour_rate", "examples")
        require(self.decay <= 1, f"decay = {self.decay} must be at most 1, which undoes all.")

    @classmethod
    def from_json(cls, record: Any) -> "AdaptConfig":
        """Rebuild from `to_json`'s form, in which `methods` is a list."""
        methods = record.get("methods")
        return super().from_json(dict(record) | {"methods": methods and tuple(methods)})
