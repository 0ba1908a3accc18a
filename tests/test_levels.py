"""The house's floors: a part imports only from strictly lower levels (DESIGN, architecture).

A part is a folder under `src/solomonic`. Every import counts, wherever it stands: at the top, in a
function, under TYPE_CHECKING, relative, or through `import_module` with a literal name.

Files directly under `src/solomonic` (`__init__.py`, `_hooks.py`) are exempt: they are the door of
the house, not a room. They hold the public names of all levels and load each when it is asked for.
For that reason no part may import them, as that would reach every level through the door; only
`__version__`, which is a literal, may be read.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "solomonic"
LEVELS = [
    ["core", "_native"],  # _native is the compiled core, which imports nothing of ours
    ["realization", "induction", "kernels", "state", "text"],
    ["layers"],
    ["memory", "compress", "train"],
    ["lm", "speech"],
    ["serve", "evals"],
    ["recipes"],
    ["cli"],
]
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}
IMPORTERS = {"import_module", "__import__"}


def violations(package: Path) -> list[str]:
    """One sentence for each import in the folder `package` that goes up or sideways."""
    found = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        if len(inside.parts) == 1:
            continue
        part = inside.parts[0]
        if part not in LEVEL_OF:
            found.append(f"{inside}: the part '{part}' has no level; give it one in test_levels.py")
            continue
        module = ("solomonic", *inside.with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        for node in ast.walk(tree):
            for target in imported(node, module, is_package=path.name == "__init__.py"):
                complaint = judge(part, target)
                if complaint:
                    found.append(f"{inside}:{node.lineno}: {complaint}")
    return found


def imported(node: ast.AST, module: tuple[str, ...], is_package: bool) -> Iterator[tuple[str, ...]]:
    """The absolute dotted names, split, that `node` in `module` imports."""
    match node:
        case ast.Import(names=names):
            yield from (tuple(alias.name.split(".")) for alias in names)
        case ast.ImportFrom(module=name, names=names, level=level):
            base = tuple(name.split(".")) if name else ()
            if level:
                # One dot is the folder of the file, which in an __init__ is named last but one.
                folder = module[: len(module) - level]
                base = folder + base
            yield from ((*base, alias.name) for alias in names)
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
            called = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", None)
            if called in IMPORTERS and not name.startswith("."):
                yield tuple(name.split("."))


def judge(part: str, target: tuple[str, ...]) -> str | None:
    """What is wrong with `part` importing `target`, or None."""
    if target[0] != "solomonic" or target == ("solomonic", "__version__"):
        return None
    other = target[1] if len(target) > 1 else None
    if other == part:
        return None
    if other not in LEVEL_OF:
        return f"'{part}' imports '{'.'.join(target)}', the door of the package, not a part"
    if LEVEL_OF[other] < LEVEL_OF[part]:
        return None
    where = "beside" if LEVEL_OF[other] == LEVEL_OF[part] else "above"
    return f"'{part}' imports '{'.'.join(target)}' from {where} it"


def test_every_import_goes_down() -> None:
    assert violations(PACKAGE) == []


def test_there_is_something_to_check() -> None:
    parts = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.glob("*/**/*.py")}
    assert {"core", "layers", "lm", "cli"} <= parts


BAD = {
    "upward": ("layers/a.py", "from solomonic.lm.model import LanguageModel", "above"),
    "sideways": ("state/a.py", "import solomonic.kernels.ssd", "beside"),
    "named from the top": ("state/a.py", "from solomonic import kernels", "beside"),
    "in a function": ("train/a.py", "def f():\n    from solomonic.lm import hf", "above"),
    "for types only": (
        "core/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from solomonic.text import t",
        "above",
    ),
    "relative": ("layers/deep/a.py", "from ...lm import model", "above"),
    "relative in an __init__": ("layers/__init__.py", "from ..lm import model", "above"),
    "by name": (
        "evals/a.py",
        "import importlib\nimportlib.import_module('solomonic.cli.main')",
        "above",
    ),
    "the door": ("lm/a.py", "import solomonic", "door"),
    "through the door": ("layers/a.py", "from solomonic import BMojoConfig", "door"),
    "a part without a level": ("attic/a.py", "", "no level"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_checker_sees_what_is_wrong(name: str, tmp_path: Path) -> None:
    file, source, complaint = BAD[name]
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source, encoding="utf-8")
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(file)
    assert complaint in found[0]


def test_the_checker_lets_pass_what_is_right(tmp_path: Path) -> None:
    source = """
import solomonic.core.errors, torch
from solomonic import __version__, layers
from . import block
from .block import Block
from ..lm.model import LanguageModel
from solomonic.kernels.ssd import ssd
"""
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "a.py").write_text(source, encoding="utf-8")
    (tmp_path / "__init__.py").write_text("from solomonic.lm import a", encoding="utf-8")
    assert violations(tmp_path) == []
