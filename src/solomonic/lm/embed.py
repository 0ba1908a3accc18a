"""Texts as vectors: the hidden states of a language model, averaged, for searching a memory.

A vector is the mean of the model's last hidden states over a text's tokens, each weighed by the
bits that the model needed for the token (what it could foresee says little about the text), of
length one. Vectors of different models mean different things, so a memory keeps the `identity` of
the one that wrote its vectors.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from solomonic.core import CheckpointError, Config, ConfigError, DataError, require
from solomonic.lm.any_model import load_any
from solomonic.lm.model import LanguageModel
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.memory import Memory

METHOD = "mean-of-hidden-states-weighed-by-bits/1"
"""Changes when the same model would give other vectors."""
_STATE = "embedding"  # of a memory: whose vectors it holds


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedConfig(Config):
    """max_tokens: of a text that are read; the rest does not count. batch_tokens: read at a time.

    Raises:
        ConfigError: one of them is not positive.
    """

    max_tokens: int = 1024
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        for name in ("max_tokens", "batch_tokens"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1.")


class Embedder:
    """Makes vectors with one model.

    Attributes:
        dim: of the vectors.
        identity: of model, tokenizer and method; equal identities give equal vectors.
        name: for people.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        name: str = "",
        config: EmbedConfig | None = None,
    ) -> None:
        self.model, self.tokenizer, self.name = model.eval(), tokenizer, name
        self.config = config or EmbedConfig()
        self.dim = model.config.hidden_size
        parts = (METHOD, model.fingerprint(), tokenizer.fingerprint, str(self.config.max_tokens))
        self.identity = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (n, dim), rows of length one.

        Raises:
            DataError: a text is empty.
            CheckpointError: the model gives what is no number.
        """
        rows = [self.tokenizer.encode(text)[: self.config.max_tokens] for text in texts]
        if not all(rows):
            raise DataError("an empty text has no vector; leave it out.")
        found = np.empty((len(rows), self.dim), dtype=np.float32)
        # Rows of like length together, so that little is padding.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        start = 0
        while start < len(order):
            longest, end = 0, start
            while end < len(order):
                longest = max(longest, len(rows[order[end]]))
                if end > start and longest * (end - start + 1) > self.config.batch_tokens:
                    break
                end += 1
            batch = order[start:end]
            found[batch] = self._batch([rows[row] for row in batch])
            start = end
        if not np.isfinite(found).all():
            raise CheckpointError(
                f"the language model '{self.name}' gives hidden states that are no numbers; its "
                "weights are damaged or its training failed."
            )
        return found

    def _batch(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        eos = self.tokenizer.eos_id
        lengths = torch.tensor([len(row) + 1 for row in rows])
        width = int(lengths.max())
        # The end of a text before the first token, so that this one is foreseen too.
        tokens = torch.tensor([[eos, *row, *[eos] * (width - 1 - len(row))] for row in rows])
        tokens, lengths = tokens.to(self.model.device), lengths.to(self.model.device)
        hidden, _ = self.model.hidden(tokens, None, lengths)
        # (B, T) natural units of each token but the first, from the state before it.
        bits = torch.nn.functional.cross_entropy(
            self.model.head(hidden[:, :-1]).flatten(0, 1).float(),
            tokens[:, 1:].flatten(),
            reduction="none",
        ).view(len(rows), -1)
        real = torch.arange(1, width, device=tokens.device) < lengths[:, None]
        weights = torch.where(real, bits + 1e-3, 0.0)
        # What lies behind a row's end is ignored by the model and may hold anything.
        states = torch.where(real[..., None], hidden[:, 1:].float(), 0.0)
        mean = torch.einsum("bt,btd->bd", weights, states) / weights.sum(1, keepdim=True)
        length = mean.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return (mean / length).cpu().numpy()


def load_embedder(place: str | Path | None = None, device: str = "cpu") -> Embedder:
    """An embedder of a model, named as `any_model.find_model` takes it.

    Raises:
        CheckpointError: nothing there, or damaged, foreign, newer.
    """
    return Embedder(*load_any(place, device))


def claim_vectors(memory: "Memory", embedder: Embedder) -> None:
    """Let the vectors of a memory be this model's, if there are none yet.

    Raises:
        ConfigError: they are another's.
    """
    with memory.transaction() as truth:
        any_vector = truth.one("SELECT id FROM memory_item WHERE vector IS NOT NULL LIMIT 1")
    if memory.state(_STATE) is None and any_vector is None:
        record = {"identity": embedder.identity, "name": embedder.name, "dim": embedder.dim}
        memory.set_state(_STATE, json.dumps(record).encode())
    else:
        check_vectors(memory, embedder)


def check_vectors(memory: "Memory", embedder: Embedder) -> None:
    """Refuse to compare vectors of different models.

    Raises:
        ConfigError: the memory has none, or another model's.
    """
    written = memory.state(_STATE)
    if written is None:
        raise ConfigError(
            f"the memory {memory.place} has no vectors of a language model; search it by words, or "
            "add its documents to a new memory with --lm."
        )
    record = json.loads(written)
    if record["identity"] != embedder.identity:
        raise ConfigError(
            f"the vectors of {memory.place} were written by the model '{record['name']}' "
            f"({record['identity'][:12]}), not by '{embedder.name}' ({embedder.identity[:12]}); "
            "name that one, or search by words."
        )
