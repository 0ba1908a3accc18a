"""`solomonic inspect` of a state file or a delta: whose it is, what it has read, its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from solomonic.cli import console


def inspect_checked(path: Path, json: bool) -> bool:
    """Show the file if it is a state file or a delta, and say whether it was.

    Raises:
        CheckpointError: it is one, and damaged.
    """
    from solomonic.lm.adapt import delta
    from solomonic.lm.state_files import KIND, inspect_state
    from solomonic.state import checked

    found = checked.format_of(path)
    if found == KIND.format:
        record = inspect_state(path)
    elif found == delta.KIND.format:
        record = inspect_delta(path)
    else:
        return False
    if json:
        console.emit(record)
    else:
        console.table(str(path), ("figure", "value"), _rows(record))
    return True


def inspect_delta(path: Path) -> dict[str, Any]:
    """A delta file as a record."""
    from solomonic.lm.adapt import Delta

    found = Delta.load(path)
    return {
        "file": str(path),
        "fingerprint": found.fingerprint,
        "identity": found.identity,
        "over": list(found.over),
        "notes": dict(found.notes),
        "parameters": len(found.changes),
        "bytes": path.stat().st_size,
        "delta_bytes": found.nbytes,
    }


def _rows(record: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in record.items():
        if name == "documents":
            for document in value:
                read = f"{document['read']:,} of {document['tokens']:,} tokens"
                rows.append(("document", f"{document['name']}, {read}"))
        elif name in ("bytes", "state_bytes", "delta_bytes"):
            rows.append((name.replace("_", " "), console.show_bytes(value)))
        elif name in ("fingerprint", "tokenizer", "identity"):
            rows.append((name, value[:16]))
        elif isinstance(value, (list, tuple)):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        elif isinstance(value, dict):
            rows += [(key, str(item)) for key, item in value.items() if key != "sha256"]
        elif name != "file":
            rows.append((name, value if value != "" else "none"))
    return rows
