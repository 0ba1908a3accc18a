"""The one configuration of a transducer: features, encoder, prediction network, joint network."""

import dataclasses
from typing import Any

from solomonic.core import Config, ConfigError, require
from solomonic.layers import ModelConfig

PREDICTORS = ("lstm", "stateless")
# Settings of the encoder's layers that go to them as they are.
_LAYER_FIELDS = (
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "window_size",
    "refresh_period",
    "eidetic_slots",
    "fading_slots",
    "ssm_state_size",
    "ssm_head_dim",
    "ssm_expand",
    "position",
)
# Settings that are only recorded where there is a small branch.
_SMALL_FIELDS = (
    "small_front", "small_pattern", "small_size", "small_intermediate_size", "arbitrator_size",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransducerConfig(Config):
    """Everything that defines a transducer's function (speech-components.md, section 2).

    The encoder is two stacks of the library's layers: `front` reads `stack` feature frames at a
    time, then `reduction` of its outputs are joined into one and read by `pattern`. Both are
    strings of layer letters: "LLLLL" is the article's LSTM encoder, "MWMW" state-space layers and
    windows in turn, "BB" B'MOJO layers; an empty `front` reduces at once. With a `small_pattern` it
    becomes the large branch of a branching encoder (speech.branching).

    Raises:
        ConfigError: a value out of range or two values that do not fit together.
    """

    vocab_size: int = 257
    """Word pieces and the blank, which is 0."""
    bins: int = 80
    shift_ms: float = 10.0
    """Milliseconds from one feature frame to the next."""
    stack: int = 3
    """Feature frames joined before the first layer."""
    reduction: int = 2
    """Outputs of `front` joined before `pattern`."""
    front: str = "MW"
    pattern: str = "MWMWMW"
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int | None = 448
    window_size: int = 32
    refresh_period: int | None = None
    eidetic_slots: int = 16
    fading_slots: int = 1
    ssm_state_size: int = 32
    ssm_head_dim: int = 32
    ssm_expand: int = 1
    position: str = "rope"
    predictor: str = "lstm"
    predictor_size: int = 256
    predictor_layers: int = 1
    predictor_context: int = 2
    """Labels that a stateless prediction network sees."""
    joint_size: int = 256
    dropout: float = 0.1
    """After the embedding of labels, the joined frames and the encoder (training only)."""
    small_pattern: str = ""
    """Layers of a small branch that hears every step, such as "LL"; empty: there is one encoder."""
    small_front: str = ""
    small_size: int = 64
    """Width of the small branch."""
    small_intermediate_size: int | None = 0
    arbitrator_size: int = 32
    """Hidden units of the network that chooses the branch."""

    def __post_init__(self) -> None:
        for name in (
            "bins", "stack", "reduction", "hidden_size", "predictor_size", "predictor_layers",
            "predictor_context", "joint_size",
        ):  # fmt: skip
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        require(self.vocab_size >= 2, "vocab_size must be at least 2: the blank and one piece.")
        require(self.shift_ms > 0, f"shift_ms = {self.shift_ms} must be above 0.")
        require(0 <= self.dropout < 1, f"dropout = {self.dropout} must lie in [0, 1).")
        require(
            self.predictor in PREDICTORS,
            f"predictor = '{self.predictor}' is unknown; use one of {', '.join(PREDICTORS)}.",
        )
        require(bool(self.pattern), "pattern is empty; give one letter a layer, such as 'MWMW'.")
        if "T" in self.front + self.pattern:
            raise ConfigError(
                "full attention ('T') would make a stream's state grow without end; use a window "
                "('W') or another letter."
            )
        self.layers(self.pattern)
        if self.front:
            self.layers(self.front)
        if self.small_pattern:
            for name in ("small_size", "arbitrator_size"):
                require(getattr(self, name) >= 1, f"{name} must be at least 1.")
            self.branch("small")

    def to_json(self) -> dict[str, Any]:
        """As of every `Config`, without the settings of a small branch where there is none: files
        of plain models stay what they were."""
        record = super().to_json()
        if not self.small_pattern:
            for name in _SMALL_FIELDS:
                del record[name]
        return record

    @property
    def frames_per_step(self) -> int:
        """Feature frames that one encoder frame stands for."""
        return self.stack * self.reduction

    @property
    def frame_seconds(self) -> float:
        """Seconds of audio that one encoder frame stands for."""
        return self.frames_per_step * self.shift_ms / 1000

    @classmethod
    def one_encoder(cls) -> dict[str, Any]:
        """The settings that `to_json` leaves out where there is no small branch."""
        return {f.name: f.default for f in dataclasses.fields(cls) if f.name in _SMALL_FIELDS}

    def branch(self, name: str) -> "TransducerConfig":
        """This transducer with the "large" or the "small" branch as its only encoder."""
        plain = self.replace(small_pattern="")
        if name == "large":
            return plain
        assert name == "small"
        return plain.replace(
            front=self.small_front,
            pattern=self.small_pattern,
            hidden_size=self.small_size,
            intermediate_size=self.small_intermediate_size,
        )

    def layers(self, pattern: str) -> ModelConfig:
        """The configuration of one of the encoder's stacks."""
        given = {name: getattr(self, name) for name in _LAYER_FIELDS}
        return ModelConfig(vocab_size=1, pattern=pattern, **given)
