"""The two end-pointers as a state machine over observations: LISTEN, SPECULATED, final.

    waiting ---speech---> LISTEN ---probably over---> SPECULATED ---over---> final, then waiting
                            ^                             |
                            +---- the words changed ------+   "reset"
    LISTEN ---over--> final, then waiting

"Over" does not look at whether there was a speculation, so that finals are the same with and
without; and "over" by model or by silence implies "probably over", so that a speculation never
comes after its final. A speculation that turns out wrong is reset as soon as the words change,
not at the final: what listens can stop its work at once, and a second speculation can still hit.
"""

import dataclasses
import math
from collections.abc import Hashable
from typing import Literal

from solomonic.core import ConfigError
from solomonic.speech.endpoint.config import EndpointConfig
from solomonic.speech.endpoint.observation import Observation
from solomonic.speech.endpoint.rules import Pause, final_rule, speculative_rule

Decision = Literal["start", "speculative", "reset", "final"]
Phase = Literal["waiting", "listen", "speculated"]

RECENT_SECONDS = 1.0
"""How long after speech was heard a first label may start an utterance (labels come late)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EndpointState:
    """All that an end-pointer remembers of the frames so far.

    Attributes:
        run: ms of speech without a break.
        last_speech: time of the last frame with speech since the last final (s).
        began: where the speech of this utterance began (s).
        hypothesis: what was speculated on.
        speculations: how many there were in this utterance.
    """

    phase: Phase = "waiting"
    time: float = 0.0
    run: float = 0.0
    last_speech: float = -math.inf
    began: float = 0.0
    n_tokens: int = 0
    hypothesis: Hashable = None
    speculations: int = 0


class Endpointer:
    """Decides frame by frame; a function of the observations alone.

    Attributes:
        state: the whole memory, a value: take it to save a stream, set it to go back.
        reason: in words, which end-pointer made the last "speculative" or "final" decision.

    Args:
        frame_seconds: length of an encoder frame, `model.config.frame_seconds`.
    """

    def __init__(self, config: EndpointConfig, frame_seconds: float) -> None:
        if not frame_seconds > 0:
            raise ConfigError(f"frame_seconds must be above 0, not {frame_seconds}.")
        self.config = config
        self.frame_seconds = frame_seconds
        self.state = EndpointState()
        self.reason = ""

    @property
    def began(self) -> float:
        """Where the speech of the present utterance began (s of audio)."""
        return self.state.began

    def step(self, seen: Observation) -> Decision | None:
        """Take in the next frame.

        Returns:
            "start", "speculative", "reset", "final", or None when nothing is decided. After
            "final" the next utterance begins with "start"; nothing else can come between.
        """
        self.state = self._hear(seen)
        if self.state.phase == "waiting":
            return self._begin(seen)
        pause = self._pause(seen)
        if reason := self._over(seen, pause):
            return self._finish(reason)
        if self.state.phase == "speculated":
            if _hypothesis(seen) == self.state.hypothesis:
                return None
            self.state = dataclasses.replace(self.state, phase="listen", hypothesis=None)
            return "reset"
        return self._speculate(seen, pause)

    def finish(self) -> Decision | None:
        """The input ends here: "final" when an utterance is under way, else None."""
        return None if self.state.phase == "waiting" else self._finish("input finished")

    def _hear(self, seen: Observation) -> EndpointState:
        old, p = self.state, seen.speech_probability
        speech = p is not None and p >= self.config.speech_threshold
        run = old.run + self.frame_seconds * 1000 if speech else 0.0
        return dataclasses.replace(
            old,
            time=seen.time,
            n_tokens=seen.n_tokens,
            run=run,
            last_speech=seen.time if speech else old.last_speech,
        )

    def _begin(self, seen: Observation) -> Decision | None:
        state = self.state
        sustained = state.run > 0 and _ms(state.run) >= self.config.start_ms
        # A recognised word starts an utterance too short for `start_ms`; but where a detector
        # has heard no speech lately, the search is babbling.
        lately = seen.time - state.last_speech <= RECENT_SECONDS
        word = seen.n_tokens > 0 and (lately or seen.speech_probability is None)
        if not sustained and not word:
            return None
        began = seen.time - max(state.run / 1000, self.frame_seconds)
        last = seen.time if seen.speech_probability is None else state.last_speech
        self.state = dataclasses.replace(state, phase="listen", began=began, last_speech=last)
        return "start"

    def _pause(self, seen: Observation) -> Pause:
        state, now = self.state, seen.time
        length = _ms((now - state.began) * 1000)
        label = seen.pause_frames * self.frame_seconds * 1000 if seen.n_tokens else length
        silence = (now - state.last_speech) * 1000 if seen.speech_probability is not None else None
        return Pause(_ms(label), silence if silence is None else _ms(silence), length)

    def _over(self, seen: Observation, pause: Pause) -> str | None:
        config = self.config
        if self._model_says(seen, pause, config.final_threshold, config.final_pause_ms):
            return "model"
        return final_rule(config, pause, seen.n_tokens)

    def _model_says(self, seen: Observation, pause: Pause, threshold: float, ms: float) -> bool:
        p = seen.end_probability
        return p is not None and seen.n_tokens > 0 and p >= threshold and pause.both >= ms

    def _speculate(self, seen: Observation, pause: Pause) -> Decision | None:
        config, state = self.config, self.state
        if not config.speculate or state.speculations >= config.speculations_limit:
            return None
        if self._model_says(seen, pause, config.speculative_threshold, config.speculative_ms):
            reason = "model"
        else:
            reason = speculative_rule(config, pause, seen.n_tokens)
        if not reason:
            return None
        self.reason = reason
        self.state = dataclasses.replace(
            state,
            phase="speculated",
            hypothesis=_hypothesis(seen),
            speculations=state.speculations + 1,
        )
        return "speculative"

    def _finish(self, reason: str) -> Decision:
        self.reason = reason
        self.state = EndpointState(time=self.state.time)
        return "final"


def _hypothesis(seen: Observation) -> Hashable:
    return seen.n_tokens if seen.hypothesis is None else seen.hypothesis


def _ms(value: float) -> float:
    """Rounded to a microsecond, so that 20 frames of 60 ms are 1200 ms and not a bit less."""
    return round(value, 3)
