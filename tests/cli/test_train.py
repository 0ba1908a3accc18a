"""`solomonic train lm`: what it writes, what it prints, and how it goes on."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from solomonic.cli.options import budget
from solomonic.recipes.lm import load_run
from solomonic.train import read_log

from .conftest import Done

Cli = Callable[..., Done]


def train(cli: Cli, text: Path, out: Path, *more: object) -> Done:
    """A run of the `debug` recipe."""
    recipe = [] if "--resume" in more else ["--recipe", "debug"]
    return cli("train", "lm", "--data", text, "--out", out, *recipe, *more)


def test_json_says_what_was_trained(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    done = train(cli, text_file, tmp_path / "out", "--steps", 4, "--json")
    assert (done.status, done.err) == (0, "")
    record = done.record
    assert (record["steps"], record["stopped"], record["pattern"]) == (4, "steps", "BB")
    assert record["tokens"] == 4 * 4 * 64
    assert record["best"]["bits_per_byte"] > 0
    assert record["state_bytes"] > 0
    for name in ("config.json", "model.safetensors", "tokenizer.json", "log.jsonl", "loss.png"):
        assert (tmp_path / "out" / name).is_file()


def test_a_person_reads_a_table_and_what_to_try_next(
    cli: Cli, text_file: Path, tmp_path: Path
) -> None:
    done = train(cli, text_file, tmp_path / "out", "--steps", 2)
    assert "held-out bits_per_byte" in done.out
    assert done.err == f"Try: solomonic generate {tmp_path / 'out'} --prompt 'Once'\n"


def test_options_reach_the_model_and_the_training(
    cli: Cli, text_file: Path, tmp_path: Path
) -> None:
    options = ("--pattern", "MW", "--layers", 4, "--width", 64, "--heads", 4, "--window", 6,
               "--slots", 5, "--length", 16, "--batch-size", 2, "--steps", 1, "--seed", 7,
               "--set", "lr=0.01", "--set", "position=rope")  # fmt: skip
    assert train(cli, text_file, tmp_path / "out", *options).status == 0
    run = load_run(tmp_path / "out")
    assert run is not None
    model, settings = run.model, run.train
    assert (model.layers, model.hidden_size, model.num_attention_heads) == ("MWMW", 64, 4)
    assert (model.window_size, model.eidetic_slots, model.position) == (6, 5, "rope")
    assert (run.length, settings.batch_size, settings.steps) == (16, 2, 1)
    assert (settings.seed, settings.lr) == (7, 0.01)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pattern"] == "MW"


def test_a_resumed_run_equals_one_that_ran_through(
    cli: Cli, text_file: Path, tmp_path: Path
) -> None:
    whole = train(cli, text_file, tmp_path / "whole", "--steps", 6, "--set", "save_every=3")
    # Cut after step 3 as by a kill: everything later is gone.
    cut = tmp_path / "cut"
    assert train(cli, text_file, cut, "--steps", 6, "--set", "save_every=3").status == 0
    for file in sorted((cut / "checkpoints" / "step-00000006").iterdir()):
        file.unlink()
    (cut / "checkpoints" / "step-00000006").rmdir()
    resumed = train(cli, text_file, cut, "--resume")
    assert (whole.status, resumed.status) == (0, 0)
    weights = [tmp_path / name / "model.safetensors" for name in ("whole", "cut")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_resume_in_an_empty_place_starts(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    command = ("train", "lm", "--data", text_file, "--out", tmp_path / "out", "--resume")
    done = cli(*command, "--recipe", "debug", "--steps", 1, "--json")
    assert (done.status, done.record["steps"]) == (0, 1)


def test_the_clock_ends_a_run_and_lines_tell_of_it(
    cli: Cli, text_file: Path, tmp_path: Path
) -> None:
    done = train(cli, text_file, tmp_path / "out", "--minutes", 0.02, "--json")
    assert done.status == 0
    assert done.record["stopped"] == "seconds"
    assert 1.2 <= done.record["seconds"] < 30
    lines = done.err.splitlines()
    assert 1 <= len(lines) <= 4
    assert all(line.startswith("training: ") and " of 1 s, step " in line for line in lines)


def test_without_a_number_of_steps_the_warm_up_is_no_share_of_it() -> None:
    assert budget(None, 5, 50) == {}
    assert budget(2.0, 5, 50) == {"max_seconds": 120.0}
    assert budget(2.0, None, 50)["warmup"] == 50
    assert "warmup" not in budget(2.0, None, None)


def test_a_run_of_steps_goes_on_by_the_clock(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(cli, text_file, out, "--steps", 2).status == 0
    done = train(cli, text_file, out, "--resume", "--minutes", 0.03, "--json")
    assert done.status == 0, done.err
    assert done.record["steps"] > 2


def test_a_key_of_the_records(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text("".join(json.dumps({"body": f"text {n} " * 20}) + "\n" for n in range(30)))
    done = train(cli, file, tmp_path / "out", "--steps", 1)
    assert done.status == 2
    assert "name the right key with --text-key" in done.err
    assert train(cli, file, tmp_path / "out", "--steps", 1, "--text-key", "body").status == 0


def test_a_trained_vocabulary(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--vocab-size", 264, "--length", 8, "--steps", 1)
    assert train(cli, text_file, out, *options).status == 0
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 264
    assert cli("generate", out, "--prompt", "def", "-n", 3).status == 0


def test_held_out_text_of_its_own(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("another text " * 10)
    settings = ("--steps", 1, "--set", f"valid={tmp_path / 'valid.txt'}", "--json")
    done = train(cli, text_file, tmp_path / "out", *settings)
    assert done.record["best"]["eval_tokens"] == 130  # the text and its end, but for the first


def test_every_step_is_in_the_log(cli: Cli, text_file: Path, tmp_path: Path) -> None:
    assert train(cli, text_file, tmp_path / "out", "--steps", 4).status == 0
    events = [record["event"] for record in read_log(tmp_path / "out" / "log.jsonl")]
    assert events == ["start", "step", "step", "eval", "end"]


@pytest.mark.parametrize("name", ["small", "base"])
def test_the_other_recipes_are_found(name: str) -> None:
    from solomonic.cli.train import _recipe
    from solomonic.recipes import lm

    assert _recipe(name) == getattr(lm, name)()
    assert _recipe(None) == lm.small()
