"""`solomonic train context` and `train endpoint`: what a recogniser learns besides."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from solomonic.speech.pretrained import load_speech_model, save_speech_model
from solomonic.text.pieces import WordPieces
from speech_tiny import save_tiny, tiny_model
from tone_speech import write_corpus

from .conftest import Done

pytest.importorskip("soundfile")
pytest.importorskip("kaldi_native_fbank")
Cli = Callable[..., Done]


def test_context_is_trained_and_resumed(cli: Cli, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "tones", [("train", 8)])
    said = manifest.read_text()
    silent = {**json.loads(said.splitlines()[0]), "text": None}
    manifest.write_text(said + json.dumps(silent) + "\n")
    words = [json.loads(line)["text"] for line in said.splitlines()]
    save_speech_model(tmp_path / "model", tiny_model(WordPieces.train(words, 40)))
    command = ("train", "context", "--data", manifest, "--model", tmp_path / "model")
    more = ("--out", tmp_path / "out", "--set", "frames_per_batch=1200", "--set", "copies=0")
    done = cli(*command, *more, "--steps", 2, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["steps"] == 2
    assert "left out: 1 not transcribed" in done.err.splitlines()
    before, after = (load_speech_model(tmp_path / name).transducer for name in ("model", "out"))
    assert before.pointer is None and after.pointer is not None and after.context is None
    kept = dict(after.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in before.named_parameters())
    assert cli(*command, *more, "--steps", 2).status == 2  # a run is there
    wrong = cli(*command, *more, "--set", "attention=none")
    assert wrong.status == 2 and "choose from joint, frames, both" in wrong.err
    assert cli(*command, *more, "--steps", 3, "--resume").status == 0


@pytest.mark.parametrize("grain", ["piece", "phrase"])
def test_context_of_frames_beside_that_of_the_joint_network(
    grain: str, cli: Cli, tmp_path: Path
) -> None:
    manifest = write_corpus(tmp_path / "tones", [("train", 8)])
    words = [json.loads(line)["text"] for line in manifest.read_text().splitlines()]
    save_speech_model(tmp_path / "model", tiny_model(WordPieces.train(words, 40)))
    done = cli("train", "context", "--data", manifest, "--model", tmp_path / "model",
               "--out", tmp_path / "out", "--set", "frames_per_batch=1200", "--set", "copies=0",
               "--set", "attention=both", "--set", f"grain={grain}", "--steps", 1)  # fmt: skip
    assert done.status == 0, done.err
    net = load_speech_model(tmp_path / "out").transducer
    assert net.pointer is not None and net.context is not None
    assert net.context.config.grain == grain


def test_context_without_a_recogniser(cli: Cli, tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "tones", [("train", 2)])
    done = cli("train", "context", "--data", manifest, "--model", tmp_path, "--out", tmp_path / "x")
    assert done.status == 2
    assert done.err.startswith(f"error: {tmp_path} holds no config.json")
    assert not (tmp_path / "x" / "checkpoints").exists()


def test_endpoint_from_a_file_of_commands(cli: Cli, tmp_path: Path) -> None:
    if not (shutil.which("espeak-ng") and shutil.which("flite")):
        pytest.skip("needs espeak-ng and flite")
    model = save_tiny(tmp_path / "model")
    (tmp_path / "commands.txt").write_text("Stop!\n\nturn on the kitchen lights\ncall 911\n")
    done = cli("train", "endpoint", "--model", model, "--out", tmp_path / "out", "--epochs", 2,
               "--sentences", tmp_path / "commands.txt", "--weights", "int8", "--json")  # fmt: skip
    assert done.status == 0, done.err
    assert json.loads(done.out)["commands"] == 2
    assert done.err.splitlines()[0] == "left out: 1 with digits or such"
    loaded = load_speech_model(tmp_path / "out")
    assert loaded.end is not None and loaded.weights == "int8"
    assert (tmp_path / "out" / "README.md").read_text() == "# tiny\n"


@pytest.mark.parametrize(
    ("text", "said"), [("\n!\n", "holds no sentence of words"), (None, "cannot be read")]
)
def test_endpoint_without_sentences(cli: Cli, tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "commands.txt"
    if text is not None:
        file.write_text(text)
    done = cli("train", "endpoint", "--model", save_tiny(tmp_path / "model"), "--out",
               tmp_path / "out", "--sentences", file)  # fmt: skip
    assert done.status == 2
    assert said in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
