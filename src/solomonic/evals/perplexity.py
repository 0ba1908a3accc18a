"""Bits per byte and perplexity of text, read as streams with the state carried along.

A document is read in segments, so that the memory a model needs does not grow with it, and every
token is predicted from the whole past that the state still holds. Bits per byte compares models of
different tokenizers; perplexity is per token and does not.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from solomonic.core import Config, DataError, require
from solomonic.evals.measure import device_of, parameters, state_bytes
from solomonic.lm.adapt import AdaptConfig, dynamic_log_probs
from solomonic.lm.corpus import Corpus
from solomonic.lm.score import token_log_probs
from solomonic.state import gather
from solomonic.text.tokenizer import Tokenizer

BITS = 1 / math.log(2)
"""Bits per nat."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerplexityConfig(Config):
    """How text is read.

    `streams` cuts each document into that many pieces read side by side, which is faster; every
    piece but the first then starts without its past, so scores are a little worse. 1 is exact.
    `segment` is tokens a call; it bounds memory and changes no figure. `max_bytes` stops early,
    within a document if need be. `text_key` is the key of a JSONL record that holds its text.
    """

    streams: int = 1
    segment: int = 1024
    max_bytes: int | None = None
    text_key: str = "text"

    def __post_init__(self) -> None:
        require(self.streams >= 1, f"streams = {self.streams} must be at least 1.")
        require(self.segment >= 1, f"segment = {self.segment} must be at least 1.")
        require(
            self.max_bytes is None or self.max_bytes >= 1,
            f"max_bytes = {self.max_bytes} must be at least 1 (None: everything).",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Perplexity:
    """The score of a text, with what it cost: bytes of state, parameters, seconds."""

    bits_per_byte: float
    perplexity: float
    loss: float
    tokens: int
    bytes: int
    documents: int
    seconds: float
    state_bytes: int
    parameters: int

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def evaluate_text(
    model: Any,
    tokenizer: Tokenizer,
    data: str | Path,
    config: PerplexityConfig | None = None,
    adapt: AdaptConfig | None = None,
) -> Perplexity:
    """Score a text file, a JSONL file or a folder of such files, as training reads them.

    Args:
        adapt: as in `evaluate_documents`.

    Raises:
        DataError: the data is missing, empty or binary.
    """
    config = config or PerplexityConfig()
    return evaluate_documents(model, tokenizer, _documents(data, config.text_key), config, adapt)


def evaluate_documents(
    model: Any,
    tokenizer: Tokenizer,
    documents: Iterable[bytes],
    config: PerplexityConfig | None = None,
    adapt: AdaptConfig | None = None,
) -> Perplexity:
    """Score documents; each is its own stream that begins with the end-of-text token.

    Args:
        adapt: let the model learn from each document after scoring its parts (dynamic evaluation,
            `solomonic.lm.adapt`); the weights go back before the next one. None: it stays as it is.

    Raises:
        DataError: there is nothing to score.
    """
    config = config or PerplexityConfig()
    sizes = tokenizer.byte_lengths()
    nll, tokens, size, count, longest = 0.0, 0, 0, 0, 0
    started = time.perf_counter()
    for document in documents:
        if config.max_bytes is not None:
            document = document[: config.max_bytes - size]
        if not document:
            continue
        row = np.concatenate([[tokenizer.eos_id], tokenizer.encode_array(document)])
        pieces = _cut(row, config.streams)
        nll += math.fsum(
            float(part.sum())
            for part in (
                stream_nll(model, pieces, config.segment, batch=config.streams)
                if adapt is None
                else _adapted(model, pieces, adapt)
            )
        )
        tokens += len(row) - 1
        size += int(sizes[row[1:]].sum())
        count += 1
        longest = max(longest, *(len(piece) for piece in pieces))
        if config.max_bytes is not None and size >= config.max_bytes:
            break
    if tokens == 0:
        raise DataError("there is no text to score; give at least one non-empty document.")
    return Perplexity(
        bits_per_byte=nll * BITS / size,
        perplexity=math.exp(min(nll / tokens, 700.0)),
        loss=nll / tokens,
        tokens=tokens,
        bytes=size,
        documents=count,
        seconds=time.perf_counter() - started,
        state_bytes=state_bytes(model, longest),
        parameters=parameters(model),
    )


def _documents(data: str | Path, text_key: str) -> Iterator[bytes]:
    """Whole documents of a corpus, one in memory at a time."""
    parts: list[bytes] = []
    for piece in Corpus(data, text_key).pieces():
        parts.append(piece.data)
        if piece.last:
            yield b"".join(parts)
            parts.clear()


def _adapted(model: Any, rows: Sequence[np.ndarray], config: AdaptConfig) -> Iterator[np.ndarray]:
    """`stream_nll` of a model that learns from each row as it reads it."""
    for row in rows:
        tokens = torch.from_numpy(row).to(device_of(model))
        yield -dynamic_log_probs(model, tokens, config).double().cpu().numpy()


@torch.no_grad()
def stream_nll(
    model: Any, rows: Sequence[np.ndarray], segment: int = 1024, batch: int = 8
) -> list[np.ndarray]:
    """Nats of every token of `rows` but the first, given all before it in its row.

    Args:
        rows: token ids (n,) each of any length n >= 2; the first token of a row is only read.
        segment: tokens a call, the state carried between calls.
        batch: rows read side by side, the longest first.

    Returns:
        Arrays (n - 1,) float64 in the order of `rows`.
    """
    device, training = device_of(model), model.training
    model.eval()
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    found: dict[int, np.ndarray] = {}
    for first in range(0, len(rows), batch):
        group = order[first : first + batch]
        scored = _stream(model, [rows[index] for index in group], segment, device)
        found.update(zip(group, scored, strict=True))
    model.train(training)
    return [found[index] for index in range(len(rows))]


def _stream(
    model: Any, rows: Sequence[np.ndarray], segment: int, device: torch.device
) -> list[np.ndarray]:
    """Rows sorted by falling length: those that have ended leave the batch and its state."""
    parts: list[list[np.ndarray]] = [[] for _ in rows]
    state, active = None, len(rows)
    for start in range(0, len(rows[0]) - 1, segment):
        going = sum(len(row) - 1 > start for row in rows)
        if state is not None and going < active:
            state = gather(state, torch.arange(going, device=device))
        active = going
        columns = [row[start : start + segment + 1] for row in rows[:active]]
        tokens = np.zeros((active, len(columns[0])), dtype=np.int64)
        for target, column in zip(tokens, columns, strict=True):
            # What follows a row's end is read by no one: models are causal, and the row is done.
            target[: len(column)] = column
        scores, state = token_log_probs(
            model, torch.from_numpy(tokens).to(device), state, chunk=segment
        )
        scores = -scores.double().cpu().numpy()
        for part, column, score in zip(parts, columns, scores, strict=False):
            part.append(score[: len(column) - 1])
    return [np.concatenate(part) for part in parts]


def _cut(row: np.ndarray, pieces: int) -> list[np.ndarray]:
    """Split into nearly equal pieces; each begins with the last token of the one before."""
    pieces = min(pieces, len(row) - 1)
    ends = np.linspace(0, len(row) - 1, pieces + 1).round().astype(int)
    return [row[low : high + 1] for low, high in itertools.pairwise(ends)]
