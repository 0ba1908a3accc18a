"""What the README and the pages show really runs: their Python, and the README's command lines.

The blocks of one page run in order in one namespace, in an empty folder, as a reader would type
them. A block of another language than `python` is only read.
"""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "docs/layers.md",
    "docs/language-models.md",
    "docs/hugging-face.md",
    "docs/evaluations.md",
    "docs/kernels.md",
    "docs/native.md",
    "docs/store.md",
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def blocks(page: str, language: str) -> list[str]:
    """The code of a page's blocks, line numbers kept for tracebacks."""
    text = (ROOT / page).read_text("utf-8")
    return [
        "\n" * (text.count("\n", 0, found.start()) + 1) + found[2]
        for found in BLOCK.finditer(text)
        if found[1] == language
    ]


@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks(page, "python")
    assert code, f"{page} shows no Python"
    namespace: dict[str, object] = {"__name__": "page"}
    for block in code:
        exec(compile(block, page, "exec"), namespace)


def test_the_command_lines_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from solomonic.cli.main import main

    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("def add(a, b):\n    return a + b\n" * 200)
    lines = [line for block in blocks("README.md", "bash") for line in block.split("\n") if line]
    assert lines
    for line in lines:
        command, *arguments = shlex.split(line)
        assert command == "solomonic"
        if arguments[0] == "train":  # the same command, but for seconds
            arguments += ["--recipe", "debug"]
            arguments[arguments.index("--minutes") + 1] = "0.02"
        assert main(arguments) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", ["README.md", "DESIGN.md"])
def test_links_into_the_checkout_lead_somewhere(page: str) -> None:
    targets = LINK.findall((ROOT / page).read_text("utf-8"))
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert not missing
