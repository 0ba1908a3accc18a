"""State files: what a model remembers of a document, as one file of constant size.

    save_state("moby.state", model, state, StateNotes(documents=..., unread=(17,)))
    read = load_state("moby.state", model, tokenizer)
    generation = Generation(reader, [[*read.notes.unread, *prompt]], config, read.into(reader))

The file holds the state's tensors exactly as they were, the products of the decays since the
stream began (for `merging.merge_states`) and notes: which model and tokenizer, which documents.
Every bit is vouched for (`solomonic.state.checked`).
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from solomonic.core import CheckpointError, ConfigError
from solomonic.layers import ModelConfig
from solomonic.lm.decays import Products
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.lm.native import NativeModel, NativeStreams
from solomonic.state import checked, concatenate
from solomonic.state.files import place
from solomonic.text import Tokenizer

KIND = checked.Kind(format="solomonic-read", version=1, title="state file")
_STATE, _DECAY = "state.", "decay."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A document that a state has read: its name, how many of its tokens are read of how many,
    and the SHA-256 of its text, by which an interrupted reading is taken up again."""

    name: str
    tokens: int
    read: int
    digest: str = ""

    @property
    def complete(self) -> bool:
        """Whether nothing of it is left but the token that begins the next prompt."""
        return self.read >= self.tokens - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class StateNotes:
    """What a state file says about itself.

    Attributes:
        documents: in the order of reading.
        unread: tokens that come next and that the state has not read: the last one of the
            document. A prompt goes behind them.
        fingerprint: of the model; tokenizer: of the tokenizer ("": not known); model: where the
            model was, as the reader named it; config: the model's configuration.
        engine: what read; merged: how several states were merged into this one, or "".
    """

    documents: tuple[Document, ...] = ()
    unread: tuple[int, ...] = ()
    fingerprint: str = ""
    tokenizer: str = ""
    model: str = ""
    config: ModelConfig | None = None
    engine: str = ""
    merged: str = ""

    def to_json(self) -> dict[str, Any]:
        """The plain JSON form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild from `to_json`'s form.

        Raises:
            ConfigError: it describes no possible model.
        """
        config = record["config"]
        return cls(
            **dict(record)
            | {
                "documents": tuple(Document(**entry) for entry in record["documents"]),
                "unread": tuple(record["unread"]),
                "config": None if config is None else ModelConfig.from_json(config),
            }
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadState:
    """What a state file holds: the state (one row or more), the decays of its past, the notes."""

    state: ModelState
    decays: Products
    notes: StateNotes

    def into(self, reader: LanguageModel | NativeModel) -> Any:
        """The state in the form in which `reader` goes on with it. It is the caller's own: what
        happens to it changes neither this value nor another `into`."""
        if isinstance(reader, NativeModel):
            streams = reader.streams(len(self.state.time))
            streams.load_state(self.state)
            return streams
        like = reader.init_state(len(self.state.time))
        return like.map(lambda _, x, y: y.to(device=x.device, dtype=x.dtype, copy=True), self.state)

    def fork(self, count: int) -> ModelState:
        """`count` rows that all remember this, and go on apart."""
        return concatenate([self.state] * count)


def plain_state(model: LanguageModel, state: ModelState | NativeStreams) -> ModelState:
    """A state as tensors, none rounded: a native stream's numbers are float32 in any model."""
    if isinstance(state, NativeStreams):
        return state.to_state(model.init_state(len(state), dtype=torch.float32))
    return state


def save_state(
    path: str | Path,
    model: LanguageModel,
    state: ModelState | NativeStreams,
    notes: StateNotes | None = None,
    decays: Products | None = None,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write what a model remembers to one file, whole or not at all.

    Args:
        state: of `model`, or streams of a `NativeModel` made of it.
        notes: documents, unread tokens and so on; the model's identity is filled in.
        decays: `Decays.products` since the stream began; without them the state cannot be merged.

    Raises:
        StorageError: the disk is full or the place cannot be written; an older file survives.
    """
    mark = "" if tokenizer is None else tokenizer.fingerprint
    notes = dataclasses.replace(
        notes or StateNotes(),
        fingerprint=model.fingerprint(),
        config=model.config,
        **({"tokenizer": mark} if mark else {}),
    )
    write_state(path, ReadState(state=plain_state(model, state), decays=decays or {}, notes=notes))


def write_state(path: str | Path, read: ReadState) -> None:
    """`save_state` of what `load_state` or `merge_states` gave."""
    tensors = {f"{_STATE}{name}": x for name, x in read.state.leaves()}
    tensors |= {f"{_DECAY}{name}": x for name, x in read.decays.items()}
    checked.write(path, tensors, {"notes": json.dumps(read.notes.to_json())}, KIND)


def load_state(
    path: str | Path, model: LanguageModel | None = None, tokenizer: Tokenizer | None = None
) -> ReadState:
    """Read a state file.

    Args:
        model: must be the one that wrote it; None takes its description from the file, which is
            enough to merge or look at states and not to go on reading.
        tokenizer: must be the one it was read with.

    Raises:
        CheckpointError: missing, cut short, damaged (the message says where), newer, or of
            another model or tokenizer.
    """
    tensors, header = checked.read(path, KIND)
    where = f"state file {path}"
    try:
        notes = StateNotes.from_json(json.loads(header["notes"]))
        assert notes.config is not None
    except (ConfigError, TypeError, KeyError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{where} describes no possible model: {error}") from error
    if model is not None and notes.fingerprint != model.fingerprint():
        raise CheckpointError(
            f"{where} belongs to another model ({notes.model or 'unnamed'}, "
            f"{notes.fingerprint[:12]}); this one is {model.fingerprint()[:12]}: load the model "
            "that read it, with the deltas it had."
        )
    if tokenizer is not None and notes.tokenizer not in ("", tokenizer.fingerprint):
        raise CheckpointError(
            f"{where} was read with another tokenizer ({notes.tokenizer[:12]}, this one is "
            f"{tokenizer.fingerprint[:12]}); use the one saved beside its model."
        )
    found = {n.removeprefix(_STATE): x for n, x in tensors.items() if n.startswith(_STATE)}
    decays = {n.removeprefix(_DECAY): x for n, x in tensors.items() if n.startswith(_DECAY)}
    rows = len(found["time"]) if "time" in found else 1
    state = place(found, empty_state(notes.config, rows), where)
    return ReadState(state=state, decays=decays, notes=notes)


def inspect_state(path: str | Path) -> dict[str, Any]:
    """What a state file holds, as a record: notes, bytes by tensor, whether it can be merged.

    Raises:
        CheckpointError: as `load_state`.
    """
    read = load_state(path)
    notes = read.notes.to_json()
    config = notes.pop("config")
    return {
        "file": str(path),
        **notes,
        "tokens": [int(t) for t in read.state.time],
        "bytes": Path(path).stat().st_size,
        "state_bytes": read.state.nbytes,
        "grows": "T" in (config["pattern"] if config else ""),
        "mergeable": bool(read.decays),
        "pattern": read.notes.config.layers if read.notes.config else "",
    }


def empty_state(config: ModelConfig, rows: int) -> ModelState:
    """The state of `rows` streams before any token, of a model that need not be there."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = LanguageModel(config)
    like = torch.zeros(0)
    return ModelState(torch.zeros(rows, dtype=torch.int64), model.blocks.init_state(rows, like))
