"""`solomonic plot memory`: losses and stores."""

import json
from pathlib import Path

import numpy as np
import pytest

from solomonic.cli.main import main
from solomonic.memory import Memory, MemoryConfig


def losses() -> list[float]:
    """A jump after 80."""
    values = np.random.default_rng(1).normal(3, 0.5, 140)
    values[80:] += 4
    return values.tolist()


def test_losses_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "losses.txt", tmp_path / "kept.svg"
    file.write_text("\n".join(map(str, losses())))
    assert main(["plot", "memory", str(file), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["observations"] == 140
    assert found["changes"] == [80]
    assert out.read_text().startswith("<?xml")


def test_symbols_and_decay_are_drawn_too(tmp_path: Path) -> None:
    file, out = tmp_path / "symbols.txt", tmp_path / "kept.png"
    file.write_text(" ".join(["0", "1"] * 20 + ["1"] * 40))
    for name in ("symbols:2", "exponential:20", "none"):
        assert main(["plot", "memory", str(file), "--out", str(out), "--forgetting", name]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_items_of_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, out = tmp_path / "memory.db", tmp_path / "items.png"
    with Memory.open(store, config=MemoryConfig(forgetting="changes")) as memory:
        for number, value in enumerate(losses()):
            if number % 20 == 0:
                memory.write(f"fact {number}")
            memory.observe(value)
    command = ["plot", "memory", str(store), "--out", str(out), "--forgetting", "changes", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"written": [str(out)], "items": 7, "observations": 140, "changes": [80]}


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("", [], "empty"),
        ("1 x", [], "numbers only"),
        ("1 nan 2", [], "finite"),
        ("1 2", ["--forgetting", "never"], "there is no forgetting 'never'"),
        ("0 5", ["--forgetting", "symbols:2"], "alphabet of 2"),
        (None, [], "cannot read"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    content: str | None,
    options: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "losses.txt"
    if content is not None:
        file.write_text(content)
    assert main(["plot", "memory", str(file), "--out", str(tmp_path / "x.png"), *options]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1
