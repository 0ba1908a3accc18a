"""A `Delta`: what learning changed in a model, small enough to keep for every user.

    delta.apply(model)        # on top of those that are applied already
    delta.drop(model)         # the weights are what they were without it, bit for bit
    delta.save("ada.delta")   # refuses to be applied to another model

Adding and subtracting floats does not give back what was there, so nothing is subtracted: the
original values of every parameter touched are kept as long as a delta is applied, and the weights
are computed anew from them, original + first delta + second delta, whenever one comes or goes.
"""

import dataclasses
import hashlib
import json
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from solomonic.core import CheckpointError, ConfigError
from solomonic.lm.model import LanguageModel
from solomonic.state import checked

KIND = checked.Kind(format="solomonic-delta", version=1, title="delta file")

Change = tuple[Tensor, ...]
"""(difference,) of a parameter's shape, or (left (rows, r), right (r, columns)): their product."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Delta:
    """Changes of a model's parameters.

    Attributes:
        fingerprint: of the model without any delta; no other accepts this one.
        changes: by parameter name.
        over: identities of the deltas it was learned on top of; they must be applied before it.
        notes: what the maker says about it; JSON.
    """

    fingerprint: str
    changes: Mapping[str, Change]
    over: tuple[str, ...] = ()
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def identity(self) -> str:
        """SHA-256 of what it changes: equal identities have equal effects."""
        digest = hashlib.sha256(json.dumps([self.fingerprint, list(self.over)]).encode())
        for name in sorted(self.changes):
            for part in self.changes[name]:
                digest.update(f"{name} {tuple(part.shape)} {part.dtype}".encode())
                digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return sum(x.numel() * x.element_size() for parts in self.changes.values() for x in parts)

    def apply(self, model: LanguageModel) -> None:
        """Change the model's weights by this delta.

        Raises:
            CheckpointError: it belongs to another model.
            ConfigError: it is applied already, or one that it was learned on top of is not.
        """
        stack = applied(model)
        if self.identity in [other.identity for other in stack]:
            raise ConfigError("the delta is applied already; drop it first.")
        if missing := [name for name in self.over if name not in [d.identity for d in stack]]:
            raise ConfigError(
                f"the delta was learned on top of another one ({missing[0][:12]}); apply that one "
                "first."
            )
        if self.fingerprint != base_fingerprint(model):
            raise CheckpointError(
                f"the delta belongs to another model ({self.fingerprint[:12]}, this one is "
                f"{base_fingerprint(model)[:12]}); use the model it was learned on."
            )
        kept = _KEPT.setdefault(model, _Kept())
        parameters = dict(model.named_parameters())
        for name in self.changes:
            if name not in kept.originals:
                kept.originals[name] = parameters[name].detach().clone()
        kept.deltas.append(self)
        _compute(model, kept, self.changes)

    def drop(self, model: LanguageModel) -> None:
        """Take the delta off again; what is left is as if it had never been there, bit for bit.

        Raises:
            ConfigError: it is not applied, or another one stands on it.
        """
        mine = self.identity
        kept = _KEPT.get(model, _Kept())
        place = [delta.identity for delta in kept.deltas]
        if mine not in place:
            raise ConfigError("the delta is not applied to this model, so it cannot be dropped.")
        if any(mine in other.over for other in kept.deltas):
            raise ConfigError("another delta was learned on top of this one; drop that first.")
        del kept.deltas[place.index(mine)]
        _compute(model, kept, self.changes)
        needed = {name for delta in kept.deltas for name in delta.changes}
        kept.originals = {n: value for n, value in kept.originals.items() if n in needed}

    @contextmanager
    def applied_to(self, model: LanguageModel) -> Iterator[LanguageModel]:
        """`apply` inside the `with`, `drop` at its end."""
        self.apply(model)
        try:
            yield model
        finally:
            self.drop(model)

    def save(self, path: str | Path) -> None:
        """Write it to one file, whole or not at all.

        Raises:
            StorageError: the disk is full or the place cannot be written.
        """
        tensors = {
            f"{part}.{name}": x
            for name, parts in self.changes.items()
            for part, x in zip(_PARTS[len(parts)], parts, strict=True)
        }
        header = {
            "fingerprint": self.fingerprint,
            "over": json.dumps(list(self.over)),
            "notes": json.dumps(dict(self.notes)),
        }
        checked.write(path, tensors, header, KIND)

    @staticmethod
    def load(path: str | Path) -> "Delta":
        """Read what `save` wrote.

        Raises:
            CheckpointError: missing, cut short, damaged, newer, or no delta.
        """
        tensors, header = checked.read(path, KIND)
        changes: dict[str, Change] = {}
        for full in sorted(tensors):
            part, _, name = full.partition(".")
            if part == "left":
                changes[name] = (tensors[full], tensors[f"right.{name}"])
            elif part == "full":
                changes[name] = (tensors[full],)
        return Delta(
            fingerprint=header["fingerprint"],
            changes=changes,
            over=tuple(json.loads(header["over"])),
            notes=json.loads(header["notes"]),
        )


_PARTS = {1: ("full",), 2: ("left", "right")}


@dataclasses.dataclass
class _Kept:
    """What stands on a model: deltas from below, and the untouched values they are added to."""

    deltas: list[Delta] = dataclasses.field(default_factory=list)
    originals: dict[str, Tensor] = dataclasses.field(default_factory=dict)


_KEPT: "weakref.WeakKeyDictionary[LanguageModel, _Kept]" = weakref.WeakKeyDictionary()


def applied(model: LanguageModel) -> tuple[Delta, ...]:
    """The deltas applied to a model, the oldest first."""
    kept = _KEPT.get(model)
    return () if kept is None else tuple(kept.deltas)


def base_fingerprint(model: LanguageModel) -> str:
    """The fingerprint of the model without its deltas."""
    kept = _KEPT.get(model)
    if kept is None or not kept.originals:
        return model.fingerprint()
    parameters = dict(model.named_parameters())
    now = {name: parameters[name].detach().clone() for name in kept.originals}
    with restoring(model, now):
        for name, value in kept.originals.items():
            parameters[name].data.copy_(value)
        return model.fingerprint()


@contextmanager
def restoring(model: LanguageModel, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put `values` back into the model's parameters at the end, come what may."""
    parameters = dict(model.named_parameters())
    try:
        yield
    finally:
        for name, value in values.items():
            parameters[name].data.copy_(value)


def _compute(model: LanguageModel, kept: _Kept, names: Mapping[str, Any]) -> None:
    """Weights of `names` from the originals and all deltas, in order."""
    parameters = dict(model.named_parameters())
    for name in names:
        original = kept.originals[name]
        total = original
        for delta in kept.deltas:
            if name in delta.changes:
                total = add(total, delta.changes[name])
        parameters[name].data.copy_(total)


def add(value: Tensor, change: Change) -> Tensor:
    """`value` + change, in the wider of float32 and the value's type."""
    wide = torch.promote_types(value.dtype, torch.float32)
    parts = [x.to(device=value.device, dtype=wide) for x in change]
    return value.to(wide) + (parts[0] if len(parts) == 1 else parts[0] @ parts[1])
