"""Lattices with what was really said: what weights are tuned on and reranking is measured by.

A manifest is JSONL, a lattice a line:

    {"lattice": "000012.slm", "text": "call siobhan", "source": "names", "before": ["ring siobhan"]}

`lattice` is a file from the manifest's folder, null where the recogniser heard nothing. `before`
(optional) is what the same user said earlier, and makes the memory this lattice is reranked with.
Manifests of recordings serve too ("audio" instead of "lattice"), where a folder is named in which
`solomonic transcribe --format lattice --out` put a lattice for each.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solomonic.core import DataError
from solomonic.speech.lattice import Lattice, load_lattice, word_lattice
from solomonic.speech.lattice.reading import LATTICE_ENDINGS
from solomonic.text.spoken import normalise

_MANIFEST = "manifest.jsonl"
_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A lattice and its reference.

    Attributes:
        name: the file, for messages.
        lattice: of words; None: nothing was heard.
        reference: what was said, normalised.
        source: the set it belongs to.
        before: what the user had said earlier.
        extra: all else of its line.
    """

    name: str
    lattice: Lattice | None
    reference: tuple[str, ...]
    source: str = ""
    before: tuple[str, ...] = ()
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)


def read_examples(
    manifests: str | Path | Sequence[str | Path],
    split: str | None = None,
    lattices: str | Path | None = None,
) -> list[Example]:
    """The lattices of one or several manifests, or of folders that hold a `manifest.jsonl`.

    Args:
        split: only the lines of this split; lines without one belong to every split.
        lattices: the folder of the lattices of manifests that name recordings.

    Raises:
        DataError: a manifest or a lattice is missing or malformed, or nothing is left.
    """
    if isinstance(manifests, str | Path):
        manifests = [manifests]
    found = [
        example
        for manifest in manifests
        for example in _read_one(
            Path(manifest), split, None if lattices is None else Path(lattices)
        )
    ]
    if not found:
        names = ", ".join(str(manifest) for manifest in manifests)
        where = "" if split is None else f" of the split '{split}'"
        raise DataError(f"{names}: there is no lattice{where}; check the manifest.")
    return found


def read_words(path: str | Path) -> Lattice:
    """The word lattice in a file; one of pieces is put together to words.

    Raises:
        DataError: it cannot be read or is damaged.
    """
    lattice = load_lattice(path)
    return word_lattice(lattice) if lattice.is_pieces else lattice


def _read_one(path: Path, split: str | None, lattices: Path | None) -> list[Example]:
    if path.is_dir():
        path = path / _MANIFEST
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"cannot read the manifest {path} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the manifest {path} is no UTF-8 text; give a JSONL file.") from error
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: no JSON ({error}); mend it.") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise DataError(
                f"{path}, line {number}: 'text' is missing, so nothing can be counted; add what "
                "was said."
            )
        if split is None or record.get("split", split) == split:
            records.append(record)
    files = [_file(path, record, lattices) for record in records]
    missing = [str(file) for file in files if file is not None and not file.is_file()]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(records)} lattices are missing "
            f"({', '.join(missing[:_SHOWN])}); make them with `solomonic transcribe --format "
            "lattice --lattice-format wire --out DIR` and name that folder."
        )
    return [_example(path, r, f) for r, f in zip(records, files, strict=True)]


def _file(manifest: Path, record: dict[str, Any], lattices: Path | None) -> Path | None:
    """Where a line's lattice is; None: it says that there is none."""
    if "lattice" in record:
        return None if record["lattice"] is None else manifest.parent / str(record["lattice"])
    audio = record.get("audio")
    if not isinstance(audio, str):
        raise DataError(f"{manifest}: a line names neither a lattice nor a recording; add one.")
    stem = (lattices or manifest.parent) / Path(audio).stem
    places = [stem.parent / f"{stem.name}{ending}" for ending in LATTICE_ENDINGS]
    return next((place for place in places if place.is_file()), places[-1])


def _example(manifest: Path, record: dict[str, Any], file: Path | None) -> Example:
    before = record.get("before") or []
    if not isinstance(before, list) or not all(isinstance(text, str) for text in before):
        raise DataError(f"{manifest}: 'before' must be a list of texts, not {before!r}.")
    known = ("lattice", "audio", "text", "source", "before", "split")
    return Example(
        name=str(file or manifest),
        lattice=None if file is None else read_words(file),
        reference=tuple(normalise(record["text"]).split()),
        source=str(record.get("source") or manifest.parent.name),
        before=tuple(before),
        extra={name: value for name, value in record.items() if name not in known},
    )
