"""`solomonic train asr`: what it writes, what it says, and how it goes on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from solomonic.recipes.asr import load_run
from solomonic.speech.recognizer import Recognizer
from tone_speech import say, write_corpus

from .conftest import Done

Cli = Callable[..., Done]


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """A set of a dozen recordings."""
    return write_corpus(tmp_path / "tones").parent


def train(cli: Cli, data: Path, out: Path, *more: object) -> Done:
    """A run of the `debug` recipe without copies."""
    start = [] if "--resume" in more else ["--recipe", "debug", "--copies", 0]
    return cli("train", "asr", "--data", data, "--out", out, "--device", "cpu", *start, *more)


def test_a_model_that_the_recogniser_reads(cli: Cli, tones: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = train(cli, tones, out, "--steps", 4, "--json")
    assert done.status == 0, done.err
    record = done.record
    assert (record["steps"], record["stopped"], record["utterances"]) == (4, "steps", 12)
    assert (record["held_out"], record["pattern"]) == (4, "W")
    assert np.isfinite(record["best"]["loss"]) and record["best"]["eval_labels"] > 4
    lines = done.err.splitlines()
    assert "features: tones-train, 12 of 12 recordings" in lines
    assert "12 recordings, 0.00 h, and 4 held out" in lines
    assert any(line.startswith("4 steps are too few") for line in lines)
    for name in ("config.json", "model.safetensors", "pieces.model", "run.json", "log.jsonl"):
        assert (out / name).is_file()
    audio = say("go left", np.random.default_rng(0))
    assert isinstance(Recognizer.from_pretrained(out).transcribe(audio).text, str)


def test_options_reach_their_places(cli: Cli, tones: Path, tmp_path: Path) -> None:
    options = ("--vocab-size", 36, "--copies", 1, "--seed", 5, "--steps", 1, "--weight",
               "tones=0.5", "--set", "pattern=L", "--set", "longest_seconds=1.4")  # fmt: skip
    done = train(cli, tones, tmp_path / "out", *options)
    assert done.status == 0, done.err
    run = load_run(tmp_path / "out")
    assert run is not None
    assert (run.model.vocab_size, run.copies, run.train.seed, run.model.pattern) == (36, 1, 5, "L")
    assert any(" longer than 1.4 s (copies counted)" in line for line in done.err.splitlines())


def test_a_resumed_run_equals_one_that_ran_through(cli: Cli, tones: Path, tmp_path: Path) -> None:
    # Past the warm steps, so that every loss has its part in it.
    settings = ("--steps", 10, "--set", "save_every=7", "--set", "eval_every=7")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(cli, tones, whole, *settings).status == 0
    shutil.copytree(whole, cut)
    # Cut after step 7 as by a kill: everything later is gone, the vocabulary's size was a wish.
    shutil.rmtree(cut / "checkpoints" / "step-00000010")
    resumed = train(cli, tones, cut, "--resume", "--vocab-size", 40)
    assert resumed.status == 0, resumed.err
    weights = [out / "checkpoints" / "step-00000010" / "state.safetensors" for out in (whole, cut)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_clock_ends_a_run(cli: Cli, tones: Path, tmp_path: Path) -> None:
    done = train(cli, tones, tmp_path / "out", "--minutes", 0.01, "--json")
    assert (done.status, done.record["stopped"]) == (0, "seconds")
    run = load_run(tmp_path / "out")
    assert run is not None and run.train.warmup == 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recipe", "base"), "recipe 'base' is unknown; use one of small, lstm, bmojo, debug"),
        (("--weight", "tones"), "'tones' is no setting"),
        (("--weight", "tones=much"), "--weight tones=much is no number; write it as in an4=1.5"),
        (("--weight", "fsdd=2"), "there is no set 'fsdd' to weigh; the sets are tones"),
        (("--minutes", 0), "--minutes 0.0 is no time to train in"),
        (("--vocab-size", 5), "5 word pieces are too few"),
        (("--set", "pattern=T"), "full attention ('T') would make a stream's state grow"),
        (("--init", "nowhere"), "nowhere holds no config.json, so there is no speech model"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    cli: Cli, tones: Path, tmp_path: Path, options: tuple, message: str
) -> None:
    done = cli("train", "asr", "--data", tones, "--out", tmp_path / "out", *options)
    assert done.status == 2
    assert message in done.err and len(done.err.splitlines()) == 1


def test_a_run_is_not_overwritten_nor_changed(cli: Cli, tones: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(cli, tones, out, "--steps", 1).status == 0
    assert "already holds a run (step-00000001); add --resume" in train(cli, tones, out).err
    changed = train(cli, tones, out, "--resume", "--set", "hidden_size=64")
    assert "hidden_size = 64 differs from 32 of the run being resumed" in changed.err
    recipe = train(cli, tones, out, "--resume", "--recipe", "debug")
    assert "--resume goes on with one; leave --recipe out" in recipe.err
