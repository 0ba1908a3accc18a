"""docs/runtime.md: its C compiles, its Python runs, its options are those of the command."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from solomonic.kernels import native
from speech_tiny import command

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "runtime.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    return found


def test_the_c_compiles(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "page.c").write_text(block("c"))
    options = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"]
    run = [compiler, *options, f"-I{ROOT / 'native/include'}", str(tmp_path / "page.c")]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not hasattr(getattr(native.load(), "speech_stream", None), "Recognizer"):
        pytest.skip("the native core is not built with the recogniser")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"samples": command(seed=1)}
    exec(compile(block("python"), "runtime.md", "exec"), names)
    assert "'event': 'final'" in capsys.readouterr().out


def test_options_are_those_of_the_command() -> None:
    source = (ROOT / "native/tools/recognize.cpp").read_text("utf-8")
    (usage,) = re.findall(r'R"\((.*?)\)"', source, re.S)
    table = PAGE.partition("## In Python")[0]
    assert set(re.findall(r"--[a-z][a-z-]*", usage)) - {"--help", "--version"} == set(
        re.findall(r"`(--[a-z][a-z-]*)", table)
    )
