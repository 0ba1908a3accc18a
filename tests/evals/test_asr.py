"""Evaluation of speech recognition: figures by hand, what was done before Ctrl-C, what failed."""

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from solomonic.core import ConfigError, DataError
from solomonic.evals.asr import AsrConfig, choose, evaluate
from solomonic.evals.asr_report import Decoded, page, save_report, summarise
from solomonic.speech.data.manifest import Utterance, write_manifest
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.lattice import best_path, chain, oracle
from solomonic.speech.recognizer import Recognizer
from speech_tiny import RATE, command, silence, speech, tiny_model

QUICK = AsrConfig(samples=50)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(tiny_model(), DecodeConfig(beam=3))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, recognizer: Recognizer) -> Path:
    """Two sets of three; in one the texts are exactly what the model hears."""
    tmp_path = tmp_path_factory.mktemp("corpus")
    lines = []
    for seed in range(6):
        audio = tmp_path / f"{seed}.wav"
        samples = command(seed=seed, after=1.4)
        soundfile.write(audio, samples, RATE)
        heard = recognizer.transcribe(audio).text
        lines.append(
            Utterance(
                audio=audio,
                duration=len(samples) / RATE,
                text=heard.upper() if seed < 3 else f"{heard} x",
                speaker=f"s{seed}",
                split="test" if seed != 5 else "train",
                source="right" if seed < 3 else "wrong",
                extra={"speech_start": 0.4, "speech_end": 1.6} if seed < 2 else {},
            )
        )
    write_manifest(tmp_path / "manifest.jsonl", lines)
    return tmp_path


@pytest.fixture
def corpus(recordings: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(recordings, tmp_path / "corpus"))


def test_figures_of_each_set(recognizer: Recognizer, corpus: Path) -> None:
    report = evaluate(recognizer, corpus, config=QUICK.replace(greedy=True))
    assert list(report.sets) == ["right", "wrong", "all"]
    right, wrong, both = report.sets.values()
    assert (right.wer.wer.value, right.wer.ser.value) == (0.0, 0.0)
    assert (wrong.wer.substitutions, wrong.wer.deletions, wrong.wer.insertions) == (0, 2, 0)
    assert wrong.wer.ser.value == 1.0
    assert both.wer.words == right.wer.words + wrong.wer.words
    assert both.wer.wer.value == pytest.approx(2 / both.wer.words)
    assert right.greedy is not None and right.greedy.wer.value >= 0
    assert right.audio_seconds == pytest.approx(9)
    assert 0 < right.real_time_factor < 50


def test_lattices_are_scored_as_they_would_be_sent(recognizer: Recognizer, corpus: Path) -> None:
    found = evaluate(recognizer, corpus, config=QUICK).sets["wrong"]
    lattice = found.lattice
    assert lattice is not None
    assert lattice.oracle_wer <= found.wer.wer.value
    assert lattice.density >= 1
    assert 10 < lattice.bytes_mean <= lattice.bytes_max < 1000
    assert lattice.bytes_per_second == pytest.approx(lattice.bytes_mean / 3)
    without = evaluate(recognizer, corpus, config=QUICK.replace(lattices=False), limit=1)
    assert without.sets["wrong"].lattice is None


def test_delays_only_where_times_are_known(recognizer: Recognizer, corpus: Path) -> None:
    report = evaluate(recognizer, corpus, config=QUICK)
    right, wrong = report.sets["right"], report.sets["wrong"]
    assert (wrong.endpoints, wrong.delays) == (None, {})
    assert right.endpoints is not None and right.endpoints.utterances == 2
    # The rule waits for 1.2 s of silence behind the last sound or the last label.
    assert 1200 <= right.delays["end of speech to final P50"] < 1400
    assert 0 < right.delays["first word P50"] < 1200
    assert -1200 < right.delays["last word P50"] < 400
    assert right.endpoints.reasons == {"rule: 1.2 s of silence after speech": 2}


def test_silence_can_be_put_behind_close_cut_recordings(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate((silence(0.3, 1e-3), speech(0.8))), RATE)
    line = Utterance(audio=tmp_path / "a.wav", duration=1.1, text="x", extra={"speech_end": 1.1})
    write_manifest(tmp_path / "m.jsonl", [line])
    found = evaluate(recognizer, tmp_path / "m.jsonl", None, QUICK)
    (only,) = found.sets.values()
    assert math.isinf(only.delays["end of speech to final P50"])
    assert "never" in dict(found.tables())["Speed and delay"]
    found = evaluate(recognizer, tmp_path / "m.jsonl", None, QUICK.replace(tail=2.0))
    (only,) = found.sets.values()
    assert 1100 <= only.delays["end of speech to final P50"] < 1500
    assert only.audio_seconds == pytest.approx(3.1)


def test_personal_words_of_all_or_of_one(recognizer: Recognizer, corpus: Path) -> None:
    """A recording's own list comes first; without any list there is no such figure."""
    assert evaluate(recognizer, corpus, config=QUICK, limit=1).sets["all"].biased is None
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    lines[0]["bias"] = ["Kettle"]
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = evaluate(recognizer, corpus, config=QUICK, bias=["weather"])
    assert [d.phrases for d in own.decoded] == [("kettle",)] + [("weather",)] * 4
    biased = own.sets["all"].biased
    assert biased is not None and biased.utterances == 5


def test_interrupted_gives_what_was_done(recognizer: Recognizer, corpus: Path) -> None:
    def stop(found: Decoded, done: int, total: int) -> None:
        assert total == 5
        if done == 2:
            raise KeyboardInterrupt

    report = evaluate(recognizer, corpus, config=QUICK, progress=stop)
    assert (report.interrupted, len(report.decoded), report.total) == (True, 2, 5)
    assert list(report.sets) == ["right"]


def test_interrupted_before_anything(
    recognizer: Recognizer, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Recognizer, "create_stream", stop)
    with pytest.raises(KeyboardInterrupt):
        evaluate(recognizer, corpus, config=QUICK)


def test_what_cannot_be_read_is_listed(recognizer: Recognizer, corpus: Path) -> None:
    (corpus / "1.wav").write_text("no audio")
    report = evaluate(recognizer, corpus, config=QUICK)
    assert len(report.decoded) == 4
    ((audio, reason),) = report.failed
    assert audio == str(corpus / "1.wav")
    assert "as audio" in reason
    (corpus / "2.wav").unlink()
    (corpus / "3.wav").unlink()
    with pytest.raises(DataError, match="2 of 5 recordings are missing.*2.wav.*3.wav"):
        evaluate(recognizer, corpus)


def test_a_limit_is_spread_over_each_set() -> None:
    lines = [
        Utterance(audio=Path(str(i)), duration=1.0, source="a" if i < 10 else "b")
        for i in range(13)
    ]
    assert [u.audio.name for u in choose(lines, 2)] == ["0", "9", "10", "12"]
    assert [u.audio.name for u in choose(lines, 4)] == ["0", "3", "6", "9", "10", "11", "12"]
    assert choose(lines, None) == lines
    with pytest.raises(ConfigError, match="leaves none"):
        choose(lines, 0)


def test_lattices_of_several_utterances_become_one(recognizer: Recognizer) -> None:
    result = recognizer.transcribe(np.concatenate((command(seed=1), command(seed=2))))
    lattices = [part.lattice for part in result.utterances if part.lattice is not None]
    assert len(lattices) == 2
    whole = chain(lattices)
    parts = [best_path(lattice) for lattice in lattices]
    assert best_path(whole).text == " ".join(part.text for part in parts)
    assert best_path(whole).score == pytest.approx(sum(p.score for p in parts), abs=1e-3)
    words = result.text.split()
    assert oracle(whole, words)[0] == 0
    assert oracle(whole, [*words, "extra"])[0] == 1
    assert chain(lattices[:1]) is lattices[0]


def made(**changes: Any) -> Decoded:
    item = Decoded(
        audio="a.wav", source="set", reference="<b> & c", hypothesis="b", duration=2.0, seconds=0.1
    )
    return dataclasses.replace(item, **changes)


def test_reports_are_written_as_pages_and_json(tmp_path: Path) -> None:
    report = summarise([made()], failed=[("bad.wav", "no <audio>")], interrupted=True, total=9)
    about = {"model": "x<y"}
    saved = json.loads(save_report(report, tmp_path / "r.json", about).read_text())
    assert saved["model"] == "x<y"
    assert saved["sets"]["set"]["wer"]["wer"]["value"] == pytest.approx(2 / 3)
    assert saved["sets"]["set"]["lattice"] is None
    assert saved["decoded"][0]["hypothesis"] == "b"
    assert (saved["interrupted"], saved["recordings"], saved["total"]) == (True, 1, 9)
    text = save_report(report, tmp_path / "r.html", about).read_text()
    assert text == page(report, about)
    for part in ("x&lt;y", "1 of 9 recordings", "no &lt;audio&gt;", "<td>66.7</td>", "b and c"):
        assert part in text
    assert "<b>" not in text


@pytest.mark.parametrize("bad", [{"tail": -1.0}, {"tail": 61.0}, {"samples": 0}])
def test_settings_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        AsrConfig(**bad)


def test_progress_is_told_of_each(recognizer: Recognizer, corpus: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(
        recognizer, corpus, config=QUICK, limit=1, progress=lambda _, *place: seen.append(place)
    )
    assert seen == [(1, 2), (2, 2)]
