"""What a stream tells whoever listens: speech start, partial words, speculative end, final.

The revision protocol. A result for which work may begin has a key (utterance, revision):

    SpeculativeEnd(revision=r)      begin work on this result; let nothing of it be seen yet
    Reset(revision=r)               drop the work of every revision up to and including r
    Final(revision=r, commit=True)  the result of revision r stands unchanged: show the work
    Final(commit=False)             a new result, under a new revision: no work exists for it yet

Within an utterance revisions only grow, there is exactly one `Final`, and nothing follows it.
`solomonic.speech.endpoint.protocol` writes and checks such sequences and runs work by them.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from solomonic.speech.words import Word


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """Base of every event.

    Attributes:
        time: seconds of audio that had been read when the event was decided. Never wall time, so
            that the same audio gives the same events on any machine and however it is cut.
        utterance: number of the utterance in its stream, from 0.
    """

    kind: ClassVar[str] = ""

    time: float
    utterance: int

    def to_json(self) -> dict[str, Any]:
        """The event as plain JSON; `"event"` names its kind."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"event": self.kind} | {name: _plain(value) for name, value in fields.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechStart(Event):
    """Somebody began to speak.

    Attributes:
        start: where the speech began (s of audio); `time` is when that was known.
    """

    kind: ClassVar[str] = "speech_start"

    start: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partial(Event):
    """The best hypothesis so far; it may still change, except for the first `stable` words."""

    kind: ClassVar[str] = "partial"

    text: str
    words: "Sequence[Word]" = ()
    stable: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StableWords(Event):
    """Words that have become stable since the last event of this kind."""

    kind: ClassVar[str] = "stable_words"

    words: "Sequence[Word]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeculativeEnd(Event):
    """The utterance is probably over: `result` is good enough to begin work on, not to act on."""

    kind: ClassVar[str] = "speculative_end"

    revision: int
    result: Any
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reset(Event):
    """The speaker went on, or the words changed: results up to `revision` are void."""

    kind: ClassVar[str] = "reset"

    revision: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Final(Event):
    """The utterance is over.

    Attributes:
        revision: the speculated one when `commit` is true, else a new one.
        commit: true when the speculated result stands unchanged; false when there was no
            speculation or it has been reset.
        result: the recognition result at this moment, the same with speculation on and off.
        reason: which end-pointer fired, in plain words, such as "model" or "20 s limit".
    """

    kind: ClassVar[str] = "final"

    revision: int
    commit: bool
    result: Any
    reason: str


def _plain(value: Any) -> Any:
    """`value` as JSON knows it: objects by their own `to_json`, dataclasses by their fields."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    listed = getattr(value, "tolist", None)  # numpy scalars and arrays, tensors
    return listed() if callable(listed) else str(value)
