"""Recogniser and streams: the same for any cut, nothing lost, nothing babbled, no growth."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError, DataError, ShapeError
from solomonic.speech.decode import DecodeConfig, Decoder, Search
from solomonic.speech.endpoint import EndpointConfig, check_events
from solomonic.speech.events import Event, Final, Partial, SpeechStart
from solomonic.speech.files import audio_blocks
from solomonic.speech.pretrained import SpeechModel
from solomonic.speech.recognizer import Recognizer
from solomonic.speech.result import Result
from solomonic.speech.stream import LEAD_BLOCKS, Stream
from speech_tiny import RATE, command, silence, speech, tiny_model


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return tiny_model()


@pytest.fixture(scope="module")
def recognizer(model: SpeechModel) -> Recognizer:
    return Recognizer(model, DecodeConfig(beam=3))


def heard(
    recognizer: Recognizer,
    samples: np.ndarray,
    rate: int = RATE,
    cuts: Any = (),
    poll: Callable[[int], bool] = lambda piece: True,
    **options: Any,
) -> tuple[list[Event], Result]:
    """Events and result of audio handed over in pieces that end at `cuts`."""
    stream = recognizer.create_stream(**options)
    events: list[Event] = []
    edges = [0, *sorted(cuts), len(samples)]
    for piece, (first, last) in enumerate(itertools.pairwise(edges)):
        stream.accept_waveform(rate, samples[first:last])
        if poll(piece):
            events += stream.events()
    stream.input_finished()
    events += stream.events()
    check_events(events)
    return events, stream.result()


def test_the_toy_is_worth_testing(recognizer: Recognizer) -> None:
    """Two commands give two utterances with words, speculations, alternatives and lattices."""
    events, result = heard(recognizer, np.concatenate((command(seed=1), command(seed=2))))
    kinds = [event.kind for event in events]
    assert kinds.count("final") == 2
    assert {"speech_start", "partial", "stable_words", "speculative_end"} <= set(kinds)
    assert len(result.utterances) == 2
    for part in result.utterances:
        assert part.words and len(part.nbest) > 1
        assert part.lattice is not None and part.lattice.arcs > 2


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_events_results_and_lattices_do_not_depend_on_the_cut(
    rate: int, recognizer: Recognizer
) -> None:
    samples = command(rate, seed=1, after=1.6)
    expected = heard(recognizer, samples, rate)
    assert any(isinstance(event, Final) for event in expected[0])
    random = np.random.default_rng(rate)
    for trial in range(3 if rate == RATE else 1):
        cuts = random.integers(0, len(samples) + 1, random.integers(1, 60))
        poll = random.integers(0, 2, len(cuts) + 1).astype(bool)
        assert heard(recognizer, samples, rate, cuts, lambda p, q=poll: q[p]) == expected, trial


def test_pieces_of_one_sample(recognizer: Recognizer) -> None:
    samples = np.concatenate((silence(0.1, 1e-3), speech(0.4)))
    expected = heard(recognizer, samples)
    assert expected[1].text
    assert heard(recognizer, samples, cuts=range(1, len(samples)), poll=lambda p: p % 7 == 0) == (
        expected
    )


def test_streams_together_say_what_each_says_alone(recognizer: Recognizer) -> None:
    sounds = [command(seed=seed, before=0.2 * seed) for seed in (1, 2, 4)]
    alone = [heard(recognizer, sound) for sound in sounds]
    streams = [recognizer.create_stream() for _ in sounds]
    together: list[list[Event]] = [[] for _ in sounds]
    for start in range(0, max(map(len, sounds)), 5000):
        for stream, sound in zip(streams, sounds, strict=True):
            stream.accept_waveform(RATE, sound[start : start + 5000])
        recognizer.decode_streams(streams)
        for said, stream in zip(together, streams, strict=True):
            said += stream.events()
    for stream in streams:
        stream.input_finished()
    recognizer.decode_streams(streams)
    for said, stream, (events, result) in zip(together, streams, alone, strict=True):
        said += stream.events()
        assert [outline(event) for event in said] == [outline(event) for event in events]
        assert stream.result().text == result.text != ""


def outline(event: Event) -> tuple[Any, ...]:
    """What of an event cannot differ by a rounding of its scores."""
    text = getattr(event, "text", None) or getattr(getattr(event, "result", None), "text", None)
    return event.kind, event.time, event.utterance, text


def test_a_stream_is_in_a_call_once(recognizer: Recognizer) -> None:
    stream = recognizer.create_stream()
    with pytest.raises(ConfigError, match="a stream is in the call twice"):
        recognizer.decode_streams([stream, stream])


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.02], ids=["digital", "faint", "noise"])
def test_silence_says_nothing_and_grows_nothing(level: float, recognizer: Recognizer) -> None:
    """Ten minutes by the clock of the audio; the stream holds as much as after ten seconds."""
    stream = recognizer.create_stream()
    blocks = [silence(10, level, seed=seed) for seed in range(3)]
    sizes = set()
    for turn in range(60 if level == 0 else 6):
        stream.accept_waveform(RATE, blocks[turn % 3])
        texts = [e.text for e in stream.events() if isinstance(e, Partial)]
        assert not any(texts)
        sizes.add(size(stream))
    stream.input_finished()
    assert stream.result().text == ""
    assert len(stream.results) <= 1
    assert max(sizes) - min(sizes) < 20_000  # a block that is waiting, an utterance without words
    assert max(sizes) < 60_000


def size(stream: Stream) -> int:
    """Bytes of what a stream keeps of its audio, and how many things are in its lists."""
    arrays = [*stream._blocks, *stream._lead, stream._rest]
    assert len(stream._lead) <= LEAD_BLOCKS
    return sum(a.nbytes for a in arrays) + 1000 * (len(stream._events) + len(stream.results))


def test_long_speech_grows_only_by_its_words(recognizer: Recognizer) -> None:
    """Between utterances nothing of the last one is left but its result."""
    stream = recognizer.create_stream()
    for seed in range(3):
        stream.accept_waveform(RATE, command(seed=seed))
        stream.events()
        assert stream._live is None
        assert (len(stream._blocks), len(stream._events)) == (0, 0)
        assert len(stream.results) == seed + 1
    stream.results.clear()
    assert stream.result() == Result(text="")


def test_the_last_word_is_not_lost(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The input ends in the middle of speech, and the model speaks 300 ms late, as models do: what
    would have come with silence behind it comes."""
    waiting: dict[int, deque[torch.Tensor]] = {}
    advance = Decoder.advance

    def late(self: Decoder, searches: Sequence[Search], acoustic: torch.Tensor) -> None:
        rows = []
        for row, search in enumerate(searches):
            queue = waiting.setdefault(id(search), deque())
            queue.append(acoustic[row : row + 1])
            rows.append(queue.popleft() if len(queue) > 5 else queue[0])
        advance(self, searches, torch.cat(rows))

    monkeypatch.setattr(Decoder, "advance", late)
    sound = np.concatenate((silence(0.3, 1e-3), speech(0.8, seed=3)))
    padded = np.concatenate((sound, silence(2.0)))
    result = heard(recognizer, sound)[1]
    assert result.text
    assert result.text == heard(recognizer, padded)[1].text
    assert result.reason == "input finished"
    assert result.end == pytest.approx(len(sound) / RATE, abs=0.07)


@pytest.mark.parametrize("seconds", [0.12, 0.2, 0.36, 0.5])
def test_a_clip_cut_closely_around_a_word_is_heard(seconds: float, recognizer: Recognizer) -> None:
    """Its first frames look like the floor of noise, so the detector is never sure of it."""
    fades = np.minimum(1.0, np.linspace(0.05, 3, round(seconds * RATE))).astype(np.float32)
    events, result = heard(recognizer, speech(seconds, seed=1) * fades)
    assert (events[0].kind, events[-1].kind) == ("speech_start", "final")
    assert result.start <= 0.06


@pytest.mark.parametrize("endpointing", [True, False])
@pytest.mark.parametrize("count", [0, 1, 79, 80, 900])
def test_hardly_any_audio(count: int, endpointing: bool, recognizer: Recognizer) -> None:
    events, result = heard(recognizer, np.full(count, 0.5, np.float32), endpointing=endpointing)
    assert result.text == ""
    assert {e.kind for e in events} <= {"speech_start", "final"}


def test_a_stream_that_never_got_audio(recognizer: Recognizer) -> None:
    stream = recognizer.create_stream()
    assert (stream.events(), stream.result().text) == ([], "")
    stream.input_finished()
    stream.input_finished()
    assert (stream.events(), stream.result().text) == ([], "")


def test_without_endpointing_all_is_one_utterance(recognizer: Recognizer) -> None:
    samples = np.concatenate((command(seed=1), command(seed=2)))
    events, result = heard(recognizer, samples, endpointing=False)
    assert [e.kind for e in events if e.kind in ("speech_start", "final")] == [
        "speech_start",
        "final",
    ]
    assert result.utterances == ()
    assert result.words[-1].end > len(samples) / RATE / 2


def test_clipped_and_loud_audio(recognizer: Recognizer) -> None:
    """Clipping is the microphone's fault, not an error; samples beyond the scale are taken too."""
    samples = command(seed=1) * np.float32(20.0)
    assert np.abs(samples).max() > 2
    for given in (np.clip(samples, -1, 1), samples, samples * np.float32(1e4)):
        words = heard(recognizer, given)[1].words
        assert words
        assert all(0 <= word.confidence <= 1 for word in words)


def test_integers_are_scaled(recognizer: Recognizer) -> None:
    samples = np.round(command(seed=1) * 32768).clip(-32768, 32767)
    expected = heard(recognizer, (samples / 32768).astype(np.float32))
    assert heard(recognizer, samples.astype(np.int16)) == expected


BAD: list[tuple[Any, type[Exception], str]] = [
    (np.array([0.0, np.nan]), DataError, "samples that are not finite"),
    (np.array([np.inf]), DataError, "samples that are not finite"),
    (np.zeros((100, 2)), ShapeError, "give one channel as a row"),
    (np.zeros((7, 100)), ShapeError, "give one channel as a row"),
    ("words", ShapeError, "give one channel as a row"),
    (np.array([1j]), ShapeError, "give one channel as a row"),
]


@pytest.mark.parametrize(("samples", "error", "message"), BAD)
def test_what_is_refused_changes_nothing(
    samples: Any, error: type[Exception], message: str, recognizer: Recognizer
) -> None:
    sound = command(seed=1)
    stream = recognizer.create_stream()
    with pytest.raises(error, match=message):
        stream.accept_waveform(44100, samples)  # not even the rate is taken
    stream.accept_waveform(RATE, sound[:9000])
    with pytest.raises(error, match=message):
        stream.accept_waveform(RATE, samples)
    stream.accept_waveform(RATE, sound[9000:])
    stream.input_finished()
    assert stream.result() == heard(recognizer, sound)[1]


def test_another_rate_in_the_middle(recognizer: Recognizer) -> None:
    stream = recognizer.create_stream()
    for rate in (0, -16000, 10**9, float("nan")):
        with pytest.raises(ConfigError, match="must lie between"):
            stream.accept_waveform(rate, np.zeros(10))  # type: ignore[arg-type]
    stream.accept_waveform(RATE, np.zeros(10))
    with pytest.raises(ConfigError, match="has 16000 samples a second, not 8000"):
        stream.accept_waveform(8000, np.zeros(10))


def test_audio_after_the_end(recognizer: Recognizer) -> None:
    stream = recognizer.create_stream()
    stream.accept_waveform(RATE, command(seed=1))
    stream.input_finished()
    before = stream.result()
    with pytest.raises(DataError, match="is finished; create another stream"):
        stream.accept_waveform(RATE, np.zeros(10))
    assert stream.result() == before


def test_an_empty_list_of_personal_words_is_none(recognizer: Recognizer) -> None:
    expected = heard(recognizer, command(seed=1))
    assert heard(recognizer, command(seed=1), bias=[]) == expected
    assert heard(recognizer, command(seed=1), bias=["weather", "turn on"])[1] != expected[1]


def test_personal_words_given_as_one_string(recognizer: Recognizer) -> None:
    with pytest.raises(ConfigError, match="bias is one string; give a list"):
        recognizer.create_stream(bias="siobhan")


def test_finals_are_the_same_without_speculation(model: SpeechModel) -> None:
    samples = np.concatenate((command(seed=1), command(seed=2, after=0.7), command(seed=4)))

    def finals(**settings: Any) -> list[Any]:
        endpoint = EndpointConfig(silence_ms=600, nothing_ms=900, **settings)
        events, _ = heard(Recognizer(model, DecodeConfig(beam=3), endpoint), samples)
        found = [e for e in events if isinstance(e, Final)]
        return [dataclasses.replace(e, revision=0, commit=False) for e in found]

    assert finals() == finals(speculate=False) == finals(speculative_ms=0)
    assert len(finals()) >= 2


def test_the_search_starts_before_speech_was_sure(recognizer: Recognizer) -> None:
    events, result = heard(recognizer, command(seed=1, before=1.0))
    start = next(e for e in events if isinstance(e, SpeechStart))
    assert start.start is not None
    assert result.start < start.start <= start.time
    assert start.start == pytest.approx(1.0, abs=0.13)


def test_a_recording_read_from_samples_equals_a_stream(recognizer: Recognizer) -> None:
    samples = command(seed=1)
    assert recognizer.transcribe(samples, RATE) == heard(recognizer, samples)[1]


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_file_is_read_piece_by_piece(
    name: str, recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as all its samples at once, and what is waiting never grows."""
    import soundfile

    samples = np.concatenate((silence(12), command(44100, seed=1), silence(12)))
    soundfile.write(tmp_path / name, samples, 44100, subtype="PCM_24")
    waiting = []
    decode = Recognizer.decode_streams

    def watched(self: Recognizer, streams: Sequence[Stream]) -> None:
        waiting.append(sum(len(stream._blocks) for stream in streams))
        decode(self, streams)

    monkeypatch.setattr(Recognizer, "decode_streams", watched)
    found = recognizer.transcribe(tmp_path / name)
    assert found.words
    assert max(waiting) <= 90  # 5 s of 60 ms and a little more
    exact = np.concatenate([part for _, part in audio_blocks(tmp_path / name, 100.0)])
    assert found == recognizer.transcribe(exact, 44100)


def test_greedy_has_no_alternatives_and_the_beam_no_worse_score(model: SpeechModel) -> None:
    samples = command(seed=1)
    greedy = Recognizer(model, DecodeConfig(method="greedy")).transcribe(samples)
    beam = Recognizer(model, DecodeConfig(beam=8)).transcribe(samples)
    assert len(greedy.nbest) == 1
    assert beam.nbest[0].score >= greedy.nbest[0].score - 1e-9
