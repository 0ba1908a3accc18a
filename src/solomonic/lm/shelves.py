"""Stored texts as a memory reads them: tokens for matches, states for neighbours."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from solomonic.memory.item import Hit, Item
from solomonic.memory.reader.match import MatchConfig, MatchMemory
from solomonic.memory.reader.neighbours import TokenMemory
from solomonic.memory.reader.recall import Shelf
from solomonic.text import Tokenizer

BOOST = 2.0
"""Nats by which matches in passages that were searched for are believed more at first."""

Read = Callable[[list[int]], np.ndarray]
"""Hidden states (n, d) after each of n tokens of a document of its own."""


class Store(Protocol):
    """What is asked of a `solomonic.memory.Memory`."""

    def search(self, query: str, k: int = 10) -> list[Hit]: ...

    def items(self) -> Iterable[Item]: ...


def name_of(item: Item) -> str:
    """The source that a citation names."""
    return item.source or f"item {item.id}"


class Library:
    """Texts on one shelf that all streams of a reader share."""

    def __init__(self, tokenizer: Tokenizer, dim: int, config: MatchConfig, capacity: int) -> None:
        self.tokenizer = tokenizer
        self.shelf = Shelf(MatchMemory(config), TokenMemory(dim, capacity))
        self._read: set[int] = set()

    def __len__(self) -> int:
        """Tokens on the shelf."""
        return 0 if self.shelf.match is None else len(self.shelf.match)

    def put(self, text: str | bytes, source: str, base: int = 0, read: Read | None = None) -> None:
        """Add a text; with `read` its states become neighbours too."""
        assert self.shelf.match is not None
        tokens = self.tokenizer.encode(text)
        self.shelf.match.begin(source, base)
        first = len(self.shelf.match)
        self.shelf.match.extend(tokens)
        if read is not None and tokens:
            assert isinstance(self.shelf.keys, TokenMemory)
            # The state after the end of a text foretells the first token, and so on.
            states = read([self.tokenizer.eos_id, *tokens[:-1]])
            for place, (state, token) in enumerate(zip(states, tokens, strict=True), start=first):
                self.shelf.keys.add(state, token, place)

    def read_hits(self, hits: Iterable[Hit], read: Read) -> None:
        """Let the model read stored passages that it has not read yet."""
        for hit in hits:
            if hit.item.id not in self._read and hit.item.text:
                self._read.add(hit.item.id)
                self.put(hit.item.text, name_of(hit.item), hit.item.offset, read)


class Opened:
    """The passages that one stream has open now: found by the words of its newest tokens."""

    def __init__(self, config: MatchConfig) -> None:
        self.config = config
        self.shelf = Shelf(MatchMemory(config), boost=BOOST)
        self.items: tuple[int, ...] = ()

    def open(self, hits: list[Hit], tokenizer: Tokenizer) -> None:
        """Replace what is open; the best passage last, so that it is the newest match."""
        names = tuple(hit.item.id for hit in reversed(hits))
        if names == self.items:
            return
        self.items = names
        scores = np.array([hit.score for hit in reversed(hits)])
        self.shelf.log_weights = np.maximum(scores - scores.max(), -20.0) if len(hits) else None
        match = MatchMemory(self.config)
        for hit in reversed(hits):
            match.begin(name_of(hit.item), hit.item.offset)
            match.extend(tokenizer.encode(hit.item.text))
        self.shelf.match = match

    def copy(self) -> "Opened":
        other = Opened(self.config)
        other.shelf, other.items = dataclasses.replace(self.shelf), self.items
        return other
