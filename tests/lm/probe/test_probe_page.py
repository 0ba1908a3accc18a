"""docs/probe.md: its Python runs, its pictures are there, and it names what there is."""

import re
from pathlib import Path
from typing import Any

import pytest

from solomonic.lm import interventions

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "probe.md").read_text("utf-8")


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("> book a table for two\n< where would you like to eat\n" * 4)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "probe.md", "exec"), names)
    assert (tmp_path / "report.html").stat().st_size > 20_000
    assert names["seen"].values["layer.2"].shape[2] == 192


def test_its_pictures_and_functions_are_there() -> None:
    for picture in re.findall(r"\]\((images/[^)]+)\)", PAGE):
        assert (DOCS / picture).is_file()
    for name in re.findall(r"^\| `(\w+)\(", PAGE, re.M):
        assert hasattr(interventions, name)
