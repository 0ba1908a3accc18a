"""`solomonic rerank` and `tune-rerank` as a user runs them, on a model that nobody trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lattice_support import COMMAND, command_lattice
from solomonic.cli.main import main
from solomonic.lm.model import LanguageModel
from solomonic.lm.pretrained import load_pretrained, save_pretrained
from solomonic.recipes import debug
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
from solomonic.text import ByteTokenizer

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm") / "model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_pretrained(folder, LanguageModel(debug.TINY), ByteTokenizer())
    return folder


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
    cli: Cli, lm: Path, message: Path, tmp_path: Path
) -> None:
    lattice = command_lattice(0, words=COMMAND[:4], rivals=3)
    (tmp_path / "two.slf").write_text(to_slf(lattice))
    save_openfst(lattice, tmp_path / "three")
    files = [message, tmp_path / "two.slf", tmp_path / "three.fst.txt"]
    none = weights(tmp_path / "w.json", lm_scale=0.0)
    status, out, err = cli("rerank", *files, "--lm", lm, "--weights", none)
    assert (status, err) == (0, "")
    text = best_path(lattice).text
    assert out.splitlines() == [f"{file}: {text}" for file in files]
    status, out, _ = cli("rerank", message, "--lm", lm, "--weights", none, "-n", 3, "--json")
    record = json.loads(out)
    assert record["text"] == text and record["lattice"] == str(message)
    assert [one["text"] for one in record["hypotheses"]] == [p.text for p in n_best(lattice, 3)]
    status, out, _ = cli("rerank", message, "--lm", lm, "--weights", none, "-n", 2)
    assert len(out.splitlines()) == 2 and out.splitlines()[0].endswith(text)


def test_a_users_words_are_kept_and_used(cli: Cli, lm: Path, message: Path, tmp_path: Path) -> None:
    lattice = command_lattice(0, words=COMMAND[:4], rivals=3)
    other = n_best(lattice, 9)[-1].text
    own = weights(tmp_path / "w.json", lm_scale=0.0, memory_scale=3.0, recall=0.0)
    place = tmp_path / "users.db"
    ask = ("rerank", message, "--lm", lm, "--weights", own, "--user", "ann", "--store", place)
    assert cli(*ask)[1].strip() == best_path(lattice).text
    from solomonic.serve.store import Utterance

    store = open_store(place)
    assert store.users() == []  # looking makes no user
    store.commit("ann", Utterance(text=other))
    store.close()
    status, out, _ = cli(*ask, "--commit", "--json")
    record = json.loads(out)
    assert status == 0 and record["text"] == other != record["one_best"]
    assert record["memory_hits"]
    store = open_store(place)
    kept = store.memory("ann")
    store.close()
    assert [said.text for said in kept.utterances] == [other, other]
    assert kept.utterances[-1].heard == record["one_best"]
    assert kept.state is not None and kept.fingerprint
    assert cli(*ask)[1].strip() == other  # out of the stored state
    stranger = ("rerank", message, "--lm", lm, "--weights", own, "--user", "bob", "--store", place)
    assert cli(*stranger)[1].strip() == best_path(lattice).text


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
    cli: Cli, lm: Path, message: Path, tmp_path: Path
) -> None:
    made, out = tuning_set(tmp_path / "set"), tmp_path / "w.json"
    tune = ("tune-rerank", made, "--lm", lm, "--out", out, "--texts", 6)
    status, text, err = cli(*tune, "--tune", "lm_scale,word_bonus", "--json")
    assert status == 0, err
    record = json.loads(text)
    assert record["settings"] == RerankConfig.load(out).to_json()
    assert record["development"][0]["utterances"] == 12
    assert record["development"][0]["reranked_wer"] <= record["development"][0]["one_best_wer"]
    assert cli("rerank", message, "--lm", lm, "--weights", out)[0] == 0
    status, text, _ = cli(*tune, "--tune", "lm_scale")
    assert status == 0 and "one-best WER %" in text and str(out) in text


def test_word_error_training_leaves_a_model(cli: Cli, lm: Path, tmp_path: Path) -> None:
    made, out, new = tuning_set(tmp_path / "set"), tmp_path / "w.json", tmp_path / "new"
    ask = ("tune-rerank", made, "--lm", lm, "--out", out, "--texts", 4, "--tune", "word_bonus")
    start = weights(tmp_path / "start.json", lm_scale=0.3)
    fine = ("--weights", start, "--mwer", new, "--steps", 2, "--json")
    status, text, err = cli(*ask, *fine)
    assert status == 0, err
    assert json.loads(text)["mwer"]["steps"] == 2
    model, _ = load_pretrained(new)
    before, _ = load_pretrained(lm)
    assert model.fingerprint() != before.fingerprint()
    status, _, err = cli(*ask, *fine)
    assert status == 2 and "--resume" in err


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
    arguments: list[str], message: str, cli: Cli, lm: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.slf"
    path.write_text(to_slf(command_lattice(0)))
    given = arguments if "--lm" in arguments else [*arguments, "--lm", str(lm)]
    status, out, err = cli("rerank", path, *given)
    assert (status, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1


def test_bad_lattices(cli: Cli, lm: Path, message: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.slm"
    cut.write_bytes(message.read_bytes()[:40])
    for path, complaint in [
        (tmp_path / "absent.slm", "cannot read"),
        (tmp_path / "a.wav", "no lattice by its name"),
        (cut, "cut short"),
    ]:
        status, out, err = cli("rerank", path, "--lm", lm)
        assert (status, out) == (2, "") and complaint in err
    # One of several does not stop the others.
    status, out, err = cli("rerank", cut, message, "--lm", lm)
    assert status == 2 and "cut short" in err
    assert out.startswith(f"{message}: ")
    status, _, err = cli("tune-rerank", tmp_path, "--lm", lm, "--out", tmp_path / "w.json")
    assert status == 2 and "cannot read the manifest" in err
