"""Two device files to an update, and an update and the old file back to the new one, byte for byte.

Nothing is believed: the update says which contents it applies to and which come out of it, as
SHA-256, and what comes out is checked before anybody gets it.
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from solomonic.compress.delta.container import SECTIONS, Update, read_update, write_update
from solomonic.compress.delta.errors import AppliedError, DamagedUpdateError, WrongBaseError
from solomonic.compress.delta.rules import Rule, read_rule, write_rule
from solomonic.compress.delta.tables import read_symbols, write_symbols
from solomonic.compress.delta.tensors import (
    FIRST_CONTEXTS,
    SECOND_CONTEXTS,
    Job,
    Part,
    Tensor,
    describe,
    make_job,
)
from solomonic.compress.delta.text import read_text, write_text
from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import Pack, build_pack, parse_pack
from solomonic.core import CheckpointError, ConfigError, ShapeError

_DAMAGE = (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError, zlib.error)


class Change(NamedTuple):
    """A tensor that is not as it was.

    kind: "levels", "scales", "levels and scales", "numbers", "rule", "new" or "removed".
    changed: numbers that differ (all of a new one). of: numbers there are.
    bytes: of the update, what this tensor took, tables and words not counted.
    """

    name: str
    kind: str
    changed: int
    of: int
    bytes: float


@dataclasses.dataclass(frozen=True)
class Diff:
    """An update and what is in it.

    data: the update file. whole: the new file could not be told apart by its contents (another
    program wrote it) and is in the update as a whole.
    """

    data: bytes
    base: str
    result: str
    old_bytes: int
    new_bytes: int
    changes: tuple[Change, ...]
    whole: bool = False

    def to_json(self) -> dict[str, Any]:
        """For `--json`; `share` is the update's part of the new file's bytes."""
        return {
            "bytes": len(self.data),
            "share": len(self.data) / self.new_bytes,
            "old_bytes": self.old_bytes,
            "new_bytes": self.new_bytes,
            "base": self.base,
            "result": self.result,
            "whole": self.whole,
            "changes": [change._asdict() for change in self.changes],
        }


def diff(
    old: bytes,
    new: bytes,
    rules: Mapping[str, Rule] | None = None,
    names: tuple[str, str] = ("the old file", "the new file"),
) -> Diff:
    """The update that makes the device file `new` of the device file `old`.

    Args:
        rules: for matrices that were trained with one: what the rule leaves over is written too.
        names: of both files, for messages.

    Raises:
        CheckpointError: one of them is no sound device file.
    """
    before, after = parse_pack(old, names[0]), parse_pack(new, names[1])
    base, result = _identity(old), _identity(new)
    whole = build_pack(after) != new
    if whole:
        update, changes = Update(base, result, {"whole": len(new)}, zlib.compress(new, 9)), ()
    else:
        update, changes = _compare(before, after, (base, result), rules or {})
    data = write_update(update)
    found = Diff(data, base.hex(), result.hex(), len(old), len(new), changes, whole)
    assert apply_update(old, found.data) == new, "a fault of the coder: the update is not exact"
    return found


def apply_update(
    old: bytes, update: bytes, name: str = "the update", old_name: str = "the old file"
) -> bytes:
    """The new device file; the names are for messages.

    Raises:
        CheckpointError: one of the classes of errors.py, or the file is no device file.
    """
    found = read_update(update, name)
    _check_base(found, old, name, old_name)
    if "whole" in found.words:
        result = _whole(found, name)
    else:
        before = parse_pack(old, old_name)
        result = _Reader(found, before, name).file()
    if _identity(result) != found.result:
        raise DamagedUpdateError(
            f"{name} does not give the model that it announces (SHA-256 {found.result.hex()}); "
            "nothing was written, make the update again."
        )
    return result


def _identity(data: bytes) -> bytes:
    """Of the whole file, its signature too: what is left unsaid by an update must be the same."""
    return hashlib.sha256(data).digest()


def _check_base(found: Update, old: bytes, name: str, old_name: str) -> None:
    base = _identity(old)
    if base == found.base:
        return
    if base == found.result:
        raise AppliedError(
            f"{old_name} is what {name} makes already; there is nothing left to apply."
        )
    raise WrongBaseError(
        f"{name} applies to the model {found.base.hex()[:16]} and {old_name} is "
        f"{base.hex()[:16]}; give the file that the update was made from."
    )


def _compare(
    before: Pack, after: Pack, identities: tuple[bytes, bytes], rules: Mapping[str, Rule]
) -> tuple[Update, tuple[Change, ...]]:
    names = list(after.tensors)
    words: dict[str, Any] = {"tensors": []}
    if names != list(before.tensors):
        words["names"] = names
    jobs: list[tuple[str, Job]] = []
    rule_bytes = b""
    for index, (name, new) in enumerate(after.tensors.items()):
        old, rule = before.tensors.get(name), rules.get(name)
        said = describe(old, new, rule)
        if said is None:
            continue
        words["tensors"].append({"i": index, **said})
        rule_bytes += write_rule(rule) if "rule" in said and rule is not None else b""
        jobs.append((name, make_job(old, said, rule if "rule" in said else None)))
    news: list[Any] = [after.tensors[name] for name, _ in jobs]
    asked = [job.first(new) for (_, job), new in zip(jobs, news, strict=True)]
    first, first_bits = _write(asked, FIRST_CONTEXTS)
    answers = [[part.symbols for part in parts] for parts in asked]
    asked = [
        job.second(answer, new)  # type: ignore[arg-type]
        for (_, job), answer, new in zip(jobs, answers, news, strict=True)
    ]
    second, second_bits = _write(asked, SECOND_CONTEXTS)
    frames = _frame(before), _frame(after)
    text = b"" if frames[0] == frames[1] else write_text(*frames)
    update = Update(*identities, words, text, rule_bytes, first, second)
    sizes = dict(zip((name for name, _ in jobs), (first_bits + second_bits) / 8, strict=True))
    ruled = {names[said["i"]] for said in words["tensors"] if "rule" in said}
    return update, tuple(_changes(before, after, sizes, ruled))


class _Reader:
    """Applies a checked update to a parsed file."""

    def __init__(self, update: Update, before: Pack, name: str) -> None:
        self._update, self._before, self._name = update, before, name

    def file(self) -> bytes:
        section = "words"
        try:
            names = self._update.words.get("names", list(self._before.tensors))
            said = {int(entry["i"]): entry for entry in self._update.words["tensors"]}
            section = "text"
            frame = _frame(self._before)
            if self._update.text:
                frame = read_text(frame, self._update.text)
            settings = parse_pack(frame, f"{self._name}, section 'text'")
            section = "rules"
            jobs = self._jobs(names, said)
            section = "first"
            first = _read(self._update.first, [job.first(None) for _, job in jobs], FIRST_CONTEXTS)
            section = "second"
            asked = [job.second(answer, None) for (_, job), answer in zip(jobs, first, strict=True)]
            second = _read(self._update.second, asked, SECOND_CONTEXTS)
            changed = {
                index: job.result(a, b)
                for (index, job), a, b in zip(jobs, first, second, strict=True)
            }
            tensors: dict[str, Tensor] = {}
            for index, name in enumerate(names):
                tensors[name] = changed[index] if index in changed else self._before.tensors[name]
            return build_pack(dataclasses.replace(settings, tensors=tensors))
        except (CheckpointError, ConfigError, ShapeError) as error:
            self._refuse(section, str(error), error)
        except _DAMAGE as error:
            self._refuse(section, f"it cannot be read ({error})", error)

    def _jobs(self, names: list[str], said: Mapping[int, Any]) -> list[tuple[int, Job]]:
        jobs, at = [], 0
        for index, entry in sorted(said.items()):
            old, rule = self._before.tensors.get(names[index]), None
            if "rule" in entry:
                if not isinstance(old, QuantisedMatrix):
                    raise CheckpointError("it has a rule for a matrix that is not there")
                rule, at = read_rule(self._update.rules, at, old.levels.shape)
            jobs.append((index, make_job(old, entry, rule)))
        if at != len(self._update.rules):
            raise CheckpointError("it has more rules than matrices")
        return jobs

    def _refuse(self, section: str, why: str, error: Exception) -> NoReturn:
        at = self._update.offsets[SECTIONS.index(section)]
        raise DamagedUpdateError(
            f"{self._name}, byte {at} (section '{section}'): {why.rstrip('.')}; make the update "
            "again."
        ) from error


def _whole(update: Update, name: str) -> bytes:
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(update.text, int(update.words["whole"]) + 1)
    except _DAMAGE as error:
        at = update.offsets[1]
        raise DamagedUpdateError(f"{name}, byte {at}: the new file cannot be read.") from error
    return data


def _frame(pack: Pack) -> bytes:
    """The device file without its tensors."""
    return build_pack(dataclasses.replace(pack, tensors={}))


def _write(asked: list[list[Part]], width: int) -> tuple[bytes, np.ndarray]:
    """All jobs' symbols as one stream, and the bits of each job."""
    if not any(asked):
        return b"", np.zeros(len(asked))
    contexts = _contexts(asked, width)
    symbols = np.concatenate([_symbols(part) for parts in asked for part in parts])
    data, bits = write_symbols(symbols, contexts, width * len(asked))
    return data, bits.reshape(len(asked), width).sum(axis=1)


def _read(data: bytes, asked: list[list[Part]], width: int) -> list[list[np.ndarray]]:
    """Each job's answers."""
    if not any(asked):
        if data:
            raise CheckpointError("there are symbols that nothing asks for")
        return [[] for _ in asked]
    symbols = read_symbols(data, _contexts(asked, width), width * len(asked))
    found, at = [], 0
    for parts in asked:
        found.append([])
        for part in parts:
            found[-1].append(symbols[at : at + len(part.contexts)])
            at += len(part.contexts)
    return found


def _contexts(asked: list[list[Part]], width: int) -> np.ndarray:
    return np.concatenate(
        [
            (part.contexts + index * width).astype(np.int32)
            for index, parts in enumerate(asked)
            for part in parts
        ]
    )


def _symbols(part: Part) -> np.ndarray:
    assert part.symbols is not None
    return part.symbols


def _changes(
    before: Pack, after: Pack, sizes: Mapping[str, float], ruled: set[str]
) -> list[Change]:
    found = []
    for name, new in after.tensors.items():
        if name in sizes:
            kind, changed, of = _difference(before.tensors.get(name), new)
            found.append(
                Change(name, "rule" if name in ruled else kind, changed, of, float(sizes[name]))
            )
    gone = [name for name in before.tensors if name not in after.tensors]
    return found + [Change(name, "removed", 0, 0, 0.0) for name in gone]


def _difference(old: Tensor | None, new: Tensor) -> tuple[str, int, int]:
    """What kind of change it is, and how many numbers of how many changed."""
    if isinstance(new, np.ndarray):
        of = new.size
        if not isinstance(old, np.ndarray) or old.shape != new.shape:
            return "new", of, of
        return "numbers", int((old.view(np.uint32) != new.view(np.uint32)).sum()), of
    of = new.levels.size
    if not isinstance(old, QuantisedMatrix) or old.levels.shape != new.levels.shape:
        return "new", of, of
    changed = int((old.levels != new.levels).sum())
    scaled = not np.array_equal(old.scales, new.scales)
    kind = "levels and scales" if changed and scaled else "levels" if changed else "scales"
    return kind, changed, of
