"""`import solomonic` stays light, the command line too, and every public name is where it says.

Measured in modules loaded, never in seconds: those depend on the machine.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import solomonic

HEAVY = {
    "accelerate",
    "datasets",
    "jiwer",
    "kaldi_native_fbank",
    "lm_eval",
    "matplotlib",
    "numpy",
    "pandas",
    "rich",
    "safetensors",
    "scipy",
    "sentencepiece",
    "sounddevice",
    "soundfile",
    "soxr",
    "tokenizers",
    "torch",
    "transformers",
    "typer",
}


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in `sys.modules` after `statement` in a fresh interpreter."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize(
    "statement",
    [
        "import solomonic",
        "import solomonic; dir(solomonic)",
        "from solomonic import SolomonicError",
    ],
)
def test_the_package_is_light(statement: str) -> None:
    assert loaded_after(statement) & HEAVY == set()


def test_the_command_line_loads_a_part_only_when_called() -> None:
    allowed = {"typer", "rich"}
    assert loaded_after("import solomonic.cli.main") & HEAVY <= allowed


def test_using_a_name_loads_it() -> None:
    loaded = loaded_after("import solomonic; solomonic.LanguageModel")
    assert "torch" in loaded
    assert "transformers" not in loaded


@pytest.mark.parametrize("name", solomonic.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(solomonic, name) is not None
    assert name in dir(solomonic)


def test_the_lists_of_names_agree() -> None:
    """`__all__` and the imports that type checkers read; test_lazy.py compares these with the table
    that finds them."""
    tree = ast.parse(Path(solomonic.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.asname
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*solomonic.__all__} == {*typed, "__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'solomonic' has no attribute 'BMojoConfg'"):
        _ = solomonic.BMojoConfg
