"""`solomonic generate --memory STORE --cite`: what is stored is continued, with its place."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from solomonic.memory import Memory

from .conftest import Done

Cli = Callable[..., Done]
FACT = "The spare key hangs behind the green door. Nothing else does."
OPTIONS = ["--prompt", "The spare key hangs", "--temperature", 0, "-n", 24]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "house.db"
    with Memory.open(path) as memory:
        memory.write("Water the plants.", source="notes.md")
        memory.write(FACT, source="notes.md", offset=30)
    return path


def test_what_is_stored_is_continued_and_cited(cli: Cli, model_dir: Path, store: Path) -> None:
    done = cli("generate", model_dir, "--memory", store, "--cite", "--json", *OPTIONS)
    record = json.loads(done.out)
    assert record["text"] == " behind the green door. "
    source = " " * 30 + FACT
    assert record["citations"]
    for one in record["citations"]:
        assert one["source"] == "notes.md"
        assert source[one["offset"] :].startswith(one["text"])
    plain = cli("generate", model_dir, "--memory", store, "--cite", *OPTIONS).out
    assert plain.startswith(" behind the green door. \n\n[1] notes.md, character 49: “behind the")
    without = cli("generate", model_dir, "--json", *OPTIONS)
    assert json.loads(without.out)["text"] != record["text"]
    assert "citations" not in json.loads(without.out)


def test_bad_input_is_told(cli: Cli, model_dir: Path, tmp_path: Path) -> None:
    done = cli("generate", model_dir, "--cite", "--prompt", "a")
    assert (
        done.status == 2
        and "--cite names places in a store; give one with --memory STORE" in done.err
    )
    done = cli("generate", model_dir, "--memory", tmp_path / "no.db", "--prompt", "a")
    assert done.status == 2 and "no.db" in done.err
