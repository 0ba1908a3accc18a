"""Manifests: one JSON object a line that names a recording and what is said in it.

    {"audio": "audio/a.opus", "duration": 2.1, "text": "stop", "speaker": "s1", "split": "train"}

`audio` is a path from the manifest's folder (absolute ones are taken as they are) and `duration`
is in seconds. `text` is null where nobody transcribed it and "" where nobody speaks. What else a
line holds is kept in `Utterance.extra`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from solomonic.core import DataError
from solomonic.train.atomic import write_files

SHOWN = 1000  # names in a message that lists files: all, unless a whole set is missing
_FIELDS = ("audio", "duration", "text", "speaker", "language", "split", "source")
UNCLEAR = ("has_partial_word", "unintelligible_part")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """A recording.

    Attributes:
        audio: the file.
        duration: seconds.
        text: what is said; None: not transcribed; "": nothing.
        speaker, language, split: as far as known.
        source: the set it is from; a line that names none has its manifest's folder.
        extra: all else its line held.
    """

    audio: Path
    duration: float
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    split: str | None = None
    source: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)


def read_manifest(
    paths: str | Path | Sequence[str | Path],
    split: str | None = None,
    require_text: bool = True,
) -> list[Utterance]:
    """The utterances of one or several manifests, in their order.

    Args:
        paths: manifests, or folders that hold a `manifest.jsonl`.
        split: only the lines of this split.
        require_text: refuse lines whose text is null.

    Raises:
        DataError: a manifest cannot be read or is empty, a line is malformed (named by its
            number), recordings are missing (all are named, of more than 1,000 the first), the split
            has no line, or a text is missing.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    found = [u for path in paths for u in _read_one(Path(path))]
    names = ", ".join(str(path) for path in paths)
    if not found:
        raise DataError(f"{names}: no utterances; give a manifest with at least one line.")
    if split is not None:
        splits = sorted({str(u.split) for u in found})
        found = [u for u in found if u.split == split]
        if not found:
            raise DataError(
                f"{names}: no utterance of the split '{split}'; there are {', '.join(splits)}."
            )
    missing = [str(u.audio) for u in found if not u.audio.is_file()]
    refuse(missing, len(found), "recordings are missing", "copy them or remove their lines")
    if require_text:
        silent = [str(u.audio) for u in found if u.text is None]
        refuse(silent, len(found), "recordings have no text", "transcribe or leave them out")
    return found


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest, whole or not at all; audio below its folder is named relative to it.

    Raises:
        StorageError: the disk is full or the place cannot be written.
    """
    path = Path(path)
    folder = path.parent.resolve()
    lines = [json.dumps(_record(u, folder), ensure_ascii=False) for u in utterances]
    text = "".join(f"{line}\n" for line in lines)
    write_files(path.parent, lambda place: _write(place / path.name, text))


def drop_unclear(
    utterances: Iterable[Utterance], marks: Sequence[str] = UNCLEAR
) -> tuple[list[Utterance], int]:
    """Those without any of the marks in `extra`, and how many were left out."""
    given = list(utterances)
    kept = [u for u in given if not any(u.extra.get(mark) for mark in marks)]
    return kept, len(given) - len(kept)


def _read_one(path: Path) -> list[Utterance]:
    if path.is_dir():
        path = path / "manifest.jsonl"
    try:
        lines = path.read_text("utf-8").split("\n")
    except OSError as error:
        raise DataError(
            f"cannot read the manifest {path} ({error.strerror}); give a JSONL file or the folder "
            "of a manifest.jsonl."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"the manifest {path} is no UTF-8 text; give a JSONL file.") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.append(_parse(line, path, number))
    return found


def _parse(line: str, path: Path, number: int) -> Utterance:
    def bad(what: str) -> DataError:
        return DataError(f"{path}, line {number}: {what}; mend or remove the line.")

    try:
        record = json.loads(line)
    except ValueError as error:
        raise bad(f"no JSON ({error})") from error
    if not isinstance(record, dict):
        raise bad("not a JSON object")
    audio, duration = record.get("audio"), record.get("duration")
    if not isinstance(audio, str) or not audio:
        raise bad("'audio' is not the path of a recording")
    if not _is_length(duration):
        raise bad("'duration' is not a number of seconds")
    for name in _FIELDS[2:]:
        if not isinstance(record.get(name), str | None):
            raise bad(f"'{name}' is neither a text nor null")
    extra = {k: v for k, v in record.items() if k not in _FIELDS}
    return Utterance(
        audio=path.parent / audio,
        duration=float(record["duration"]),
        text=record.get("text"),
        speaker=record.get("speaker"),
        language=record.get("language"),
        split=record.get("split"),
        source=record.get("source") or path.resolve().parent.name,
        extra=extra,
    )


def _is_length(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _record(utterance: Utterance, folder: Path) -> dict[str, Any]:
    audio = Path(os.path.abspath(utterance.audio))
    relative = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
    record = {name: getattr(utterance, name) for name in _FIELDS}
    record["audio"] = relative.as_posix()
    record["duration"] = round(utterance.duration, 6)
    return {**record, **utterance.extra}


def _write(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")


def refuse(names: list[str], total: int, what: str, advice: str) -> None:
    """Raise `DataError` when there are `names`: their count and the first 1,000 of them."""
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise DataError(
            f"{len(names)} of {total} {what}; {advice}: {', '.join(names[:SHOWN])}{more}."
        )
