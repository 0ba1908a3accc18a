"""The knobs of the end-pointers, in milliseconds and plain words."""

import dataclasses

from solomonic.core import Config, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndpointConfig(Config):
    """When an utterance starts, is probably over, and is over.

    A pause is time in which neither a new label came nor speech was heard. The model's end-pointer
    needs a trained end head; the rules always stand behind it, and alone where there is no head.
    The rules' defaults are those of sherpa-onnx (2.4 s, 1.2 s, 20 s).

    Attributes:
        start_ms: speech that must be heard without a break before an utterance starts.
        speech_threshold: voice activity from which on a frame counts as speech.
        speculate: False leaves out the speculative end-pointer; finals stay the same.
        speculative_ms: shortest pause after which the model may call the end probable.
        speculative_threshold: probability of the end that this takes.
        final_ms: shortest pause after which the model may end the utterance; None: 200 ms more
            than `speculative_ms`.
        final_threshold: probability of the end that this takes; not below the speculative one.
        silence_ms: rule: a pause that ends an utterance in which something was recognised. The
            speculation by rule comes `final_ms - speculative_ms` earlier.
        nothing_ms: rule: silence that ends an utterance in which nothing was recognised.
        label_silence_ms: rule: time without a new label that ends an utterance even though the
            voice detector still hears something (a television, say).
        silence_limit_ms: rule: time without speech that ends an utterance even though labels keep
            coming (a recogniser that babbles in noise).
        utterance_limit_ms: longest utterance.
        speculations_limit: most speculations in one utterance; bounds the wasted work.

    Raises:
        ConfigError: a value is out of range, or the final end-pointer could come before the
            speculative one.
    """

    start_ms: float = 100.0
    speech_threshold: float = 0.5
    speculate: bool = True
    speculative_ms: float = 200.0
    speculative_threshold: float = 0.5
    final_ms: float | None = None
    final_threshold: float = 0.7
    silence_ms: float = 1200.0
    nothing_ms: float = 2400.0
    label_silence_ms: float = 2400.0
    silence_limit_ms: float = 5000.0
    utterance_limit_ms: float = 20_000.0
    speculations_limit: int = 8

    def __post_init__(self) -> None:
        for name in (
            "silence_ms",
            "nothing_ms",
            "label_silence_ms",
            "silence_limit_ms",
            "utterance_limit_ms",
        ):
            value = getattr(self, name)
            require(value > 0, f"{name} must be above 0, not {value}.")
        for name in ("start_ms", "speculative_ms"):
            value = getattr(self, name)
            require(value >= 0, f"{name} must not be negative, but is {value}.")
        require(
            0 < self.speech_threshold <= 1,
            f"speech_threshold must be in (0, 1], not {self.speech_threshold}.",
        )
        require(
            0 <= self.speculative_threshold <= self.final_threshold,
            f"0 <= speculative_threshold <= final_threshold must hold, not "
            f"{self.speculative_threshold} and {self.final_threshold}; the final end-pointer would "
            "come before the speculative one.",
        )
        require(
            self.gap_ms >= 0,
            f"final_ms ({self.final_ms}) must not be below speculative_ms "
            f"({self.speculative_ms}); leave it out for 200 ms more.",
        )
        require(
            self.silence_ms <= self.label_silence_ms,
            f"label_silence_ms ({self.label_silence_ms}) must not be below silence_ms "
            f"({self.silence_ms}).",
        )
        require(
            self.speculations_limit >= 0,
            f"speculations_limit must not be negative, but is {self.speculations_limit}.",
        )

    @property
    def final_pause_ms(self) -> float:
        """`final_ms`, or what it is by default."""
        return self.speculative_ms + 200.0 if self.final_ms is None else self.final_ms

    @property
    def gap_ms(self) -> float:
        """How much earlier the speculative end-pointer may fire than the final one."""
        return self.final_pause_ms - self.speculative_ms

    @property
    def speculative_silence_ms(self) -> float:
        """The pause after which the end is probable by rule."""
        return max(self.silence_ms - self.gap_ms, 0.0)
