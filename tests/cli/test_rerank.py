"""`solomonic rerank` and `tune-rerank` as a user runs them, on a model that nobody trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lattice_support import COMMAND, command_lattice
from solomonic.lm.pretrained import load_pretrained
from solomonic.serve.rescore import RerankConfig
from solomonic.serve.store import open_store
from solomonic.speech.lattice import (
    LatticeMessage,
    best_path,
    encode_message,
    n_best,
    save_openfst,
    to_slf,
)

Cli = Callable[..., Any]  # tests/cli/conftest.py


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "one.slm"
    lattice = command_lattice(0, words=COMMAND[:4], rivals=3)
    path.write_bytes(encode_message(LatticeMessage(lattice=lattice)))
    return path


def weights(path: Path, **settings: Any) -> Path:
    RerankConfig(**settings).save(path)
    return path


def test_every_format_without_weight_gives_the_one_best(
    cli: Cli, model_dir: Path, message: Path, tmp_path: Path
) -> None:
    lattice = command_lattice(0, words=COMMAND[:4], rivals=3)
    (tmp_path / "two.slf").write_text(to_slf(lattice))
    save_openfst(lattice, tmp_path / "three")
    files = [message, tmp_path / "two.slf", tmp_path / "three.fst.txt"]
    none = weights(tmp_path / "w.json", lm_scale=0.0)
    done = cli("rerank", *files, "--lm", model_dir, "--weights", none)
    assert (done.status, done.err) == (0, "")
    text = best_path(lattice).text
    assert done.out.splitlines() == [f"{file}: {text}" for file in files]
    done = cli("rerank", message, "--lm", model_dir, "--weights", none, "-n", 3, "--json")
    record = done.record
    assert record["text"] == text and record["lattice"] == str(message)
    assert [one["text"] for one in record["hypotheses"]] == [p.text for p in n_best(lattice, 3)]
    done = cli("rerank", message, "--lm", model_dir, "--weights", none, "-n", 2)
    assert len(done.out.splitlines()) == 2 and done.out.splitlines()[0].endswith(text)


def test_a_users_words_are_kept_and_used(
    cli: Cli, model_dir: Path, message: Path, tmp_path: Path
) -> None:
    lattice = command_lattice(0, words=COMMAND[:4], rivals=3)
    other = n_best(lattice, 9)[-1].text
    own = weights(tmp_path / "w.json", lm_scale=0.0, memory_scale=3.0, recall=0.0)
    place = tmp_path / "users.db"
    base = ("rerank", message, "--lm", model_dir, "--weights", own, "--store", place)
    ask = (*base, "--user", "ann")
    assert cli(*ask).out.strip() == best_path(lattice).text
    from solomonic.serve.store import Utterance

    store = open_store(place)
    assert store.users() == []  # looking makes no user
    store.commit("ann", Utterance(text=other))
    store.close()
    done = cli(*ask, "--commit", "--json")
    record = done.record
    assert done.status == 0 and record["text"] == other != record["one_best"]
    assert record["memory_hits"]
    store = open_store(place)
    kept = store.memory("ann")
    store.close()
    assert [said.text for said in kept.utterances] == [other, other]
    assert kept.utterances[-1].heard == record["one_best"]
    assert kept.state is not None and kept.fingerprint
    assert cli(*ask).out.strip() == other  # out of the stored state
    stranger = (*base, "--user", "bob")
    assert cli(*stranger).out.strip() == best_path(lattice).text


def tuning_set(folder: Path) -> Path:
    folder.mkdir()
    lines = []
    for seed in range(12):
        lattice = command_lattice(seed, words=COMMAND[:3], rivals=3)
        (folder / f"{seed}.slm").write_bytes(encode_message(LatticeMessage(lattice=lattice)))
        said = n_best(lattice, 4)[-1].text
        lines.append(json.dumps({"lattice": f"{seed}.slm", "text": said, "split": "dev"}))
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return folder


def test_tuning_writes_weights_that_rerank_reads(
    cli: Cli, model_dir: Path, message: Path, tmp_path: Path
) -> None:
    made, out = tuning_set(tmp_path / "set"), tmp_path / "w.json"
    tune = ("tune-rerank", made, "--lm", model_dir, "--out", out, "--texts", 6)
    done = cli(*tune, "--tune", "lm_scale,word_bonus", "--json")
    assert done.status == 0, done.err
    record = done.record
    assert record["settings"] == RerankConfig.load(out).to_json()
    assert record["development"][0]["utterances"] == 12
    assert record["development"][0]["reranked_wer"] <= record["development"][0]["one_best_wer"]
    assert cli("rerank", message, "--lm", model_dir, "--weights", out).status == 0
    done = cli(*tune, "--tune", "lm_scale")
    assert done.status == 0 and "one-best WER %" in done.out and str(out) in done.out


def test_word_error_training_leaves_a_model(cli: Cli, model_dir: Path, tmp_path: Path) -> None:
    made, out, new = tuning_set(tmp_path / "set"), tmp_path / "w.json", tmp_path / "new"
    ask = (
        "tune-rerank",
        made,
        "--lm",
        model_dir,
        "--out",
        out,
        "--texts",
        4,
        "--tune",
        "word_bonus",
    )
    start = weights(tmp_path / "start.json", lm_scale=0.3)
    fine = ("--weights", start, "--mwer", new, "--steps", 2, "--json")
    done = cli(*ask, *fine)
    assert done.status == 0, done.err
    assert done.record["mwer"]["steps"] == 2
    model, _ = load_pretrained(new)
    before, _ = load_pretrained(model_dir)
    assert model.fingerprint() != before.fingerprint()
    done = cli(*ask, *fine)
    assert done.status == 2 and "--resume" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "ann"], "--user and --store belong together"),
        (["--store", "x.db"], "--user and --store belong together"),
        (["--commit"], "add --user and --store"),
        (["--weights", "absent.json"], "cannot read the weights absent.json"),
        (["--lm", "absent"], "no language model at absent"),
        (["-n", "0"], "ask for at least 1"),
    ],
)
def test_bad_options(
    arguments: list[str], message: str, cli: Cli, model_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.slf"
    path.write_text(to_slf(command_lattice(0)))
    given = arguments if "--lm" in arguments else [*arguments, "--lm", str(model_dir)]
    done = cli("rerank", path, *given)
    assert (done.status, done.out) == (2, "")
    assert message in done.err and len(done.err.splitlines()) == 1


def test_bad_lattices(cli: Cli, model_dir: Path, message: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.slm"
    cut.write_bytes(message.read_bytes()[:40])
    for path, complaint in [
        (tmp_path / "absent.slm", "cannot read"),
        (tmp_path / "a.wav", "no lattice by its name"),
        (cut, "cut short"),
    ]:
        done = cli("rerank", path, "--lm", model_dir)
        assert (done.status, done.out) == (2, "") and complaint in done.err
    # One of several does not stop the others.
    done = cli("rerank", cut, message, "--lm", model_dir)
    assert done.status == 2 and "cut short" in done.err
    assert done.out.startswith(f"{message}: ")
    done = cli("tune-rerank", tmp_path, "--lm", model_dir, "--out", tmp_path / "w.json")
    assert done.status == 2 and "cannot read the manifest" in done.err
