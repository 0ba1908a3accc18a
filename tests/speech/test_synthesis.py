"""Synthetic speech: what the grammar says, who speaks it, where it begins and ends."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solomonic.core import ConfigError, DataError
from solomonic.speech.audio import read_audio
from solomonic.speech.data import synthesis
from solomonic.speech.data.augment import AugmentConfig
from solomonic.speech.data.grammar import (
    Grammar,
    assistant_grammar,
    contact_names,
    held_out_words,
)
from solomonic.speech.data.manifest import read_manifest
from solomonic.speech.data.synthesis import (
    HELD_OUT_VOICES,
    TRAIN_VOICES,
    Voice,
    speak,
    speech_span,
    synthesise,
)
from solomonic.text.spoken import is_spoken

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")
needs_voices = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="no espeak-ng and flite"
)

FLITE, ESPEAK = Voice("flite", "slt"), Voice("espeak-ng", "en-us+f2")
FEW = (FLITE, ESPEAK, Voice("espeak-ng", "en-gb+m1"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- grammar ---


def test_expansion() -> None:
    text = """
        room = hall | big {size} room   # a list that uses a list
        size = red|blue
        @lights
        turn (on|off) the {room} light [please|now]
        @numbers
        {1-3} of {10-30/10}
    """
    grammar = Grammar(text)
    lights = set(grammar.expand("lights"))
    assert len(lights) == 2 * 3 * 3 and "turn off the big blue room light now" in lights
    assert "turn on the hall light" in lights, "an option may be nothing"
    assert set(grammar.expand("numbers")) == {
        f"{a} of {b}" for a in ("one", "two", "three") for b in ("ten", "twenty", "thirty")
    }
    assert len(list(grammar.expand())) == 27 and grammar.topics == ("lights", "numbers")
    assert grammar.entries("room") == ("hall", "big red room", "big blue room")
    drawn = grammar.sentences(1000, rng())
    assert {s.text for s in drawn} == set(grammar.expand()) and len(drawn) == 27


def test_drawing_is_seeded_and_names_what_was_drawn() -> None:
    grammar = Grammar("call {contact}'s [mobile] phone", {"contact": ["Zoë", "anna smith"]})
    first, again = grammar.sentences(4, rng(1)), grammar.sentences(4, rng(1))
    assert first == again and {s.slots["contact"] for s in first} == {"zoe", "anna smith"}
    assert {"call zoe's phone", "call anna smith's mobile phone"} <= {s.text for s in first}


def test_every_choice_is_drawn_evenly() -> None:
    grammar = Grammar("(a|b|c) [d]")
    texts = [grammar.sample(draw).text for draw in [rng()] for _ in range(3000)]
    for text in grammar.expand():
        assert texts.count(text) == pytest.approx(500, abs=80)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("turn (on", r"line 1.*'\(' that is not closed"),
        ("good\nturn on)", "line 2.*closes nothing"),
        ("turn (on]", "closes nothing"),
        ("call {who}", r"no list '\{who\}'"),
        ("{5-1}", "no list"),
        ("{1-9/0}", "no list"),
        ("call {who", "brace that is not closed"),
        ("x = {y}\ny = a {x}\ncall {x}", "uses itself"),
        ("call 911", "'call 911', which is not words"),
        ("# only a comment\nx = y", "no sentence"),
    ],
)
def test_faulty_grammars(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Grammar(text)


def test_grammar_requests() -> None:
    grammar = Grammar("stop")
    with pytest.raises(DataError, match="no topic 'x'"):
        grammar.sample(rng(), "x")
    with pytest.raises(DataError, match="no list 'x'"):
        grammar.entries("x")
    with pytest.raises(DataError, match="'x' of the grammar is empty"):
        Grammar("stop {x}", {"x": []})


def test_the_assistant_grammar() -> None:
    drawn = assistant_grammar().sentences(1500, rng())
    assert len({s.text for s in drawn}) == 1500 and len({s.topic for s in drawn}) == 19
    assert all(is_spoken(s.text) and 1 <= len(s.text.split()) <= 20 for s in drawn)
    words = {w.removesuffix("'s") for s in drawn for w in s.text.split()}
    assert not words & held_out_words(), "names of the test are in no training sentence"
    every = {w for topic in assistant_grammar().topics if topic not in ("names", "calls")
             for s in assistant_grammar().sentences(300, rng(1), [topic])
             if "contact" not in s.slots for w in s.text.split()}  # fmt: skip
    assert not every & held_out_words(), "nor is a name an ordinary word of the grammar"


def test_names_are_split_by_word() -> None:
    train, held_out = contact_names("train"), contact_names("held_out")
    words = [{w for name in names for w in name.split()} for names in (train, held_out)]
    assert not words[0] & words[1] and words[1] <= held_out_words()
    assert 80 <= len([n for n in held_out if " " not in n]) <= 130
    assert len(set(train)) == len(train) and all(map(is_spoken, train + held_out))
    assert contact_names("train") == train
    with pytest.raises(DataError, match="train or held_out"):
        contact_names("test")  # pyright: ignore[reportArgumentType]


# --- voices ---


def test_held_out_voices_are_in_no_training_list() -> None:
    def parts(voices: tuple[Voice, ...], which: int) -> set[str]:
        return {v.name.split("+")[which] for v in voices if v.engine == "espeak-ng"}

    assert not set(TRAIN_VOICES) & set(HELD_OUT_VOICES)
    assert not parts(TRAIN_VOICES, 1) & parts(HELD_OUT_VOICES, 1), "variants"
    assert parts(HELD_OUT_VOICES, 0) - parts(TRAIN_VOICES, 0) == {"en-gb-x-gbcwmd"}, "an accent"
    flite = [{v.name for v in vs if v.engine == "flite"} for vs in (TRAIN_VOICES, HELD_OUT_VOICES)]
    assert flite[1] == {"rms"} and not flite[0] & flite[1]


@needs_voices
def test_all_voices_are_there() -> None:
    for voice in (*TRAIN_VOICES, *HELD_OUT_VOICES):
        synthesis._check_voice(voice)


@needs_voices
@pytest.mark.parametrize("voice", [FLITE, ESPEAK, Voice("flite", "kal")])
def test_speaking(voice: Voice) -> None:
    usual = speak("turn on the light", voice)
    assert usual.samples.dtype == np.float32 and np.abs(usual.samples).max() <= 1
    seconds = len(usual.samples) / 16000
    assert 0 <= usual.start < 0.5 < usual.end <= seconds and usual.end - usual.start < 2.5
    fast = speak("turn on the light", voice, rate=1.5)
    assert fast.end - fast.start < 0.85 * (usual.end - usual.start)
    again = speak("turn on the light", voice)
    assert np.array_equal(usual.samples, again.samples)


@needs_voices
@pytest.mark.parametrize("voice", [FLITE, ESPEAK])
def test_pitch(voice: Voice) -> None:
    def pitch(height: float) -> float:
        samples = speak("oh no, oh no", voice, pitch=height).samples
        total = np.correlate(samples, samples, "full")[len(samples) :]
        return 16000 / (40 + int(total[40:250].argmax()))  # 64 to 400 Hz

    assert pitch(1.4) > 1.1 * pitch(0.7)


@needs_voices
def test_a_spelled_a_is_the_letter() -> None:
    for voice in (FLITE, ESPEAK):
        letter, article = speak("m a y", voice, spelled=True), speak("m a y", voice)
        assert not np.array_equal(letter.samples, article.samples)
        same = speak("m b y", voice, spelled=True), speak("m b y", voice)
        assert np.array_equal(same[0].samples, same[1].samples)


@needs_voices
@pytest.mark.parametrize(
    ("voice", "message"),
    [
        (Voice("flite", "bob"), "flite has no voice 'bob'"),
        (Voice("espeak-ng", "en-us+nosuch"), "has no voice"),
        (Voice("espeak-ng", "en-xx"), "has no voice"),
        (Voice("festival", "kal"), "no synthesiser 'festival'"),
    ],
)
def test_unknown_voices(voice: Voice, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        speak("hello", voice)


@needs_voices
def test_what_cannot_be_spoken() -> None:
    with pytest.raises(DataError, match="no sound"):
        speak("...", ESPEAK)
    with pytest.raises(ConfigError, match=r"0\.5 to 2"):
        speak("hello", ESPEAK, rate=3.0)
    assert len(speak("--version", ESPEAK).samples), "text is never an option"


@pytest.mark.parametrize("engine", ["flite", "espeak-ng"])
def test_a_missing_program_is_named_with_its_package(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis.shutil, "which", lambda _: None)
    synthesis._voices.cache_clear()
    with pytest.raises(ConfigError, match=f"install the Debian package {engine}"):
        speak("hello", Voice(engine, "slt"))
    synthesis._voices.cache_clear()


def test_the_span_of_speech() -> None:
    samples = np.zeros(16000, np.float32)
    samples[4000:8000] = 0.5 * np.sin(np.arange(4000) / 5)
    assert speech_span(samples) == (0.25, 0.5)
    samples[:4000] += 1e-4 * np.sin(np.arange(4000) / 3)  # 74 dB below
    assert speech_span(samples) == (0.25, 0.5)
    assert speech_span(np.zeros(1000, np.float32)) == (0.0, 0.0)
    assert speech_span(np.zeros(0, np.float32)) == (0.0, 0.0)


# --- corpora ---

SENTENCES: list[Any] = [
    "Turn on the light!",
    {"text": "call zoe", "name": "zoe"},
    {"text": "m a y", "spelled": True, "kind": "letters"},
    "what time is it",
]


def sets(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "audio").iterdir())}


@needs_voices
def test_a_corpus(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    manifest = synthesise(
        SENTENCES, FEW, tmp_path / "a", 5, split="dev", progress=lambda *s: steps.append(s)
    )
    found = read_manifest(manifest, "dev")
    assert [u.text for u in found] == ["turn on the light", "call zoe", "m a y", "what time is it"]
    assert found[1].extra["name"] == "zoe" and found[2].extra["kind"] == "letters"
    assert sorted(steps) == [(i, 4) for i in range(1, 5)]
    for utterance in found:
        samples = read_audio(utterance.audio)
        assert len(samples) / 16000 == pytest.approx(utterance.duration, abs=1e-3)
        start, end = utterance.extra["speech_start"], utterance.extra["speech_end"]
        assert speech_span(samples) == pytest.approx((start, end), abs=0.006)
        assert 0.1 <= start <= 0.5 and 0.3 <= utterance.duration - end <= 0.81
        assert utterance.extra["voice"] == utterance.speaker in {str(v) for v in FEW}
    one = synthesise(SENTENCES, FEW, tmp_path / "b", 5, split="dev", workers=1)
    assert sets(tmp_path / "a") == sets(tmp_path / "b"), "threads change nothing"
    assert one.read_text() == manifest.read_text()
    synthesise(SENTENCES, FEW, tmp_path / "c", 6)
    assert sets(tmp_path / "c") != sets(tmp_path / "a"), "another seed"


@needs_voices
def test_an_interrupted_corpus_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken, limit = [], 2

    def counted(text: str, voice: Voice, **settings: Any) -> synthesis.Spoken:
        spoken.append(text)
        if len(spoken) > limit:
            raise KeyboardInterrupt
        return speak(text, voice, **settings)

    monkeypatch.setattr(synthesis, "speak", counted)
    with pytest.raises(KeyboardInterrupt):
        synthesise(SENTENCES, FEW, tmp_path / "a", workers=1)
    assert not (tmp_path / "a" / "manifest.jsonl").exists()
    notes = tmp_path / "a" / "journal.jsonl"
    done = len(notes.read_text().split("\n")) - 1
    assert 1 <= done <= 2
    notes.write_text(notes.read_text() + '{"number": 3, "voi')  # cut by the interruption
    spoken, limit = [], 99
    synthesise(SENTENCES, FEW, tmp_path / "a", workers=1)
    assert len(spoken) == 4 - done
    monkeypatch.undo()
    synthesise(SENTENCES, FEW, tmp_path / "b")
    assert sets(tmp_path / "a") == sets(tmp_path / "b")
    spoken = []
    monkeypatch.setattr(synthesis, "speak", counted)
    synthesise(SENTENCES, FEW, tmp_path / "a")
    assert not spoken, "a complete corpus is left as it is"
    synthesise(SENTENCES[:2], FEW, tmp_path / "a")
    assert len(read_manifest(tmp_path / "a")) == 2 and len(spoken) == 2


@needs_voices
def test_a_noisy_corpus(tmp_path: Path) -> None:
    noise = AugmentConfig(noise=1.0, snr_db=(20, 20), synthetic=1.0)
    manifest = synthesise(SENTENCES[:1], FEW, tmp_path, noise=noise)
    record = json.loads(manifest.read_text())
    samples = read_audio(tmp_path / record["audio"]).astype(float)
    before = samples[: int(record["speech_start"] * 16000)]
    ratio = 10 * np.log10((samples**2).mean() / (before**2).mean())
    assert ratio == pytest.approx(20, abs=2), "noise is under the silence too"
    with pytest.raises(ConfigError, match="speeds must be 1"):
        synthesise(SENTENCES, FEW, tmp_path / "b", noise=AugmentConfig(speeds=(0.9,)))


def test_nothing_to_say(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one sentence"):
        synthesise([], FEW, tmp_path)
    with pytest.raises(DataError, match="at least one sentence"):
        synthesise(["hi"], [], tmp_path)
