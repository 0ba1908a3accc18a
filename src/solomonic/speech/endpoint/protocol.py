"""The revision protocol: writing it, checking it, and running work by it.

`Utterances` turns an end-pointer's decisions into events with revisions. `Downstream` is what
stands at the other end: it prepares an answer while the final end-pointer still waits, and shows
it only on the final event. `check_events` tells whether a sequence of events keeps the rules.
"""

from collections.abc import Callable, Iterable
from typing import Any

from solomonic.core import DataError
from solomonic.speech.events import Event, Final, Reset, SpeculativeEnd, SpeechStart


def same_text(one: Any, other: Any) -> bool:
    """Whether two results say the same words: compares `.text` where there is one, else all."""
    return getattr(one, "text", one) == getattr(other, "text", other)


class Utterances:
    """Numbers the utterances of a stream and their revisions, and writes the events.

    Args:
        same: whether the final result leaves the speculated one standing.
    """

    def __init__(self, same: Callable[[Any, Any], bool] = same_text) -> None:
        self.same = same
        self.utterance = 0
        self._revision = 0
        self._speculated: Any = None
        self._open = False  # a speculation stands that was neither reset nor committed

    def start(self, time: float, began: float | None = None) -> SpeechStart:
        """The utterance starts; `began` is where its speech began (s)."""
        return SpeechStart(time=time, utterance=self.utterance, start=began)

    def speculative(self, time: float, result: Any, reason: str = "") -> SpeculativeEnd:
        """The next revision: `result`, on which work may begin."""
        assert not self._open, "a speculation is reset before the next one"
        self._revision += 1
        self._speculated, self._open = result, True
        return SpeculativeEnd(
            time=time,
            utterance=self.utterance,
            revision=self._revision,
            result=result,
            reason=reason,
        )

    def reset(self, time: float) -> Reset:
        """The open speculation is void."""
        assert self._open, "there is no speculation to reset"
        self._open, self._speculated = False, None
        return Reset(time=time, utterance=self.utterance, revision=self._revision)

    def final(self, time: float, result: Any, reason: str) -> list[Event]:
        """The utterance is over: [Final], or [Reset, Final] when its words changed at the last."""
        events: list[Event] = []
        if self._open and not self.same(self._speculated, result):
            events.append(self.reset(time))
        commit = self._open
        events.append(
            Final(
                time=time,
                utterance=self.utterance,
                revision=self._revision if commit else self._revision + 1,
                commit=commit,
                result=result,
                reason=reason,
            )
        )
        self.utterance += 1
        self._revision, self._open, self._speculated = 0, False, None
        return events


class Downstream:
    """Work that begins on speculation and is shown on commit. Repeated events do nothing.

    Args:
        prepare: makes an answer of a result; free of side effects, since it may be thrown away.
        act: shows an answer; called once an utterance, at its `Final`.

    Attributes:
        runs: how often `prepare` was called.
        hits: how many finals found their answer ready.
    """

    def __init__(self, prepare: Callable[[Any], Any], act: Callable[[Any], Any]) -> None:
        self.prepare = prepare
        self.act = act
        self.runs = 0
        self.hits = 0
        self._ready: dict[int, Any] = {}  # revision -> answer, of the present utterance
        self._utterance = 0
        self._void = 0  # revisions up to here were reset

    def handle(self, event: Event) -> None:
        """Take one event, in the order of the stream; others than the three kinds are ignored."""
        if event.utterance < self._utterance:
            return
        if isinstance(event, SpeculativeEnd):
            if event.revision > self._void and event.revision not in self._ready:
                self._ready[event.revision] = self._run(event.result)
        elif isinstance(event, Reset):
            self._void = max(self._void, event.revision)
            self._ready = {r: work for r, work in self._ready.items() if r > event.revision}
        elif isinstance(event, Final):
            ready = event.commit and event.revision in self._ready
            self.hits += ready
            answer = self._ready[event.revision] if ready else self._run(event.result)
            self._ready, self._void, self._utterance = {}, 0, event.utterance + 1
            self.act(answer)

    def _run(self, result: Any) -> Any:
        self.runs += 1
        return self.prepare(result)


def check_events(events: Iterable[Event]) -> None:
    """Check that a stream's events keep the protocol.

    Raises:
        DataError: time or revisions run backwards, a speculation stands on an open one, a reset
            or commit has none, or something follows the final of its utterance.
    """
    time, utterance, revision, speculated = 0.0, 0, 0, False
    for event in events:
        if event.time < time:
            raise DataError(f"time runs backwards at {event}.")
        if event.utterance != utterance:
            raise DataError(f"utterance {utterance} is under way at {event}.")
        time = event.time
        if isinstance(event, SpeculativeEnd):
            if speculated or event.revision <= revision:
                raise DataError(f"a speculation that is not new at {event}.")
            revision, speculated = event.revision, True
        elif isinstance(event, Reset):
            if not speculated or event.revision != revision:
                raise DataError(f"a reset of what was not speculated at {event}.")
            speculated = False
        elif isinstance(event, Final):
            right = event.revision == revision if speculated else event.revision > revision
            if event.commit != speculated or not right:
                raise DataError(f"a final that does not fit the speculations at {event}.")
            utterance, revision, speculated = utterance + 1, 0, False
