"""Each kind of bad input the issue names: its exact sentence, status 2, nothing on stdout."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from solomonic.recipes.lm import load_run

from .conftest import Done

Cli = Callable[..., Done]
KINDS = (
    "T (full attention), W (sliding-window attention), M (selective state-space model "
    "(Mamba-2/SSD)), D (gated delta rule), L (LSTM), F (B'MOJO-F: window and fading memory), B "
    "(B'MOJO: window, fading and eidetic memory)"
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pattern", "BX"], f"pattern letter 'X' is unknown; use {KINDS}."),
        (["--pattern", ""], "pattern is empty; give one letter a layer, such as 'BBBB'."),
        (
            ["--set", "fading_slots=0"],
            "fading_slots = 0 leaves the state-space model of a B'MOJO layer without gradient; "
            "set fading_slots to at least 1 or use pattern 'W' or 'T'.",
        ),
        (
            ["--window", "8", "--set", "refresh_period=16"],
            "window_size = 8 is shorter than refresh_period = 16; tokens would leave the window "
            "before they could be kept, so lower refresh_period or widen the window.",
        ),
        (
            ["--heads", "5"],
            "num_attention_heads = 5 does not divide hidden_size = 32; choose heads that divide "
            "the width or set head_dim.",
        ),
        (
            ["--layers", "3", "--pattern", "BB"],
            "num_hidden_layers = 3 is not a multiple of the 2 letters of pattern 'BB'; change one "
            "of them.",
        ),
        (["--minutes", "0"], "--minutes 0.0 is no time to train in; give a positive number."),
        (["--set", "lr"], "--set 'lr' is no setting; write it as in eidetic_slots=16."),
        (
            ["--set", "eidetic_slot=3"],
            "there is no setting 'eidetic_slot'; did you mean 'eidetic_slots'?",
        ),
        (
            ["--set", "valid_fraction=x"],
            "valid_fraction = 'x' is not a number; give such a value.",
        ),
        (["--device", "tpu9"], "device 'tpu9' cannot be used here; leave --device out, or give "
         "'cpu'."),
    ],
)  # fmt: skip
def test_impossible_settings(
    arguments: list[str], message: str, cli: Cli, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = cli("train", "lm", "--data", text_file, "--out", out, "--recipe", "debug", *arguments)
    assert done == Done(2, "", f"error: {message}\n")
    assert not out.exists()


def test_an_unknown_recipe(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    done = cli("train", "lm", "--data", text_file, "--out", tmp_path / "out", "--recipe", "huge")
    message = "error: recipe 'huge' is unknown; use one of small, base, debug.\n"
    assert done == Done(2, "", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file {} is empty; give one with text in it."),
        (b"\x7fELF\0\0\1", "the file {} is binary, not text; convert it to UTF-8 text first."),
        (None, "there is no text at {}; check the path."),
    ],
    ids=["empty", "binary", "missing"],
)
def test_no_text_to_train_on(content: bytes | None, message: str, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    if content is not None:
        file.write_bytes(content)
    done = cli("train", "lm", "--data", file, "--out", tmp_path / "out", "--recipe", "debug")
    assert done == Done(2, "", f"error: {message.format(file)}\n")


@pytest.fixture
def damaged(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model, for tests to damage."""
    return shutil.copytree(model_dir, tmp_path / "damaged")


@pytest.mark.parametrize("command", [("generate",), ("inspect",), ("eval", "lm")])
def test_a_truncated_checkpoint(
    command: tuple[str, ...], cli: Cli, damaged: Path, text_file: Path
) -> None:
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = cli(*command, damaged, *(["--data", text_file] if "lm" in command else []))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"error: {weights} is cut short or corrupted (")
    assert done.err.endswith("copy it again or take the checkpoint of the training run.\n")
    assert done.err.count("\n") == 1


def test_a_foreign_checkpoint(cli: Cli, damaged: Path) -> None:
    config = damaged / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "llama"}))
    message = (
        f"error: {config} describes a model of type 'llama', not 'bmojo'; give a model that "
        "solomonic trained.\n"
    )
    assert cli("generate", damaged) == Done(2, "", message)


def test_no_checkpoint_at_all(cli: Cli, tmp_path: Path) -> None:
    message = (
        f"error: {tmp_path} holds no config.json, so there is no trained model; give the --out of "
        "`solomonic train lm` or another saved model.\n"
    )
    assert cli("inspect", tmp_path) == Done(2, "", message)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (
            "1,2,257",
            "token 257 at position 2 of the prompt is outside the vocabulary of 257 tokens (0 to "
            "256); encode the prompt with the tokenizer saved beside the model.",
        ),
        (
            "-1",
            "token -1 at position 0 of the prompt is outside the vocabulary of 257 tokens (0 to "
            "256); encode the prompt with the tokenizer saved beside the model.",
        ),
        (
            str(2**70),
            f"token {2**70} of --prompt-tokens is outside the vocabulary of 257 tokens (0 to 256).",
        ),
        ("1,x", "--prompt-tokens '1,x' is no list of whole numbers; write them as in 1,2,3."),
        ("", "--prompt-tokens is empty; give whole numbers as in 1,2,3."),
    ],
)
def test_prompt_tokens_outside_the_vocabulary(
    tokens: str, message: str, cli: Cli, model_dir: Path
) -> None:
    done = cli("generate", model_dir, "--prompt-tokens", tokens)
    assert done == Done(2, "", f"error: {message}\n")


def test_a_full_disk_leaves_the_old_checkpoint(
    cli: Cli, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    train = ("train", "lm", "--data", text_file, "--out", out)
    assert cli(*train, "--recipe", "debug", "--steps", "4").status == 0
    checkpoint = out / "checkpoints" / "step-00000004"
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("solomonic.train.checkpoint.save_file", full)
        done = cli(*train, "--resume", "--steps", "6")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"error: cannot write {out / 'checkpoints' / 'step-00000006'} (No space left on device): "
        f"the earlier checkpoint {checkpoint} is unharmed; free some space and resume.\n"
    )
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == before
    safetensors.torch.load_file(out / "model.safetensors")
    done = cli(*train, "--resume", "--steps", "6", "--json")
    assert (done.status, done.record["steps"]) == (0, 6)


def test_a_run_is_never_overwritten(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train = ("train", "lm", "--data", text_file, "--out", out)
    assert cli(*train, "--recipe", "debug", "--steps", "2").status == 0
    assert cli(*train, "--recipe", "debug") == Done(
        2,
        "",
        f"error: {out} already holds a run (step-00000002); add --resume to go on with it or "
        "choose another --out.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--slots", "3"],
            "eidetic_slots = 3 differs from 8 of the run being resumed; leave it out or choose "
            "another --out.",
        ),
        (
            ["--length", "8"],
            "length = 8 differs from 64 of the run being resumed; leave it out or choose another "
            "--out.",
        ),
        (
            ["--set", "lr=0.5"],
            "lr = 0.5 differs from 0.002 of the run being resumed, which would change its curve; "
            "set lr = 0.002 or choose another directory.",
        ),
        (
            ["--recipe", "debug"],
            "--recipe starts a run, and --resume goes on with one; leave --recipe out.",
        ),
    ],
)
def test_a_resumed_run_stays_the_same(
    arguments: list[str], message: str, cli: Cli, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    train = ("train", "lm", "--data", text_file, "--out", out)
    assert cli(*train, "--recipe", "debug", "--steps", "2").status == 0
    before = load_run(out)
    assert cli(*train, "--resume", *arguments) == Done(2, "", f"error: {message}\n")
    assert load_run(out) == before
