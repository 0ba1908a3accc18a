"""Packages that import names when they are used, and what therefore runs without PyTorch."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from needs import needs_recognizer
from solomonic.core import lazy
from solomonic.speech.places import SHIPPED

SOURCE = Path(__file__).resolve().parents[1] / "src" / "solomonic"
LAZY = sorted(
    path for path in SOURCE.rglob("__init__.py") if "names_of(" in path.read_text("utf-8")
)
WITHOUT = "import sys; sys.modules['torch'] = None; "
SAMPLE = SHIPPED / "samples" / "1.opus"
SERVE = """
from fastapi.testclient import TestClient
from solomonic.serve.app import create_app
from solomonic.serve.config import ServeConfig
from solomonic.serve.loading import load_asr
from solomonic.serve.store import open_store
app = create_app(ServeConfig(), asr=load_asr(), store=open_store(None))
with TestClient(app, base_url="http://127.0.0.1") as client:
    with open(sys.argv[1], "rb") as audio:
        answer = client.post(
            "/v1/audio/transcriptions", files={"file": audio}, data={"model": "english-small"}
        )
    print(answer.json().get("text", answer.text))
    answer = client.post("/v1/completions", json={"model": "m", "prompt": "a"})
    assert answer.json()["error"]["code"] == "no_language_model", answer.text
"""


def without_torch(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *map(str, arguments)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", LAZY, ids=[str(path.parent.relative_to(SOURCE)) for path in LAZY])
def test_what_type_checkers_read_is_what_is_imported(path: Path) -> None:
    package = ".".join(("solomonic", *path.parent.relative_to(SOURCE).parts))
    module = importlib.import_module(package)
    told = {}
    for block in ast.parse(path.read_text("utf-8")).body:
        for line in block.body if isinstance(block, ast.If) else []:
            assert isinstance(line, ast.ImportFrom)
            told |= {alias.asname: line.module for alias in line.names}
    assert told
    for name, home in told.items():
        assert getattr(module, str(name)) is getattr(importlib.import_module(str(home)), str(name))
    call = next(
        node for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "names_of"
    )  # fmt: skip
    parts = ast.literal_eval(call.args[1])
    assert {n: f"{package}.{part}" for part, names in parts.items() for n in names.split()} == told
    assert set(told) <= set(dir(module))


def test_a_name_that_is_nowhere_is_an_attribute_error() -> None:
    get, _ = lazy.names_of("solomonic.kernels", {"registry": "run"})
    with pytest.raises(AttributeError, match=r"module 'solomonic.kernels' has no attribute 'nix'"):
        get("nix")


@needs_recognizer
@pytest.mark.parametrize("form", ["text", "json", "srt", "lattice"])
def test_the_native_recogniser_runs_without_pytorch(form: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("siobhan\n", "utf-8")
    code = "from solomonic.cli.main import main; main(sys.argv[1:])"
    told = without_torch(
        code, "transcribe", SAMPLE, "--format", form, "--bias", tmp_path / "words.txt"
    )
    assert "bedroom" in told


@needs_recognizer
def test_a_server_of_speech_alone_runs_without_pytorch() -> None:
    assert without_torch(SERVE, SAMPLE) == "turn off the lights in the bedroom\n"
