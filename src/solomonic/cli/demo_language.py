"""The demonstration's first half: a byte model of Python from the interpreter's own library."""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solomonic.cli import console
from solomonic.cli.generate import Continuation, choose_engine
from solomonic.cli.train import result_record, train_lm
from solomonic.core import DataError, StorageError

if TYPE_CHECKING:
    from rich.console import Console

PROMPT = "class Reader:\n    def __init__(self, "
LETTERS = 320
# Tests repeat themselves; tables of characters and generated data are hardly Python.
_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings",
            "pydoc_data", "__pycache__"}  # fmt: skip


def write_library(target: Path) -> int:
    """Write the standard library's modules as JSONL, one a line; bytes of source written.

    Raises:
        DataError: this Python comes without the source of its library.
        StorageError: the file cannot be written.
    """
    size = 0
    try:
        with target.open("w", encoding="utf-8") as file:
            for source in library_sources(Path(sysconfig.get_paths()["stdlib"])):
                file.write(json.dumps({"text": source}) + "\n")
                size += len(source)
    except OSError as error:
        raise StorageError(
            f"cannot write {target}: {error.strerror}; free some space or give another --out."
        ) from error
    if size == 0:
        raise DataError(
            "this Python has no source of its standard library to train on; run the demonstration "
            "with another Python."
        )
    return size


def library_sources(root: Path) -> Iterator[str]:
    """The text of every module below `root` that is worth reading, in a fixed order."""
    for path in sorted(root.rglob("*.py")):
        if _SKIPPED & set(path.relative_to(root).parts):
            continue
        try:
            text = path.read_text("utf-8")
        except (OSError, ValueError):  # a few modules are in other encodings on purpose
            continue
        if text.strip():
            yield text


def train_on_library(out: Path, minutes: float, seed: int, story: Console) -> dict[str, Any]:
    """Train, save into `out/lm`, and return the run's record."""
    from solomonic.lm.data import DataConfig
    from solomonic.recipes import count_parameters, demo

    size = write_library(out / "library.jsonl")
    run = demo.language_model(minutes, seed)
    story.print(
        f"A model of {count_parameters(run.model):,} parameters learns Python from "
        f"{size / 1e6:.1f} MB of the standard library, byte by byte, for {minutes:g} minutes."
    )
    data = DataConfig(path=str(out / "library.jsonl"), valid_fraction=0.01)
    result = train_lm(run, data, out / "lm", label="learning Python")
    if result.interrupted:
        raise KeyboardInterrupt
    record = result_record(result, run)
    bits = (result.best or {}).get("bits_per_byte")
    if bits is not None:
        story.print(f"Modules it has never seen cost it {bits:.2f} bits per byte (8 untrained).")
    return record


def complete(out: Path, seed: int, story: Console, live: bool) -> str:
    """Go on from a line of Python, on the screen as it comes; returns what was written."""
    from solomonic.lm.generate import GenerateConfig
    from solomonic.lm.pretrained import load_pretrained

    model, tokenizer = load_pretrained(out / "lm")
    config = GenerateConfig(max_new_tokens=LETTERS, temperature=0.8, top_p=0.95, seed=seed)
    reader, engine = choose_engine(model, "auto", "float32", 1)
    continuation = Continuation(reader, tokenizer, tokenizer.encode(PROMPT), config, engine)
    story.print("\nIt goes on from two lines:\n")
    story.print(f"[bold]{PROMPT}[/bold]", end="", highlight=False)
    stream = sys.stdout if live else sys.stderr
    for piece in continuation:
        stream.write(piece)
        stream.flush()
    record = continuation.record()
    speed = len(record["tokens"]) / max(record["seconds"], 1e-9)
    story.print(
        f"\n\n[dim]{speed:.0f} bytes a second; its state had "
        f"{console.show_bytes(record['state_bytes'])} from the first byte to the last[/dim]"
    )
    return continuation.text
