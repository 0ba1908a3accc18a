"""A language model with a long-term memory in every step: the one object that generation takes.

    reader = Remembering(model, tokenizer, memory=Memory.open("notes.db", read_only=True))
    generation = Generation(reader, [prompt])
    output = [int(token) for token in generation]
    reader.citations(generation.state, output)             # where each stretch came from

Around a `LanguageModel`, a `NativeModel`, or anything with `hidden` and `head`. Each token is
predicted, charged and only then learned from, in the prompt as in what is generated
(`solomonic.memory.reader.recall`); whatever the memory does, it costs a stream of T tokens at most
log2(T + 31) - 1 bits more than the model alone (`memory.reader.gate`).
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solomonic.core import (
    CheckpointError,
    Config,
    ConfigError,
    DataError,
    ShapeError,
    require_least,
)
from solomonic.layers import ModelConfig
from solomonic.lm.generate import check_vocabulary
from solomonic.lm.native import NativeModel
from solomonic.lm.shelves import Library, Opened, Store
from solomonic.memory.reader.citation import Citation, join
from solomonic.memory.reader.neighbours import Datastore
from solomonic.memory.reader.recall import Recall, RecallConfig, Reference, Shelf
from solomonic.state import checked, gather
from solomonic.text import Tokenizer

KIND = checked.Kind(format="solomonic-remembered", version=1, title="memory of a stream")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RememberConfig(Config):
    """What is read, and when the store is asked.

    Raises:
        ConfigError: a value out of range.
    """

    PARTS = {"recall": RecallConfig}  # noqa: RUF012

    recall: RecallConfig = dataclasses.field(default_factory=RecallConfig)
    chunk: int = 128
    """Tokens of a prompt that the model reads at once; changes no number."""
    passages: int = 4
    """Passages of the store that stand open at a time; 0: the store is not searched."""
    every: int = 64
    """Tokens after which the store is searched again; it is searched at the end of a prompt too."""
    query: int = 48
    """How many of the newest tokens are the words searched for."""
    read_passages: bool = True
    """Whether the model reads what is found, so that its states become neighbours."""
    capacity: int = 32768
    """States of stored passages that are kept."""

    def __post_init__(self) -> None:
        require_least(self, 1, "chunk", "every", "query", "capacity")
        require_least(self, 0, "passages")


@dataclasses.dataclass
class Row:
    """One stream: its memory, what it has open, where its tokens came from."""

    recall: Recall
    opened: Opened
    read: int = 0
    newest: list[int] = dataclasses.field(default_factory=list)
    references: dict[int, Reference] = dataclasses.field(default_factory=dict)

    def copy(self) -> "Row":
        opened = self.opened.copy()
        shelves = [opened.shelf if s is self.opened.shelf else s for s in self.recall.shelves]
        recall = self.recall.copy()
        recall.shelves = shelves
        return Row(recall, opened, self.read, list(self.newest), dict(self.references))


@dataclasses.dataclass
class RememberingState:
    """What streams remember: the model's own state, and each row's memory. It moves on in place."""

    model: Any
    rows: list[Row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def time(self) -> Tensor:
        """(B,) int64 tokens read."""
        return torch.tensor([row.read for row in self.rows], dtype=torch.int64)

    @property
    def nbytes(self) -> int:
        """Bytes of the model's state and of the rows' memories; shelves are not counted."""
        return self.model.nbytes + sum(row.recall.nbytes for row in self.rows)

    def gather(self, index: Sequence[int] | Tensor) -> "RememberingState":
        """Copies of the rows named, in that order: beams and branches."""
        names = [int(i) for i in index]
        if hasattr(self.model, "gather"):
            model = self.model.gather(names)
        else:
            model = gather(self.model, torch.tensor(names))
        return RememberingState(model, [self.rows[name].copy() for name in names])


class Remembering:
    """A `solomonic.lm.generate.Reader` with memory.

    Args:
        model: a `LanguageModel` or a `NativeModel`, or an object with `hidden`, `head`, `config`,
            `device` and `init_state`.
        tokenizer: of the model.
        memory: a store whose passages are searched as the text goes on.
        datastore: states of a training set, and with `texts` where they are from.

    Attributes:
        library: stored texts that all streams share; fill it with `learn`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        config: RememberConfig | None = None,
        *,
        memory: Store | None = None,
        datastore: Shelf | Datastore | None = None,
    ) -> None:
        self.model, self.tokenizer, self.memory = model, tokenizer, memory
        self.options = config or RememberConfig()
        if tokenizer.vocab_size != model.config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} tokens and the model "
                f"{model.config.vocab_size}; give the tokenizer saved beside the model."
            )
        width = model.config.hidden_size
        self.library = Library(tokenizer, width, self.options.recall.match, self.options.capacity)
        self._data = Shelf(keys=datastore) if isinstance(datastore, Datastore) else datastore
        self._letters = letters(tokenizer)

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """The model's device."""
        return self.model.device

    def learn(self, text: str | bytes, source: str = "", offset: int = 0, read: bool = True) -> int:
        """Put a text on the shelf of all streams; how many tokens it has.

        Args:
            offset: characters of the source before the text.
            read: let the model read it, so that its states become neighbours; else it is there for
                verbatim matches only, which costs next to nothing.
        """
        before = len(self.library)
        self.library.put(text, source, offset, self._read_document if read else None)
        return len(self.library) - before - 1

    def init_state(self, rows: int) -> RememberingState:
        """`rows` streams before any token."""
        return RememberingState(self.model.init_state(rows), [self._row() for _ in range(rows)])

    def wrap(self, state: Any) -> RememberingState:
        """A state of the model alone, whose rows begin without a memory of their own."""
        reads = [int(t) for t in state.time]
        return RememberingState(state, [dataclasses.replace(self._row(), read=n) for n in reads])

    @torch.no_grad()
    def next_logits(
        self, tokens: Tensor, state: RememberingState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, RememberingState]:
        """Log-probabilities (B, V) after each row's last real token of (B, T); `state` moves on.

        Rows of length 0 stand still and have zeros.
        """
        check_vocabulary(tokens, self.config.vocab_size)
        state = self.init_state(len(tokens)) if state is None else state
        if len(state) != len(tokens):
            raise ShapeError(f"tokens have {len(tokens)} rows and the state {len(state)}.")
        steps = tokens.shape[1]
        counts = [steps] * len(tokens) if lengths is None else lengths.tolist()
        last: list[np.ndarray | None] = [None] * len(tokens)
        for begin in range(0, steps, self.options.chunk):
            part = tokens[:, begin : begin + self.options.chunk]
            taken = [min(max(count - begin, 0), part.shape[1]) for count in counts]
            logs, hidden = self._read(part, state, taken)
            for row, count in enumerate(taken):
                ends = begin + count == counts[row]
                for at in range(count):
                    final = ends and at == count - 1
                    chances = self._step(
                        state.rows[row], int(part[row, at]), logs[row][at], hidden[row][at],
                        final and steps > 1,
                    )  # fmt: skip
                    if final:
                        last[row] = chances
        nothing = np.ones(self.config.vocab_size)
        found = np.stack([nothing if one is None else one for one in last])
        logits = torch.from_numpy(np.log(np.maximum(found, 1e-300))).float()
        return logits.to(self.device), state

    @torch.no_grad()
    def score(
        self, tokens: Sequence[int] | Tensor, state: RememberingState | None = None
    ) -> np.ndarray:
        """Bits (T-1,) that each token but the first costs, in a stream of one row.

        Raises:
            DataError: there is no token to score.
        """
        ids = torch.as_tensor(tokens).reshape(1, -1)
        if ids.shape[1] < 2:
            raise DataError("there is nothing to score; give at least two tokens.")
        state = self.init_state(1) if state is None else state
        row, paid = state.rows[0], []
        for begin in range(0, ids.shape[1], self.options.chunk):
            part = ids[:, begin : begin + self.options.chunk]
            logs, hidden = self._read(part, state, [part.shape[1]])
            for at, token in enumerate(part[0].tolist()):
                before = row.recall.bits
                self._step(row, token, logs[0][at], hidden[0][at], False)
                paid.append(row.recall.bits - before)
        return np.array(paid[1:])

    @torch.no_grad()
    def skim(self, tokens: Sequence[int], state: RememberingState, row: int = 0) -> None:
        """Read many tokens without predicting them: the model's state moves on, all of them can be
        matched and cited afterwards, the newest become neighbours. Nothing is charged and the gate
        learns nothing; a hundred times as fast as reading token by token.

        Raises:
            ShapeError: the state has several rows.
        """
        if len(state) != 1:
            raise ShapeError(f"skim reads one row at a time; the state has {len(state)}.")
        mine, keep = state.rows[row], self.options.recall.neighbours.capacity
        for begin in range(0, len(tokens), 512):
            part = list(tokens[begin : begin + 512])
            known = mine.recall.skim(part)
            ids = torch.tensor([part], device=self.device)
            if begin + 512 + keep < len(tokens):
                state.model = self._advance(ids, state.model)
            else:
                logs, hidden = self._read(ids, state, [len(part)])
                mine.recall.remember(hidden[0][:-1], part[1:], known + 1)
                mine.recall.predict(logs[0][-1], hidden[0][-1])
            mine.read += len(part)
            mine.newest = [*mine.newest, *part][-self.options.query :]

    def citations(
        self, state: RememberingState, output: Sequence[int], row: int = 0
    ) -> list[Citation]:
        """Where the stretches of an output came from.

        Args:
            state: of the generation; its last token may be unread.
            output: all tokens generated, in order.
        """
        mine = state.rows[row]
        tokens = [int(token) for token in output]
        # All but the last token, which a generation yields and does not read, have been read.
        first = mine.read - len(tokens) + 1
        found = {at: r for at in range(len(tokens)) if (r := mine.references.get(first + at))}
        if tokens and (reference := mine.recall.refer(tokens[-1])) is not None:
            found[len(tokens) - 1] = reference
        return join(found, self._letters, tokens, self.tokenizer.decode)

    def save(self, path: str | Path, state: RememberingState, fingerprint: str = "") -> None:
        """Write what the rows remember beyond the model's own state, which has files of its own
        (`lm.state_files`). Shelves are not in it.

        Args:
            fingerprint: of the model (`LanguageModel.fingerprint`); `load` refuses another.

        Raises:
            StorageError: the disk is full; an older file survives.
        """
        tensors = {
            f"{index}.{name}": torch.from_numpy(np.ascontiguousarray(array))
            for index, row in enumerate(state.rows)
            for name, array in row.recall.to_arrays().items()
        }
        reads = [row.read for row in state.rows]
        header = {
            "fingerprint": fingerprint,
            "settings": json.dumps(self._settings(), sort_keys=True),
            "read": json.dumps(reads),
        }
        checked.write(path, tensors, header, KIND)

    def load(self, path: str | Path, state: Any, fingerprint: str = "") -> RememberingState:
        """The rows that `save` wrote, with the model's own `state`.

        Raises:
            CheckpointError: damaged, of another model, or of other settings.
        """
        tensors, header = checked.read(path, KIND)
        if header["fingerprint"] != fingerprint:
            raise CheckpointError(
                f"{path} is the memory of another model; load it with the model that wrote it."
            )
        if json.loads(header["settings"]) != json.loads(json.dumps(self._settings())):
            raise CheckpointError(
                f"{path} was written with other settings or shelves ({header['settings']}); make "
                "the reader with those."
            )
        rows = []
        for index, read in enumerate(json.loads(header["read"])):
            row = self._row()
            begin = f"{index}."
            row.recall.load_arrays(
                {
                    k.removeprefix(begin): t.numpy()
                    for k, t in tensors.items()
                    if k.startswith(begin)
                }
            )
            row.read = read
            row.newest = row.recall.match.history.tokens[1:][-self.options.query :].tolist()
            rows.append(row)
        return RememberingState(state, rows)

    def _settings(self) -> dict[str, Any]:
        return {**self.options.to_json(), "experts": self._row().recall.names}

    def _row(self) -> Row:
        opened = Opened(self.options.recall.match)
        shelves = [self.library.shelf]
        if self.memory is not None and self.options.passages:
            shelves.append(opened.shelf)
        if self._data is not None:
            shelves.append(self._data)
        size = self.config.vocab_size, self.config.hidden_size
        return Row(Recall(*size, shelves, self.options.recall), opened)

    def _step(
        self, row: Row, token: int, log_probs: np.ndarray, key: np.ndarray, ends: bool
    ) -> np.ndarray:
        """Charge and learn `token`, then predict the next one."""
        if (reference := row.recall.refer(token)) is not None:
            row.references[row.read] = reference
        row.recall.update(token)
        row.read += 1
        row.newest = [*row.newest, token][-self.options.query :]
        if self.memory is not None and (ends or row.read % self.options.every == 0):
            self._search(row)
        return row.recall.predict(log_probs, key)

    def _search(self, row: Row) -> None:
        if not self.options.passages or self.memory is None:
            return
        text = self.tokenizer.decode(row.newest)
        hits = self.memory.search(text, self.options.passages) if text.strip() else []
        row.opened.open(hits, self.tokenizer)
        if self.options.read_passages:
            self.library.read_hits(hits, self._read_document)

    def _read(
        self, tokens: Tensor, state: RememberingState, counts: list[int]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Log-probabilities (count, V) and hidden states (count, d) of each row."""
        whole = min(counts) == tokens.shape[1]
        lengths = None if whole else torch.tensor(counts, device=tokens.device)
        logits, hidden, state.model = self._forward(tokens, state.model, lengths)
        logs = logits.double().log_softmax(dim=-1).cpu().numpy()
        keys = hidden.float().cpu().numpy()
        return (
            [logs[row, :count] for row, count in enumerate(counts)],
            [keys[row, :count] for row, count in enumerate(counts)],
        )

    def _forward(
        self, tokens: Tensor, state: Any, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Any]:
        """Logits (B, T, V), hidden (B, T, d) and the model's state."""
        if isinstance(self.model, NativeModel):
            return *self.model.read_hidden(tokens, state, lengths, every=True), state
        hidden, state = self.model.hidden(tokens, state, lengths)
        return self.model.head(hidden), hidden, state

    def _advance(self, tokens: Tensor, state: Any) -> Any:
        """The model's state after tokens whose predictions nobody asks for."""
        if isinstance(self.model, NativeModel):
            self.model.advance(tokens, state)
            return state
        return self.model.hidden(tokens, state)[1]

    @torch.no_grad()
    def _read_document(self, tokens: list[int]) -> np.ndarray:
        """Hidden states (n, d) of a document of its own."""
        state, found = self.model.init_state(1), []
        for begin in range(0, len(tokens), self.options.chunk):
            part = torch.tensor([tokens[begin : begin + self.options.chunk]], device=self.device)
            _, hidden, state = self._forward(part, state, None)
            found.append(hidden[0].float().cpu().numpy())
        return np.concatenate(found)


def letters(tokenizer: Tokenizer) -> np.ndarray:
    """(V,) int64: characters that begin in each token's bytes (UTF-8)."""
    return np.array(
        [
            sum((byte & 0xC0) != 0x80 for byte in tokenizer.token_bytes(token))
            for token in range(tokenizer.vocab_size)
        ]
    )
