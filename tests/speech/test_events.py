"""Events: frozen, typed, plain as JSON; the protocol's writer, checker and consumer agree."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from solomonic.core import DataError
from solomonic.speech.endpoint.protocol import Downstream, Utterances, check_events
from solomonic.speech.events import (
    Event,
    Final,
    Partial,
    Reset,
    SpeculativeEnd,
    SpeechStart,
    StableWords,
)


@dataclasses.dataclass(frozen=True)
class Piece:
    text: str
    start: float


def test_events_are_plain_json() -> None:
    events = [
        SpeechStart(time=0.3, utterance=0, start=0.12),
        Partial(time=0.6, utterance=0, text="a b", words=(Piece("a", 0.1),), stable=1),
        StableWords(time=0.6, utterance=0, words=[Piece("a", 0.1)]),
        SpeculativeEnd(time=1.0, utterance=0, revision=1, result={"text": "a"}, reason="model"),
        Reset(time=1.2, utterance=0, revision=1),
        Final(time=1.5, utterance=0, revision=2, commit=False, result=np.float32(2), reason="x"),
    ]
    records = [json.loads(json.dumps(event.to_json())) for event in events]
    assert [record["event"] for record in records] == [
        "speech_start", "partial", "stable_words", "speculative_end", "reset", "final",
    ]  # fmt: skip
    assert records[1]["words"] == [{"text": "a", "start": 0.1}]
    assert records[-1] == {
        "event": "final", "time": 1.5, "utterance": 0, "revision": 2, "commit": False,
        "result": 2.0, "reason": "x",
    }  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        events[0].time = 1.0  # type: ignore[misc]


def result(text: str) -> SimpleNamespace:
    return SimpleNamespace(text=text)


def test_a_standing_speculation_is_committed_under_its_revision() -> None:
    turn = Utterances()
    spec = turn.speculative(1.0, result("play"), "model")
    (final,) = turn.final(1.2, result("play"), "model")
    assert isinstance(final, Final) and final.commit and final.revision == spec.revision == 1
    (second,) = turn.final(3.0, result("stop"), "20 s limit")
    assert isinstance(second, Final) and not second.commit
    assert (second.utterance, second.revision) == (1, 1), "revisions begin anew"


def test_words_that_change_at_the_last_reset_it() -> None:
    turn = Utterances()
    turn.speculative(1.0, result("play"))
    turn.reset(1.1)
    turn.speculative(1.5, result("play jazz"))
    events = turn.final(1.7, result("play jazz now"), "model")
    assert [(type(e), e.revision) for e in events] == [(Reset, 2), (Final, 3)]  # type: ignore[attr-defined]
    assert isinstance(events[1], Final) and not events[1].commit


def story(seed: int) -> list[Event]:
    """Random utterances in which speculations come, go and stand."""
    rng = np.random.default_rng(seed)
    turn, events, time = Utterances(), [], 0.0
    for _ in range(6):
        events.append(turn.start(time))
        text, open_ = "w", False
        for _ in range(int(rng.integers(0, 6))):
            time += 0.1
            if not open_:
                events.append(turn.speculative(time, result(text)))
                open_ = True
            elif rng.random() < 0.5:
                text += " w"
                events.append(turn.reset(time))
                open_ = False
        text += " x" * int(rng.integers(0, 2))
        events += turn.final(time + 0.2, result(text), "model")
        time += 0.5
    return events


@pytest.mark.parametrize("seed", range(20))
def test_work_is_shown_once_and_only_what_was_final(seed: int) -> None:
    events = story(seed)
    check_events(events)
    shown: list[str] = []
    down = Downstream(prepare=lambda r: r.text.upper(), act=shown.append)
    for event in events:
        down.handle(event)
    finals = [event for event in events if isinstance(event, Final)]
    assert shown == [event.result.text.upper() for event in finals]
    assert down.hits == sum(event.commit for event in finals)
    speculations = sum(isinstance(event, SpeculativeEnd) for event in events)
    assert down.runs == speculations + sum(not event.commit for event in finals)
    repeated: list[str] = []
    down = Downstream(prepare=lambda r: r.text.upper(), act=repeated.append)
    for event in events:
        down.handle(event)
        down.handle(event)
    assert repeated == shown, "every event may come twice"


def test_nothing_is_shown_before_the_final() -> None:
    shown: list[str] = []
    down = Downstream(prepare=lambda r: r.text, act=shown.append)
    turn = Utterances()
    down.handle(turn.speculative(1.0, result("play")))
    down.handle(turn.reset(1.1))
    assert shown == [] and down.runs == 1
    for event in turn.final(2.0, result("play jazz"), "model"):
        down.handle(event)
    assert shown == ["play jazz"] and (down.runs, down.hits) == (2, 0)


def spec(revision: int, time: float = 1.0) -> SpeculativeEnd:
    return SpeculativeEnd(time=time, utterance=0, revision=revision, result="")


def final(revision: int, commit: bool, utterance: int = 0, time: float = 2.0) -> Final:
    return Final(
        time=time, utterance=utterance, revision=revision, commit=commit, result="", reason=""
    )


@pytest.mark.parametrize(
    ("events", "match"),
    [
        ([spec(1), spec(2)], "a speculation that is not new"),
        ([spec(2), Reset(time=1, utterance=0, revision=2), spec(1)], "not new"),
        ([Reset(time=1, utterance=0, revision=1)], "a reset of what was not speculated"),
        ([spec(1), final(1, False)], "a final that does not fit"),
        ([spec(1), final(2, True)], "a final that does not fit"),
        ([final(1, True)], "a final that does not fit"),
        ([spec(2), Reset(time=1, utterance=0, revision=2), final(2, False)], "does not fit"),
        ([final(1, False), spec(2, 3.0)], "utterance 1 is under way"),
        ([spec(1, 3.0), final(1, True, time=2.0)], "time runs backwards"),
    ],
)
def test_broken_sequences_are_named(events: list[Event], match: str) -> None:
    with pytest.raises(DataError, match=match):
        check_events(events)
