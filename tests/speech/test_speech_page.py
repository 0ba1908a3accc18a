"""The pages on speech run as they stand: docs/speech.md, with the tiny model in place of the one
that ships, and the pages of its parts, which need none."""

import re
import shlex
from pathlib import Path

import pytest
import soundfile

from solomonic.cli.main import main
from solomonic.speech import places, recognizer
from solomonic.speech.data.manifest import Utterance, write_manifest
from speech_tiny import RATE, command, save_tiny

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "speech.md").read_text("utf-8")
PARTS = ("speech-data", "end-pointing", "personal-words", "lattices", "transducer-loss", "decoding")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's files are."""
    for module in (places, recognizer):
        monkeypatch.setattr(module, "SHIPPED", save_tiny(tmp_path / "model"))
    monkeypatch.chdir(tmp_path)
    soundfile.write("command.wav", command(seed=1), RATE)
    Path("corpus").mkdir()
    soundfile.write("corpus/a.wav", command(seed=1), RATE)
    line = Utterance(audio=Path("corpus/a.wav"), duration=3.4, text="stop", split="test")
    write_manifest("corpus/manifest.jsonl", [line])
    return tmp_path


def blocks(language: str, page: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def run_python(page: str, name: str) -> None:
    """Its blocks in order, in one namespace."""
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks("python", page):
        exec(compile(block, name, "exec"), names)


def test_its_python_runs(place: Path) -> None:
    assert len(blocks("python")) >= 6
    run_python(PAGE, "speech.md")


@pytest.mark.parametrize("name", PARTS)
def test_the_python_of_its_parts_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (DOCS / f"{name}.md").read_text("utf-8")
    assert blocks("python", page)
    run_python(page, f"{name}.md")


def test_its_commands_run(place: Path) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    ours = [line for line in lines if line.startswith("solomonic ")]
    assert len(ours) >= 5
    for line in ours:
        assert main(shlex.split(line)[1:]) == 0, line
    assert {"lattice.svg", "endpoints.svg", "report.html"} <= {p.name for p in place.iterdir()}
