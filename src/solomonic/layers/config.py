"""The one configuration of a model: widths, memories and the pattern of its layers.

Field names follow Hugging Face Transformers so that `BMojoConfig` and this class are one record.
"""

import dataclasses

from solomonic.core import Config, ConfigError, require

LAYER_KINDS = {
    "T": "full attention",
    "W": "sliding-window attention",
    "M": "selective state-space model (Mamba-2/SSD)",
    "D": "gated delta rule",
    "L": "LSTM",
    "F": "B'MOJO-F: window and fading memory",
    "B": "B'MOJO: window, fading and eidetic memory",
}
LATER_SETTINGS = {"ssm_state_rank": None}
"""Settings that came after the first models, and what models without them mean: where a setting is
that, files and fingerprints leave it out, so that an old model stays what it was."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Everything that defines a model's function (bmojo.md; arXiv 2407.06324, section 3).

    `None` means "derived": `num_hidden_layers` from the pattern, `num_key_value_heads` = heads,
    `head_dim` = width / heads, `intermediate_size` = 8/3 of the width rounded up to 32 (0: no
    MLP), `refresh_period` = window (1 when the window is 0), `fading_lag` = window.

    `ssm_state_rank` is what balanced truncation has left of `ssm_state_size` (`lm.truncate`): the
    state keeps so many directions, and two matrices lead to them.

    `fading_skip` adds the fading memory's output to the layer's own beside the softmax: our one
    addition to the paper's layer, off by default (docs/log.md says what it is worth).

    Raises:
        ConfigError: a value out of range or two values that do not fit together.
    """

    vocab_size: int = 257
    hidden_size: int = 256
    num_hidden_layers: int | None = None
    num_attention_heads: int = 4
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    pattern: str = "BBBB"
    window_size: int = 64
    refresh_period: int | None = None
    eidetic_slots: int = 64
    fading_slots: int = 1
    fading_lag: int | None = None
    fading_mode: str = "band"
    fading_skip: bool = False
    predictor_taps: int = 4
    keep_duplicates: bool = False
    ssm_state_size: int = 32
    ssm_head_dim: int = 32
    ssm_state_rank: int | None = None
    ssm_expand: int = 1
    ssm_conv_size: int = 4
    transition: str = "ssd"
    chunk_size: int = 64
    short_conv_size: int = 4
    short_conv_layers: str = "BF"
    position: str = "none"
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self._check_pattern()
        self._check_widths()
        self._check_rank()
        self._check_memories()

    @property
    def layers(self) -> str:
        """The pattern repeated to the number of layers, one letter a layer."""
        count = self.num_hidden_layers or len(self.pattern)
        return self.pattern * (count // len(self.pattern))

    @property
    def key_value_heads(self) -> int:
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def mlp_size(self) -> int:
        if self.intermediate_size is not None:
            return self.intermediate_size
        return -(-8 * self.hidden_size // 3 // 32) * 32

    @property
    def refresh(self) -> int:
        return self.refresh_period or max(self.window_size, 1)

    @property
    def lag(self) -> int:
        return self.window_size if self.fading_lag is None else self.fading_lag

    def _check_pattern(self) -> None:
        require(len(self.pattern) > 0, "pattern is empty; give one letter a layer, such as 'BBBB'.")
        for letter in self.pattern + self.short_conv_layers:
            if letter not in LAYER_KINDS:
                known = ", ".join(f"{key} ({text})" for key, text in LAYER_KINDS.items())
                raise ConfigError(f"pattern letter '{letter}' is unknown; use {known}.")
        count = self.num_hidden_layers
        require(
            count is None or (count > 0 and count % len(self.pattern) == 0),
            f"num_hidden_layers = {count} is not a multiple of the {len(self.pattern)} letters of "
            f"pattern '{self.pattern}'; change one of them.",
        )

    def _check_widths(self) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "num_attention_heads",
            "ssm_state_size",
            "ssm_head_dim",
            "ssm_expand",
            "ssm_conv_size",
            "chunk_size",
            "predictor_taps",
        ):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        for name in ("num_key_value_heads", "head_dim"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} = {value} must be at least 1.")
        require(
            self.head_dim is not None or self.hidden_size % self.num_attention_heads == 0,
            f"num_attention_heads = {self.num_attention_heads} does not divide hidden_size = "
            f"{self.hidden_size}; choose heads that divide the width or set head_dim.",
        )
        require(
            self.num_attention_heads % self.key_value_heads == 0,
            f"num_key_value_heads = {self.key_value_heads} does not divide num_attention_heads = "
            f"{self.num_attention_heads}; choose a divisor.",
        )
        inner = self.ssm_expand * self.hidden_size
        if set(self.pattern) & set("MDFB"):
            require(
                inner % self.ssm_head_dim == 0,
                f"ssm_head_dim = {self.ssm_head_dim} does not divide ssm_expand * hidden_size = "
                f"{inner}; choose a divisor.",
            )
        require(self.mlp_size >= 0, "intermediate_size must not be negative (0 means no MLP).")
        require(
            self.position in ("none", "rope"),
            f"position = '{self.position}' is unknown; use 'none' or 'rope'.",
        )
        require(
            self.position == "none" or self.head_size % 2 == 0,
            f"position = 'rope' needs an even head size, not {self.head_size}; change head_dim.",
        )
        require(
            self.transition in ("ssd", "delta"),
            f"transition = '{self.transition}' is unknown; use 'ssd' or 'delta'.",
        )

    def _check_rank(self) -> None:
        rank = self.ssm_state_rank
        require(
            rank is None or 1 <= rank <= self.ssm_state_size,
            f"ssm_state_rank = {rank} must be from 1 to ssm_state_size = {self.ssm_state_size}.",
        )
        require(
            rank is None or self.transition == "ssd",
            "ssm_state_rank needs transition = 'ssd'; the delta rule has no such form.",
        )

    def _check_memories(self) -> None:
        window, refresh = self.window_size, self.refresh_period
        for name in ("window_size", "eidetic_slots", "fading_slots", "short_conv_size"):
            require(
                getattr(self, name) >= 0, f"{name} = {getattr(self, name)} must not be negative."
            )
        require(refresh is None or refresh >= 1, f"refresh_period = {refresh} must be at least 1.")
        require(
            refresh is None or refresh <= max(window, 1),
            f"window_size = {window} is shorter than refresh_period = {refresh}; tokens would "
            "leave the window before they could be kept, so lower refresh_period or widen the "
            "window.",
        )
        require(self.lag >= 0, f"fading_lag = {self.lag} must not be negative.")
        require(
            self.fading_mode in ("band", "chunk"),
            f"fading_mode = '{self.fading_mode}' is unknown; use 'band' or 'chunk'.",
        )
        if set(self.pattern) & set("FB"):
            require(
                self.fading_slots >= 1,
                "fading_slots = 0 leaves the state-space model of a B'MOJO layer without gradient; "
                "set fading_slots to at least 1 or use pattern 'W' or 'T'.",
            )
        if "W" in self.pattern:
            require(
                window >= 1, "window_size = 0 leaves a 'W' layer nothing to see; set at least 1."
            )
