"""docs/cli.md names every command and option there is, and no other; what it shows runs."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from solomonic.cli.main import app

from .conftest import Done

Cli = Callable[..., Done]
DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "cli.md").read_text("utf-8")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*(?![\w-])")


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        if getattr(command, "invoke_without_command", not hasattr(command, "commands")):
            yield f"{prefix}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def section(name: str) -> str:
    """What the page says of one command."""
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section '## {name}'"
    return found[1]


def options(command: Any) -> set[str]:
    """The names of a command's options, the second form of a switch too."""
    names = {
        name
        for parameter in command.params
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    return names - {"--help", "-h"}


# Said once on the page for all figures.
SHARED = {"plot recall": {"--json"}, "plot loss": {"--json"}}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described(name: str) -> None:
    described = set(OPTION.findall(section(name)))
    assert options(COMMANDS[name]) - described - SHARED.get(name, set()) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_is_invented(name: str) -> None:
    described = set(re.findall(r"^\| (.+?) \|", section(name), re.MULTILINE))
    named = {option for cell in described for option in re.findall(r"`(--?[a-z-]+)`", cell)}
    assert named <= options(COMMANDS[name])


def test_no_command_is_invented() -> None:
    sections = set(re.findall(r"^## (.+)$", PAGE, re.MULTILINE))
    assert sections - {"Manners"} == set(COMMANDS)


def lines(page: str) -> list[str]:
    """The command lines of a page's shell blocks."""
    text = (DOCS / page).read_text("utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def brief(arguments: list[str]) -> list[str]:
    """The same command, but for seconds instead of minutes."""
    quick = ["--set", "batch_size=2"]
    match arguments[:2]:
        case ["train", "lm"]:
            quick += ["--set", "eval_tokens=256"]
            if "--resume" not in arguments:
                quick += ["--recipe", "debug"]
            for option, value in (("--minutes", "0.02"), ("--steps", "2")):
                if option in arguments:
                    arguments[arguments.index(option) + 1] = value
            arguments = [a.replace("parameters=2000000", "parameters=60000") for a in arguments]
            quick = quick[2:] if "--resume" in arguments else quick
        case ["eval", "recall" | "sweep"] | ["eval", "lengths"] if "--data" not in arguments:
            quick += ["--steps", "1", "--set", "test_examples=4"]
            if "--seeds" in arguments:
                arguments[arguments.index("--seeds") + 1] = "0"
            elif "sweep" in arguments:
                quick += ["--seeds", "0"]
        case _:
            quick = []
    return arguments + quick


@pytest.mark.parametrize("page", ["quickstart.md", "cli.md"])
def test_what_a_page_shows_runs(
    page: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("solomonic.cli.generate.read_stdin", lambda: "def add")
    Path("notes.txt").write_text("def add(a, b):\n    return a + b\n" * 200)
    Path("tasks.jsonl").write_text('{"id": "sum", "kind": "arithmetic", "expression": "1 + 2"}\n')
    assert lines(page)
    for line in lines(page):
        command = shlex.split(line.rpartition("|")[2])
        assert command[0] == "solomonic"
        done = cli(*brief(command[1:]))
        assert done.status == 0, f"{line}\n{done.err}"
    if page == "quickstart.md":
        text = (DOCS / page).read_text("utf-8")
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            exec(compile(block, page, "exec"), {"__name__": "page"})
