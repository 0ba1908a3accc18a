"""`solomonic transcribe`: every format, personal words, standard input, and all that is bad."""

import io
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from needs import needs_recognizer
from solomonic.speech.decode import DecodeConfig
from solomonic.speech.device_file import write_device_model
from solomonic.speech.lattice import best_path, decode_message, from_kaldi, from_slf, load_openfst
from solomonic.speech.recognizer import Recognizer
from solomonic.speech.result import Result
from speech_tiny import RATE, attentive, command, save_tiny, silence

from .conftest import Done

Cli = Callable[..., Done]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("speech") / "model")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, the second of two utterances."""
    folder = tmp_path_factory.mktemp("audio")
    soundfile.write(folder / "one.wav", command(seed=1), RATE)
    soundfile.write(folder / "two.flac", np.concatenate((command(seed=2), command(seed=3))), RATE)
    return folder


@pytest.fixture(scope="module")
def expected(model: Path, audio: Path) -> dict[str, Result]:
    recognizer = Recognizer.from_pretrained(model)
    return {name: recognizer.transcribe(audio / name) for name in ("one.wav", "two.flac")}


@pytest.fixture
def transcribe(cli: Cli, model: Path) -> Cli:
    return lambda *arguments: cli("transcribe", "--model", model, *arguments)


def feed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes on standard input."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_the_text_and_nothing_else(
    transcribe: Cli, audio: Path, expected: dict[str, Result]
) -> None:
    assert expected["one.wav"].text
    done = transcribe(audio / "one.wav")
    assert done == Done(0, f"{expected['one.wav'].text}\n", "")


def test_several_recordings_have_their_names(
    transcribe: Cli, audio: Path, expected: dict[str, Result]
) -> None:
    paths = [audio / name for name in expected]
    lines = "".join(f"{audio / name}: {found.text}\n" for name, found in expected.items())
    assert transcribe(*paths) == Done(0, lines, "")


def test_alternatives_with_their_scores(
    transcribe: Cli, audio: Path, expected: dict[str, Result]
) -> None:
    lines = transcribe(audio / "one.wav", "--nbest", 3).out.splitlines()
    wanted = [f"{other.score:.2f} {other.text}" for other in expected["one.wav"].nbest[:3]]
    assert lines == wanted
    assert len(transcribe(audio / "two.flac", "--nbest", 2).out.splitlines()) == 4


def test_json_lines(transcribe: Cli, audio: Path, expected: dict[str, Result]) -> None:
    lines = transcribe(*(audio / name for name in expected), "--format", "json").out.splitlines()
    records = [json.loads(line) for line in lines]
    assert [r["audio"] for r in records] == [str(audio / name) for name in expected]
    for record, found in zip(records, expected.values(), strict=True):
        engine = record.pop("engine")
        assert engine["parameters"] > 30_000
        assert (engine["weights"], engine["device"]) == ("float32", "cpu")
        assert engine["search"].startswith("beam of ")
        assert any(line.startswith("ssd: ") for line in engine["kernels"])
        del record["audio"]
        assert record == json.loads(json.dumps(found.to_json()))
    assert len(records[1]["utterances"]) == 2


def test_verbose_names_what_runs(transcribe: Cli, audio: Path, model: Path) -> None:
    done = transcribe(audio / "one.wav", "--verbose", "--greedy")
    first, *kernels = done.err.splitlines()
    assert first.startswith(f"{model}: ")
    assert first.endswith("float32 weights, on cpu; greedy; end-pointing by rules")
    assert kernels and all(line.startswith("  ") for line in kernels)
    assert done.out.count("\n") == 1


def test_subtitles(transcribe: Cli, audio: Path, expected: dict[str, Result]) -> None:
    done = transcribe(audio / "two.flac", "--format", "srt")
    assert done == Done(0, expected["two.flac"].to_srt(), "")
    assert done.out.startswith("1\n00:00:0")


def test_lattices_in_every_format(
    transcribe: Cli, audio: Path, expected: dict[str, Result], tmp_path: Path
) -> None:
    """What is written is read back, and its best path is the lattice's."""
    lattice = expected["one.wav"].lattice
    assert lattice is not None
    best = best_path(lattice)
    ask = (audio / "one.wav", "--format", "lattice", "--out", tmp_path, "--lattice-format")
    for name, ending in (("openfst", ".fst.txt"), ("slf", ".slf"), ("kaldi", ".lat.txt"),
                         ("wire", ".slm"), ("svg", ".svg")):  # fmt: skip
        done = transcribe(*ask, name)
        assert done == Done(0, "", f"{tmp_path / f'one{ending}'}\n")
    read = (
        load_openfst(tmp_path / "one"),
        from_slf((tmp_path / "one.slf").read_text()),
        from_kaldi((tmp_path / "one.lat.txt").read_text())["one"],
        decode_message((tmp_path / "one.slm").read_bytes()).lattice,
    )
    for found in read:
        assert found is not None
        assert best_path(found).text == best.text
        assert best_path(found).score == pytest.approx(best.score, abs=0.2)
    assert (tmp_path / "one.svg").read_text().startswith("<svg ")
    assert (tmp_path / "one.slm").stat().st_size < 1000
    shown = transcribe(audio / "one.wav", "--format", "lattice").out
    assert shown == (tmp_path / "one.fst.txt").read_text()


def test_a_lattice_of_silence(transcribe: Cli, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", silence(1.0), RATE)
    found = transcribe(tmp_path / "a.wav", "--format", "lattice", "--lattice-format", "slf")
    assert best_path(from_slf(found.out)).text == ""


@pytest.mark.parametrize(("form", "ending"), [("text", ".txt"), ("json", ".json"), ("srt", ".srt")])
def test_a_file_a_recording(
    form: str, ending: str, transcribe: Cli, audio: Path, expected: dict[str, Result],
    tmp_path: Path,
) -> None:  # fmt: skip
    out = tmp_path / "new" / "folder"
    done = transcribe(*(audio / name for name in expected), "--format", form, "--out", out)
    assert done.out == ""
    assert {path.name for path in out.iterdir()} == {f"one{ending}", f"two{ending}"}
    if form == "text":
        assert (out / "two.txt").read_text() == f"{expected['two.flac'].text}\n"


def test_personal_words_reach_the_search(transcribe: Cli, audio: Path, tmp_path: Path) -> None:
    """Lists, and classes opened by a carrier; an empty list changes nothing."""
    plain = transcribe(audio / "one.wav", "--format", "json").out
    (tmp_path / "empty.txt").write_text("\n# nobody\n")
    assert transcribe(audio / "one.wav", "--format", "json", "--bias", tmp_path / "empty.txt") == (
        Done(0, plain, "")
    )
    (tmp_path / "list.txt").write_text("sev mm :20\n")
    listed = transcribe(audio / "one.wav", "--format", "json", "--bias", tmp_path / "list.txt")
    assert any(other["bias"] > 0 for other in json.loads(listed.out)["nbest"])
    (tmp_path / "names.txt").write_text("mm :20\nweather\n")
    opened = transcribe(
        audio / "one.wav", "--format", "json", "--class", f"name={tmp_path / 'names.txt'}",
        "--carrier", "sev @name", "--carrier", "(call|ring) @name",
    )  # fmt: skip
    assert opened.status == 0


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_raw_audio_on_standard_input(
    encoding: str, rate: int, transcribe: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = command(rate, seed=1)
    if encoding == "s16le":
        samples = np.round(samples * 32767).astype("<i2")
        data, heard = samples.tobytes(), samples.astype(np.float32) / 32768
    else:
        data, heard = samples.astype("<f4").tobytes(), samples
    feed(monkeypatch, data + b"\0")  # the reader was cut inside a sample
    wanted = Recognizer.from_pretrained(model).transcribe(heard, rate)
    done = transcribe("-", "--rate", rate, "--encoding", encoding)
    assert done == Done(0, f"{wanted.text}\n", "")


def test_one_utterance_and_one_hypothesis(transcribe: Cli, audio: Path, model: Path) -> None:
    greedy = Recognizer.from_pretrained(model, decode=DecodeConfig(method="greedy"))
    wanted = greedy.transcribe(audio / "two.flac", endpointing=False)
    done = transcribe(audio / "two.flac", "--no-endpoint", "--greedy", "--format", "json")
    assert "utterances" not in done.record
    assert done.record["text"] == wanted.text
    assert done.record["engine"]["search"] == "greedy"


# What is bad: each kind through the command, its sentence, its status, and nothing half-written.


def not_audio(folder: Path) -> Path:
    (folder / "bad.wav").write_text("this is a letter, not a recording\n" * 20)
    return folder / "bad.wav"


def empty_file(folder: Path) -> Path:
    (folder / "bad.wav").touch()
    return folder / "bad.wav"


def no_samples(folder: Path) -> Path:
    soundfile.write(folder / "bad.wav", np.zeros(0, np.float32), RATE)
    return folder / "bad.wav"


def cut_short(folder: Path) -> Path:
    soundfile.write(folder / "whole.flac", command(seed=1), RATE)
    (folder / "bad.flac").write_bytes((folder / "whole.flac").read_bytes()[:20000])
    return folder / "bad.flac"


def with_nan(folder: Path) -> Path:
    samples = command(seed=1)
    samples[30000] = math.nan
    soundfile.write(folder / "bad.wav", samples, RATE, subtype="FLOAT")
    return folder / "bad.wav"


def not_there(folder: Path) -> Path:
    return folder / "bad.wav"


def a_folder(folder: Path) -> Path:
    (folder / "bad.wav").mkdir()
    return folder / "bad.wav"


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (not_audio, "error: cannot read {0} as audio (Error opening '{0}': Format not recognised); "
     "give a WAV, FLAC, Ogg, Opus or MP3 file.\n"),
    (empty_file, "error: cannot read {0} as audio (it is empty); give a WAV, FLAC, Ogg, Opus or "
     "MP3 file.\n"),
    (no_samples, "error: {0} holds no sample; give a recording that is longer than nothing.\n"),
    (cut_short, "error: cannot read {0} as audio (Error : flac decoder lost sync); give a WAV, "
     "FLAC, Ogg, Opus or MP3 file.\n"),
    (with_nan, "error: {0} holds samples that are not finite (NaN or infinite); save it again.\n"),
    (not_there, "error: there is no recording {0}; give the path of an audio file.\n"),
    (a_folder, "error: {0} is a folder; give the audio files in it, such as {0}/*.wav.\n"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "message"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_bad_recordings(
    make: Callable[[Path], Path], message: str, transcribe: Cli, tmp_path: Path
) -> None:
    bad, out = make(tmp_path), tmp_path / "out"
    assert transcribe(bad, "--out", out) == Done(2, "", message.format(bad))
    assert list(out.iterdir()) == []


def test_a_bad_recording_does_not_stop_the_others(
    transcribe: Cli, audio: Path, expected: dict[str, Result], tmp_path: Path
) -> None:
    paths = [not_audio(tmp_path), audio / "one.wav", tmp_path / "none.wav"]
    done = transcribe(*paths)
    assert (done.status, done.out) == (2, f"{paths[1]}: {expected['one.wav'].text}\n")
    first, second = done.err.splitlines()
    assert first.startswith(f"error: cannot read {paths[0]} as audio")
    assert second == (f"error: there is no recording {paths[2]}; give the path of an audio file.")


def eight_bit(samples: np.ndarray) -> dict[str, Any]:
    return {"data": samples, "subtype": "PCM_U8"}


def seven_channels(samples: np.ndarray) -> dict[str, Any]:
    return {"data": np.stack([samples] * 7, axis=1), "subtype": "FLOAT"}


@pytest.mark.parametrize("make", [eight_bit, seven_channels])
def test_unusual_recordings_are_read(
    make: Callable[[np.ndarray], dict[str, Any]],
    transcribe: Cli,
    expected: dict[str, Result],
    tmp_path: Path,
) -> None:
    soundfile.write(tmp_path / "a.wav", samplerate=RATE, **make(command(seed=1)))
    done = transcribe(tmp_path / "a.wav")
    assert (done.status, done.err) == (0, "")
    assert done.out.strip()
    if make is seven_channels:
        assert done.out == f"{expected['one.wav'].text}\n"


def test_one_sample(transcribe: Cli, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.5]), RATE)
    assert transcribe(tmp_path / "a.wav") == Done(0, "\n", "")
    done = transcribe(tmp_path / "a.wav", "--format", "json")
    assert (done.record["text"], done.record["words"]) == ("", [])


def test_clipped_audio(transcribe: Cli, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.clip(command(seed=1) * 20, -1, 1), RATE)
    done = transcribe(tmp_path / "a.wav")
    assert (done.status, done.err) == (0, "")
    assert done.out.strip()


def test_long_silence_says_nothing(transcribe: Cli, tmp_path: Path) -> None:
    """Ten minutes here; tests/speech/test_recognizer.py looks at the memory."""
    soundfile.write(tmp_path / "a.flac", np.zeros(600 * RATE, np.int16), RATE)
    assert transcribe(tmp_path / "a.flac") == Done(0, "\n", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weather\n\n" + "x" * 10_000 + "\n",
         "line 3 of {0} has 10,000 characters; give one phrase a line, at most 1,000 characters."),
        ("a\nweather\n", "1 of 2 phrases cannot be used: 'a' has fewer than 3 letters"),
        ("\0\1", "{0} is binary, not a list of phrases; give one phrase a line."),
        (None, "cannot read the phrases {0} (No such file or directory); give a text file with "
         "one phrase a line."),
    ],
    ids=["long line", "short phrase", "binary", "no file"],
)  # fmt: skip
def test_bad_lists_of_words(
    text: str | None, message: str, transcribe: Cli, audio: Path, tmp_path: Path
) -> None:
    phrases = tmp_path / "list.txt"
    if text is not None:
        phrases.write_text(text)
    done = transcribe(audio / "one.wav", "--bias", phrases, "--out", tmp_path / "out")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: " + message.format(phrases))
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def no_model(folder: Path) -> str:
    shutil.rmtree(folder)
    return f"{folder} holds no config.json, so there is no speech model"


def cut_weights(folder: Path) -> str:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return f"{file} is cut short or corrupted"


def cut_pieces(folder: Path) -> str:
    file = folder / "pieces.model"
    file.write_bytes(file.read_bytes()[:50])
    return f"{file} is cut short or corrupted"


def foreign(folder: Path) -> str:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "whisper"}))
    return f"{config} describes a model of type 'whisper'"


def newer(folder: Path) -> str:
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "version": 99}))
    return f"{config} has version 99"


@pytest.mark.parametrize("damage", [no_model, cut_weights, cut_pieces, foreign, newer])
def test_damaged_and_foreign_models(
    damage: Callable[[Path], str], cli: Cli, model: Path, audio: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    message = damage(copy)
    done = cli("transcribe", "--model", copy, audio / "one.wav", "--out", tmp_path / "out")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {message}")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_on_standard_input(transcribe: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"")
    done = transcribe("-")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: standard input is empty; pipe raw audio into it")
    feed(monkeypatch, np.array([0.0, np.nan], "<f4").tobytes())
    assert "not finite" in transcribe("-", "--encoding", "f32le").err
    feed(monkeypatch, b"\0\0")  # one sample, and too short to begin as a file does
    assert transcribe("-") == Done(0, "\n", "")


@pytest.mark.parametrize(("ending", "kind"), [("wav", "WAV"), ("flac", "FLAC"), ("ogg", "Ogg")])
def test_a_file_on_standard_input_is_not_heard_as_noise(
    ending: str, kind: str, transcribe: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / f"a.{ending}", command(seed=1), RATE)
    feed(monkeypatch, (tmp_path / f"a.{ending}").read_bytes())
    done = transcribe("-")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(
        f"error: standard input is a {kind} file, and raw samples are read there; give the path "
        "of the file instead, or pipe raw audio into it, as in `sox "
    )


def test_a_keyboard_is_no_microphone(transcribe: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=keyboard))
    done = transcribe("-")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: standard input is the keyboard; pipe raw audio into it, ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "xml"], "--format 'xml' is unknown; use one of text, json, srt, lattice."),
        (["--lattice-format", "dot"],
         "--lattice-format 'dot' is unknown; use one of openfst, slf, kaldi, wire, svg."),
        (["b.wav", "--format", "srt"],
         "--format srt of several recordings needs a folder; add --out DIR."),
        (["x/a.wav", "--out", "out"],
         "two recordings are called 'a' and would be written to one file; transcribe them into "
         "folders of their own."),
        (["-", "-"], "standard input can be read once; give '-' once."),
        (["--greedy", "--beam", "4"],
         "--greedy keeps one hypothesis, so --beam has no meaning; leave one out."),
        (["--beam", "0"], "beam = 0 must be at least 1."),
        (["--class", "names"],
         "--class 'names' names no file; write it as in contact=names.txt."),
        (["--carrier", "call @who"],
         "the carriers name '@who', which is not among the classes (none); give its entries, an "
         "empty list if there are none."),
        (["-", "--encoding", "u8"], "raw audio is 'u8'; give one of s16le, f32le."),
    ],
)  # fmt: skip
def test_impossible_wishes(
    options: list[str], message: str, transcribe: Cli, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    first = [] if options[0] == "-" and "--encoding" in options else ["a.wav"]
    assert transcribe(*first, *options) == Done(2, "", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_named(
    transcribe: Cli, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    done = transcribe(audio / "one.wav")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: speech needs soxr, which cannot be loaded (")
    assert done.err.endswith("install it with `pip install 'solomonic[speech]'`.\n")


@needs_recognizer
def test_attention_is_named_and_can_be_left_out(cli: Cli, audio: Path, tmp_path: Path) -> None:
    model, bias = tmp_path / "model.solo", tmp_path / "names.txt"
    write_device_model(model, attentive(), bits=32)
    bias.write_text("kitchen music\nvolume\nbrother\nweather today\n", "utf-8")
    base = ("transcribe", "--model", model, "--bias", bias, "--format", "json", audio / "one.wav")
    both, search = cli(*base).record, cli(*base, "--no-attention").record
    assert both["engine"]["personal_words"] == "search and attention"
    assert search["engine"]["personal_words"] == "search"
    assert both["text"] != search["text"]
    assert "personal_words" not in cli("transcribe", *base[1:3], *base[5:]).record["engine"]
    assert "by search and attention" in cli(*base, "--verbose").err
