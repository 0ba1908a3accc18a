"""The two end-pointers: laws over random observations, and what each knob and rule does."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from solomonic.core import ConfigError
from solomonic.speech.endpoint import Endpointer, Observation, Utterances, check_events
from solomonic.speech.endpoint.config import EndpointConfig
from solomonic.speech.events import Event, Final, Reset, SpeculativeEnd

FRAME = 0.06


def observations(seed: int, frames: int = 500) -> list[Observation]:
    """Anything at all, in stretches: speech and pauses, labels that come and go, end heads."""
    rng = np.random.default_rng(seed)
    seen, tokens, pause, t = [], [], 0.0, 0
    voice, head = rng.random() < 0.8, rng.random() < 0.7
    while t < frames:
        speech, end = rng.random() < 0.5, rng.random()
        for _ in range(int(rng.integers(1, 40))):
            t += 1
            pause += 1
            if rng.random() < (0.3 if speech else 0.02):
                pause = 0.0
                if tokens and rng.random() < 0.1:
                    tokens.pop()
                else:
                    tokens.append(int(rng.integers(1, 9)))
            noise = rng.normal(scale=0.2)
            seen.append(
                Observation(
                    time=t * FRAME,
                    speech_probability=float(np.clip(speech + noise, 0, 1)) if voice else None,
                    pause_frames=pause * float(rng.uniform(0.8, 1.0)),
                    blank_probability=float(rng.random()),
                    n_tokens=len(tokens),
                    end_probability=float(np.clip(end + noise, 0, 1)) if head else None,
                    hypothesis=tuple(tokens),
                )
            )
        if rng.random() < 0.1:
            tokens = []
    return seen


def random_config(seed: int) -> EndpointConfig:
    rng = np.random.default_rng(seed + 10_000)
    spec = float(rng.choice([0, 60, 200, 400]))
    low, high = sorted(rng.random(2))
    return EndpointConfig(
        start_ms=float(rng.choice([0, 60, 120])),
        speculative_ms=spec,
        final_ms=float(rng.choice([spec, spec + 200, spec + 500])),
        speculative_threshold=low,
        final_threshold=high,
        silence_ms=float(rng.choice([600, 1200])),
        silence_limit_ms=float(rng.choice([1500, 5000])),
        utterance_limit_ms=float(rng.choice([3000, 20_000])),
        speculations_limit=int(rng.choice([0, 1, 8])),
    )


def run(config: EndpointConfig, seen: Sequence[Observation]) -> tuple[list[Event], list[tuple]]:
    """Events, and the finals as (time, reason, hypothesis) whatever was speculated."""
    machine, turn = Endpointer(config, FRAME), Utterances(same=lambda a, b: a == b)
    events: list[Event] = []
    finals = []
    for item in seen:
        decision = machine.step(item)
        if decision == "start":
            events.append(turn.start(item.time, machine.began))
        elif decision == "speculative":
            events.append(turn.speculative(item.time, item.hypothesis, machine.reason))
        elif decision == "reset":
            events.append(turn.reset(item.time))
        elif decision == "final":
            finals.append((item.time, machine.reason, item.hypothesis))
            events += turn.final(item.time, item.hypothesis, machine.reason)
    if machine.finish():
        finals.append((seen[-1].time, machine.reason, seen[-1].hypothesis))
        events += turn.final(seen[-1].time, seen[-1].hypothesis, machine.reason)
    return events, finals


@pytest.mark.parametrize("block", range(10))
def test_the_protocol_holds_for_any_observations(block: int) -> None:
    """1,000 random streams: order, revisions, one final a reset, finals without speculation."""
    counts = {SpeculativeEnd: 0, Reset: 0, Final: 0}
    for seed in range(100 * block, 100 * (block + 1)):
        config, seen = random_config(seed), observations(seed, frames=160)
        events, finals = run(config, seen)
        check_events(events)
        for event in events:
            counts[type(event)] = counts.get(type(event), 0) + 1
        for _, group in itertools.groupby(events, key=lambda event: event.utterance):
            one = list(group)
            assert [type(e).__name__ for e in (one[0], one[-1])] == ["SpeechStart", "Final"]
            last = one[-1]
            assert isinstance(last, Final)
            speculated = [e for e in one if isinstance(e, SpeculativeEnd)]
            resets = [e for e in one if isinstance(e, Reset)]
            assert all(e.time <= last.time for e in speculated)
            assert len(speculated) <= config.speculations_limit
            if speculated:
                assert last.commit != (bool(resets) and resets[-1] is one[-2]), "hit or reset"
        assert run(config.replace(speculate=False), seen)[1] == finals
    assert all(counts[kind] > 25 for kind in (SpeculativeEnd, Reset, Final)), counts


def test_decisions_are_a_function_of_the_observations() -> None:
    """A stream put back to a saved state goes on as before, and states are values."""
    seen = observations(3)
    machine = Endpointer(EndpointConfig(), FRAME)
    whole = [machine.step(item) for item in seen]
    first, second = Endpointer(EndpointConfig(), FRAME), Endpointer(EndpointConfig(), FRAME)
    head = [first.step(item) for item in seen[:231]]
    second.state = first.state
    assert head + [second.step(item) for item in seen[231:]] == whole


def speak(
    frames: int, tail: int, end: float | None = None, voice: bool = True, words: bool = True
) -> list[Observation]:
    """`frames` of speech with a label every fifth frame, then `tail` of silence."""
    seen, tokens, pause = [], 0, 0
    for t in range(1, frames + tail + 1):
        speech = t <= frames
        pause += 1
        if speech and words and t % 5 == 0:
            tokens, pause = tokens + 1, 0
        seen.append(
            Observation(
                time=t * FRAME,
                speech_probability=float(speech) if voice else None,
                pause_frames=pause,
                n_tokens=tokens,
                end_probability=None if end is None else (end if not speech else 0.0),
            )
        )
    return seen


def times(events: Sequence[Event]) -> list[tuple[str, float]]:
    return [(type(event).__name__, round(event.time, 2)) for event in events]


def test_the_model_ends_after_its_two_pauses() -> None:
    events, finals = run(EndpointConfig(), speak(20, 40, end=0.9))
    # Speech ends at 1.2 s; the first multiples of 60 ms not below 200 and 400 ms are 240 and 420.
    assert times(events) == [("SpeechStart", 0.12), ("SpeculativeEnd", 1.44), ("Final", 1.62)]
    assert finals[0][1] == "model" and isinstance(events[-1], Final) and events[-1].commit


def test_a_doubtful_model_leaves_the_final_to_the_rule() -> None:
    events, finals = run(EndpointConfig(), speak(20, 40, end=0.6))
    assert times(events)[1:] == [("SpeculativeEnd", 1.44), ("Final", 2.4)]
    assert finals[0][1] == "rule: 1.2 s of silence after speech"


@pytest.mark.parametrize("voice", [True, False])
def test_without_a_head_the_rules_speculate_and_end(voice: bool) -> None:
    events, _ = run(EndpointConfig(), speak(20, 40, voice=voice))
    assert times(events)[1:3] == [("SpeculativeEnd", 2.22), ("Final", 2.4)]
    assert isinstance(events[1], SpeculativeEnd)
    assert events[1].reason == "rule: 1 s of silence after speech"


def test_nothing_recognised_takes_twice_as_long() -> None:
    events, finals = run(EndpointConfig(), speak(20, 60, end=0.99, words=False))
    assert times(events) == [("SpeechStart", 0.12), ("Final", 3.6)]
    assert finals[0][1] == "rule: 2.4 s of silence, nothing recognised"


def test_a_deceived_voice_detector_cannot_hold_an_utterance_open() -> None:
    seen = [
        Observation(
            time=o.time, speech_probability=1.0, pause_frames=o.pause_frames, n_tokens=o.n_tokens
        )
        for o in speak(20, 60)
    ]
    events, finals = run(EndpointConfig(), seen)
    assert times(events)[1:3] == [("SpeculativeEnd", 3.42), ("Final", 3.6)]
    assert finals[0][1] == "rule: 2.4 s without a new word"


def test_a_babbling_search_cannot_either() -> None:
    seen = [
        Observation(time=t * FRAME, speech_probability=float(t <= 10), n_tokens=t // 3)
        for t in range(1, 120)
    ]
    _, finals = run(EndpointConfig(), seen)
    assert finals[0][:2] == (pytest.approx(5.6, abs=FRAME), "rule: no speech heard for 5 s")


def test_the_longest_utterance_is_20_s_and_the_next_goes_on() -> None:
    events, finals = run(EndpointConfig(), speak(700, 30))
    assert [reason for _, reason, _ in finals] == [
        "20 s limit", "20 s limit", "rule: 1.2 s of silence after speech",
    ]  # fmt: skip
    assert events[-1].utterance == 2


def test_silence_never_starts_an_utterance_whatever_the_search_says() -> None:
    seen = [
        Observation(time=t * FRAME, speech_probability=0.2, n_tokens=t, end_probability=1.0)
        for t in range(1, 2000)
    ]
    assert run(EndpointConfig(), seen) == ([], [])


def test_a_word_shorter_than_start_ms_is_not_lost() -> None:
    seen = [
        Observation(time=t * FRAME, speech_probability=float(t == 10), n_tokens=int(t >= 14),
                    pause_frames=max(t - 14, 0))
        for t in range(1, 40)
    ]  # fmt: skip
    events, finals = run(EndpointConfig(start_ms=200), seen)
    assert times(events)[0] == ("SpeechStart", 0.84) and len(finals) == 1


def test_input_that_ends_ends_the_utterance_and_only_one() -> None:
    _, finals = run(EndpointConfig(), speak(20, 3))
    assert [reason for _, reason, _ in finals] == ["input finished"]
    assert run(EndpointConfig(), speak(0, 10))[1] == []


def test_going_on_resets_and_the_second_speculation_hits() -> None:
    first, second = speak(20, 5, end=0.6), speak(20, 30, end=0.9)
    shifted = [
        Observation(time=o.time + first[-1].time, speech_probability=o.speech_probability,
                    pause_frames=o.pause_frames + (5 if o.n_tokens == 0 else 0),
                    n_tokens=o.n_tokens + 4, end_probability=o.end_probability)
        for o in second
    ]  # fmt: skip
    events, _ = run(EndpointConfig(), first + shifted)
    names = [type(event).__name__ for event in events]
    assert names == ["SpeechStart", "SpeculativeEnd", "Reset", "SpeculativeEnd", "Final"]
    last = events[-1]
    assert isinstance(last, Final) and last.commit and last.revision == 2


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"final_ms": 100}, r"final_ms \(100\) must not be below speculative_ms"),
        ({"speculative_threshold": 0.9}, "the final end-pointer would come before"),
        ({"utterance_limit_ms": 0}, "utterance_limit_ms must be above 0"),
        ({"start_ms": -1}, "start_ms must not be negative"),
        ({"speech_threshold": 0}, "speech_threshold must be in"),
        ({"label_silence_ms": 100}, r"label_silence_ms \(100\) must not be below silence_ms"),
        ({"speculations_limit": -1}, "speculations_limit must not be negative"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        EndpointConfig(**settings)
    with pytest.raises(ConfigError, match="frame_seconds must be above 0"):
        Endpointer(EndpointConfig(), 0.0)


def test_settings_round_trip() -> None:
    config = EndpointConfig(final_ms=500)
    assert EndpointConfig.from_json(config.to_json()) == config
    assert (config.final_pause_ms, config.gap_ms, config.speculative_silence_ms) == (500, 300, 900)
