"""`solomonic demo`: it shows what happened, whichever way, and its exit status says which."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from solomonic.cli import demo, demo_language, demo_recall, demo_show
from solomonic.cli.console import screen
from solomonic.cli.demo_recall import Contest, Question
from solomonic.core import DataError
from solomonic.evals.synthetic import Examples
from solomonic.evals.synthetic.task import SyntheticConfig
from solomonic.lm.model import LanguageModel
from solomonic.recipes import demo as recipes
from solomonic.train import train

from .conftest import Done

Cli = Callable[..., Done]


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A demonstration of seconds: a short library, two steps of facts."""
    library = tmp_path / "library"
    library.mkdir()
    for name in "abcd":
        (library / f"{name}.py").write_text(f"def {name}():\n    return '{name}'\n" * 40)
    training = recipes.facts_training
    monkeypatch.setattr(demo_language.sysconfig, "get_paths", lambda: {"stdlib": str(library)})
    monkeypatch.setattr(demo_language, "LETTERS", 20)
    monkeypatch.setattr(demo_recall, "_TEST", 8)
    monkeypatch.setattr(
        recipes, "facts_training", lambda seed: training(seed, steps=20).replace(steps=2, warmup=1)
    )


@pytest.mark.usefixtures("brief")
def test_a_model_that_learned_nothing_does_not_convince(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("demo", "--minutes", 0.02, "--out", out)
    assert done.status == 1
    assert "Not convincing this time:" in done.out
    assert "after 2 training steps" in " ".join(done.out.split())
    for name in ("recall.png", "recall.svg", "memory-map.png", "memory-map.html", "lm/loss.png"):
        assert (out / name).is_file(), name
        assert str(out / name) in done.out
    assert cli("generate", out / "lm", "-n", 2).status == 0
    record = json.loads((out / "demo.json").read_text())
    assert record["recall"]["convincing"] is False
    names = record["speech"]["names"]
    assert [name["right"] for name in names] == [True, True]
    assert all(name["without"] != name["text"] for name in names)


@pytest.mark.usefixtures("brief")
def test_json_alone_on_standard_output_and_a_second_time(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("demo", "--minutes", 0.02, "--out", out).status == 1
    done = cli("demo", "--minutes", 0.02, "--out", out, "--json")  # replaces its own results
    record = done.record
    assert record == json.loads((out / "demo.json").read_text())
    assert record["language"]["completion"] in done.err
    assert record["recall"]["models"]["bmojo"]["steps"] == 2
    assert set(record["recall"]["question"]["answers"]) == {"window", "bmojo"}


def test_what_is_not_a_demonstrations_is_left_alone(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "mine.txt").write_text("mine")
    message = f"{tmp_path / 'lm'} is not from a demonstration; choose another folder with --out."
    assert cli("demo", "--out", tmp_path) == Done(2, "", f"error: {message}\n")
    assert (tmp_path / "lm" / "mine.txt").read_text() == "mine"


def contest(window: float, bmojo: float, answer: int = 17) -> Contest:
    """A contest with untrained models and made-up figures; the right answer is 17."""
    rivals = recipes.rivals()
    torch.manual_seed(0)
    models = {name: LanguageModel(config).eval() for name, config in rivals}
    other = {"near": 1.0, "window": 16, "reach": 36, "slots": 16, "parameters": 141_000,
             "state_bytes": 62_000, "steps": 150, "seconds": 20.0}  # fmt: skip
    figures: dict[str, dict[str, Any]] = {
        "window": {"far": window, **other},
        "bmojo": {"far": bmojo, **other},
    }
    facts = [1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22]
    words = np.array([*facts, *range(32, 60), 1])
    answers = {"window": 20, "bmojo": answer}
    return Contest(rivals, models, figures, Question(words, 17, 128, answers))


@pytest.mark.parametrize(
    ("window", "bmojo", "answer", "convincing"),
    [
        (0.06, 0.99, 17, True),
        (0.06, 0.99, 18, False),
        (0.06, 0.4, 17, False),
        (0.6, 1.0, 17, False),
    ],
)
def test_what_convinces(window: float, bmojo: float, answer: int, convincing: bool) -> None:
    assert contest(window, bmojo, answer).convincing is convincing


def test_both_answers_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    demo_show.show_table(contest(0.06, 0.99), screen())
    table = capsys.readouterr().out
    assert f"{recipes.WORDS[20]} (wrong)" in table
    assert f"{recipes.WORDS[17]} (right)" in table
    assert "6.0%" in table
    assert "99.0%" in table
    assert "62,000" in table


def test_the_story_tells_facts_chatter_and_question(capsys: pytest.CaptureFixture[str]) -> None:
    demo_show.show_story(contest(0.06, 0.99), screen())
    told = capsys.readouterr().out
    assert "asked 128 words after the answer was told" in told
    assert "Ada anchor, Bob lantern, " in told
    assert "Ada?" in told
    assert "slots of layer" in told


def test_the_conclusion_is_in_the_exit_status(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_language, "train_on_library", lambda *_: {"steps": 1})
    monkeypatch.setattr(demo_language, "complete", lambda *_, **__: "pass")
    monkeypatch.setattr(demo_show, "save_figures", lambda *_: [])
    for figure, status in ((0.99, 0), (0.1, 1)):
        held = contest(0.06, figure)
        monkeypatch.setattr(demo_recall, "hold_contest", lambda *_, held=held: held)
        done = cli("demo", "--out", tmp_path / "out")
        assert done.status == status
        sentence = "B'MOJO answers 99.0% of what was told outside every window"
        assert (sentence in " ".join(done.out.split())) is (status == 0)


def test_the_question_is_the_first_whatever_the_answers() -> None:
    held = contest(0.06, 0.99)
    inputs = np.array([[1, 17, 40, 1, 41, 2], [2, 18, 40, 41, 2, 1]])
    labels = np.array([[-100, -100, -100, 17, -100, 18], [-100] * 6])
    distance = np.array([[-1, -1, -1, 2, -1, 4], [-1] * 6])
    question = demo_recall.ask(held.models, Examples(inputs, labels, distance))
    assert question.words.tolist() == [1, 17, 40, 1]
    assert (question.right, question.distance) == (17, 2)


def test_the_curves_come_from_the_logs_of_both(tmp_path: Path) -> None:
    for name in ("window", "bmojo"):
        (tmp_path / name).mkdir()
        records = [{"event": "eval", "step": 25, "accuracy": 0.5, "loss": 1.0}]
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / name / "log.jsonl").write_text(text)
    (axes,) = demo_show._curves(contest(0.06, 0.99), tmp_path).axes
    curves = [line.get_xydata().tolist() for line in axes.lines]
    assert curves.count([[0, 1 / 16], [25, 0.5]]) == 2


def test_the_library_is_read_without_tests_and_tables(tmp_path: Path) -> None:
    for name in ("a.py", "pkg/b.py", "test/c.py", "pkg/tests/d.py", "encodings/e.py",
                 "site-packages/f.py", "g.txt"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "latin.py").write_bytes(b"# \xff")
    (tmp_path / "empty.py").write_text("\n")
    assert list(demo_language.library_sources(tmp_path)) == ["a.py", "pkg/b.py"]


def test_a_python_without_source_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        demo_language.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "none")}
    )
    with pytest.raises(DataError, match="this Python has no source of its standard library"):
        demo_language.write_library(tmp_path / "library.jsonl")


def test_busy_cores_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    for cores, load in ((2, 0.1), (2, 0.9), (2, 7.5), (16, 0.0), (16, 14.2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        monkeypatch.setattr(demo.os, "getloadavg", lambda load=load: (load, load, load))
        demo._use_idle_cores()
    assert chosen == [2, 1, 1, 4, 2]


@pytest.mark.slow
def test_bmojo_recalls_what_a_window_forgets(tmp_path: Path) -> None:
    """The demonstration's own training, without its clock: a hundred steps are enough."""
    rivals = recipes.rivals()
    shares = {}
    for name, config in rivals:
        torch.manual_seed(0)
        settings = SyntheticConfig(batch_size=24, test_examples=64)
        task = recipes.FactsTask(LanguageModel(config), rivals.beyond, settings)
        training = dataclasses.replace(recipes.facts_training(), steps=100, max_seconds=None)
        shares[name] = train(task, training, tmp_path / name).evaluation["accuracy"]
    assert shares["bmojo"] > 0.9
    assert shares["window"] < 0.15
