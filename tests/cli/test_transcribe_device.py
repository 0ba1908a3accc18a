"""`solomonic transcribe` and `listen` with a device file: the native core, or a sentence."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from needs import needs_recognizer
from solomonic.speech import native_recognizer
from solomonic.speech.lattice import decode_message
from solomonic.speech.native_recognizer import NativeRecognizer
from speech_tiny import RATE, command, save_tiny

from .conftest import Done

Cli = Callable[..., Done]
pytestmark = needs_recognizer
MODEL = Path(__file__).parents[2] / "native/tests/data/speech.solo"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "two.flac"
    soundfile.write(path, np.concatenate((command(seed=2), command(seed=3))), RATE)
    return path


def test_text_json_and_lattices(cli: Cli, audio: Path, tmp_path: Path) -> None:
    expected = NativeRecognizer(MODEL).transcribe(audio)
    assert expected.text
    assert cli("transcribe", audio, "--model", MODEL) == Done(0, f"{expected.text}\n", "")
    record = cli("transcribe", audio, "--model", MODEL, "--format", "json").record
    assert record["text"] == expected.text
    assert record["engine"]["runtime"].startswith("native core, ")
    out = tmp_path / "out"
    options = ("--format", "lattice", "--lattice-format", "wire", "--out", out)
    assert cli("transcribe", audio, "--model", MODEL, *options).status == 0
    lattice = decode_message((out / "two.slm").read_bytes()).lattice
    assert lattice is not None and lattice.arcs > 1


def test_it_says_what_runs(cli: Cli, audio: Path) -> None:
    done = cli("transcribe", audio, "--model", MODEL, "--verbose", "--beam", 2)
    assert done.status == 0
    assert "beam of 2" in done.err and "native core" in done.err
    assert "greedy" in cli("transcribe", audio, "--model", MODEL, "--verbose", "--greedy").err


def test_personal_words(cli: Cli, audio: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("stop :8\n")
    assert "stop" not in cli("transcribe", audio, "--model", MODEL).out.split()
    done = cli("transcribe", audio, "--model", MODEL, "--bias", tmp_path / "words.txt")
    assert done.status == 0 and "stop" in done.out.split()


def test_listening(cli: Cli, audio: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = soundfile.read(audio)[0]
    raw = np.round(samples * 32767).astype("<i2").tobytes()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    done = cli("listen", "--stdin", "--model", MODEL, "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert done.status == 0
    assert lines[0]["engine"]["runtime"].startswith("native core")
    assert [line["event"] for line in lines].count("final") == 2


def test_what_is_refused(cli: Cli, audio: Path, tmp_path: Path) -> None:
    cases = [
        (("--model", audio), "byte"),
        (("--model", MODEL, "--device", "cuda"), "--device cuda"),
        (("--model", MODEL, "--greedy", "--beam", 3), "--greedy"),
        (("--model", MODEL, "--beam", 0), "beam"),
    ]
    for options, word in cases:
        done = cli("transcribe", audio, *options)
        assert done.status == 2 and word in done.err and len(done.err.splitlines()) == 1, done
    done = cli("plot", "lattice", audio, "--model", MODEL, "--out", tmp_path / "l.svg")
    assert done.status == 2 and "folder of a model" in done.err


def test_no_native_core_is_said(
    cli: Cli, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_recognizer, "native", SimpleNamespace(load=lambda: None))
    done = cli("transcribe", audio, "--model", MODEL)
    assert done.status == 2 and "native core, which is not built here" in done.err
    assert cli("transcribe", audio, "--model", save_tiny(tmp_path / "folder")).status == 0
