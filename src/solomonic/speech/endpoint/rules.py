"""End-pointing by rules: silence and length, each with a name that says in words what fired.

The three rules of sherpa-onnx and Kaldi (silence with nothing recognised, silence after speech,
length), and two that keep a deceived voice detector or a babbling search from going on for ever.
"""

import dataclasses

from solomonic.speech.endpoint.config import EndpointConfig


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """How long nothing has happened (ms), measured at one frame.

    Attributes:
        label: since the last label; since the start of the utterance when there is none.
        silence: since speech was last heard; None without a voice detector.
        length: since the utterance started.
    """

    label: float
    silence: float | None
    length: float

    @property
    def both(self) -> float:
        """Since there was either a label or speech."""
        return self.label if self.silence is None else min(self.label, self.silence)


def final_rule(config: EndpointConfig, pause: Pause, n_tokens: int) -> str | None:
    """The rule that ends the utterance at this frame, in words, or None."""
    if n_tokens > 0 and pause.both >= config.silence_ms:
        return f"rule: {seconds(config.silence_ms)} of silence after speech"
    if n_tokens > 0 and pause.label >= config.label_silence_ms:
        return f"rule: {seconds(config.label_silence_ms)} without a new word"
    if n_tokens == 0 and pause.both >= config.nothing_ms:
        return f"rule: {seconds(config.nothing_ms)} of silence, nothing recognised"
    if pause.silence is not None and pause.silence >= config.silence_limit_ms:
        return f"rule: no speech heard for {seconds(config.silence_limit_ms)}"
    if pause.length >= config.utterance_limit_ms:
        return f"{seconds(config.utterance_limit_ms)} limit"
    return None


def speculative_rule(config: EndpointConfig, pause: Pause, n_tokens: int) -> str | None:
    """The rule by which the utterance is probably over at this frame, in words, or None."""
    if n_tokens > 0 and pause.both >= config.speculative_silence_ms:
        return f"rule: {seconds(config.speculative_silence_ms)} of silence after speech"
    early = max(config.label_silence_ms - config.gap_ms, 0.0)
    if n_tokens > 0 and pause.label >= early:
        return f"rule: {seconds(early)} without a new word"
    return None


def seconds(ms: float) -> str:
    """Milliseconds as people say them: 1200 is "1.2 s"."""
    return f"{ms / 1000:g} s"
