"""`solomonic inspect`: sums that add up, and the ops that really run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from solomonic import kernels
from solomonic.cli.inspect import describe
from solomonic.lm.model import LanguageModel
from solomonic.lm.paths import paths
from solomonic.recipes import debug

from .conftest import Done

Cli = Callable[..., Done]
PATTERNS = ["T", "W", "M", "D", "F", "B", "BM", "DT"]


def model_of(pattern: str, **changes: Any) -> LanguageModel:
    torch.manual_seed(0)
    config = debug.TINY.replace(pattern=pattern, num_hidden_layers=None, **changes)
    return LanguageModel(config).eval()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_parts_add_up(pattern: str) -> None:
    model = model_of(pattern)
    record = describe(model, Path("here"))
    parts = {k: v for k, v in record["parameters"].items() if k != "all"}
    assert sum(parts.values()) == record["parameters"]["all"]
    # The rest of the state counts tokens, eight bytes a stream.
    assert sum(record["memories"].values()) == record["state_bytes"] - 8
    assert sum(layer["state_bytes"] for layer in record["layers"]) == record["state_bytes"] - 8
    assert record["state_grows"] is ("T" in pattern)


@pytest.mark.parametrize(
    ("pattern", "changes"),
    [
        *((pattern, {}) for pattern in PATTERNS),
        ("B", {"transition": "delta"}),
        ("B", {"eidetic_slots": 0}),
        ("F", {"short_conv_size": 0}),
        ("W", {"short_conv_layers": "W"}),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
def test_the_ops_named_are_those_that_run(
    pattern: str, changes: dict[str, Any], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every form that is called is named, with its module, and no other."""
    model, called = model_of(pattern, **changes), set()
    for op, forms in kernels.TABLE.items():
        for name, form in forms.items():

            def watched(*args: Any, f: Any = form.function, key: Any = (op, name)) -> Any:
                called.add(key)
                return f(*args)

            changed = kernels.Form(watched, form.refuses)
            monkeypatch.setitem(forms, name, changed)
    with kernels.use(backend):
        named = paths(model, 40)
    used = {sentence.split(" (")[0] for phase in named.values() for sentence in phase}
    assert used - {"full attention: torch"} == {f"{op}: {name}" for op, name in called}
    assert ("full attention: torch" in used) is ("T" in pattern)


def test_json_and_table_say_the_same(cli: Cli, model_dir: Path) -> None:
    record = cli("inspect", model_dir, "--json").record
    shown = cli("inspect", model_dir).out
    assert record["dtype"] == "float32"
    assert record["tokenizer"] == {"kind": "ByteTokenizer", "vocab_size": 257}
    assert record["config"]["refresh_period"] == 8  # what the open setting comes to
    assert f"{record['parameters']['all']:,}" in shown
    assert "0 B  B'MOJO: window, fading and eidetic memory" in shown
    assert any(line.startswith("ssd: native") for line in record["kernels"])
    assert "ssd: native" in shown
