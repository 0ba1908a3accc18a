"""docs/realization.md: its Python runs, every function has an example, its pictures are there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solomonic import realization
from solomonic.core import SolomonicError

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "realization.md").read_text("utf-8")


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(compile(block, "realization.md", "exec"), names)
    assert names["found"].order == 3
    assert names["again"].order == 3
    assert names["split"].deadbeat == 6
    assert names["exact"].order == 2
    assert 560 <= names["alarms"].alarms[0] < 600
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"backwards.gif", "order.svg", "white.svg", "stack.svg", "frames.png"}


def test_every_function_has_an_example() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    functions = [
        name
        for name, value in vars(realization).items()
        if callable(value) and name[0].islower() and name != "from_innovations"
    ]
    assert len(functions) > 30
    assert [name for name in functions if not re.search(rf"\b{name}\(", code)] == []


def test_the_pictures_are_there_and_small() -> None:
    pictures = re.findall(r"\]\((images/[^)]+)\)", PAGE)
    assert len(pictures) == 5
    assert all((DOCS / picture).stat().st_size < 300_000 for picture in pictures)


def test_pictures_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(SolomonicError, match="at least one test"):
        realization.draw_whiteness({}, 3, tmp_path / "a.svg")
    with pytest.raises(SolomonicError, match="must end in"):
        frames = {"a": np.zeros((4, 3, 3))}
        realization.draw_frames(frames, tmp_path / "a.jpeg")
    with pytest.raises(SolomonicError, match="time, height, width"):
        realization.draw_frames({"a": np.zeros((4, 3))}, tmp_path / "a.png")
