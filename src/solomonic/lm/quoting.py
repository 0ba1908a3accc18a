"""Generation in which text in quotation marks is verbatim in a store.

    constraint = QuoteIndex.of_memory(memory).constraint(token_pieces(tokenizer))
    quoting = Quoting(reader, constraint)
    for token in Generation(quoting, [prompt], config): ...

A `Quoting` is a reader around another (a model, a model with a memory): it makes the logits of
tokens that would misquote minus infinity, and changes nothing else. Without an opening mark the
logits are the reader's own, to the bit.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from solomonic.core import ConfigError

if TYPE_CHECKING:
    from solomonic.layers import ModelConfig
    from solomonic.lm.generate import Reader
    from solomonic.memory.quotes.automaton import QuoteState
    from solomonic.memory.quotes.constraint import QuoteConstraint
    from solomonic.memory.quotes.index import QuoteIndex
    from solomonic.text import Tokenizer


class Quoting:
    """A reader that cannot misquote. It belongs to one generation: it remembers, for each row,
    whether a quotation is open and where it stands.

    Args:
        reader: what generation would read with otherwise.
        constraint: over the tokens of the reader's tokenizer.
        index: what the constraint was made of, for those who look up places afterwards.

    Raises:
        ConfigError: the constraint is of another vocabulary.
    """

    def __init__(
        self, reader: "Reader", constraint: "QuoteConstraint", index: "QuoteIndex | None" = None
    ) -> None:
        known, wanted = len(constraint.pieces), reader.config.vocab_size
        if known > wanted:
            raise ConfigError(
                f"the constraint has {known} tokens and the model {wanted}; make it with the "
                "tokenizer of the model."
            )
        self.reader, self.constraint, self.index = reader, constraint, index
        self._states: list[QuoteState] | None = None

    @property
    def config(self) -> "ModelConfig":
        return self.reader.config

    @property
    def device(self) -> torch.device:
        return self.reader.device

    def next_logits(
        self, tokens: Tensor, state: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """As the reader's; see `solomonic.lm.generate.Reader`. The state is the reader's own.

        Raises:
            DataError: a prompt ends inside a quotation that the store does not hold.
        """
        rows = tokens.tolist()
        counts = [len(row) for row in rows] if lengths is None else lengths.tolist()
        if self._states is None:
            self._states = [self.constraint.start] * len(rows)
        known = len(self.constraint.pieces)  # a model may have more ids than its tokenizer
        self._states = [
            self.constraint.read(quoted, [token for token in row[:count] if token < known])
            for quoted, row, count in zip(self._states, rows, counts, strict=True)
        ]
        logits, state = self.reader.next_logits(tokens, state, lengths)
        return logits.masked_fill(~self._allowed(logits), float("-inf")), state

    def _allowed(self, logits: Tensor) -> Tensor:
        """(B, V) bool; ids behind the tokenizer's stand for no text, as control tokens."""
        assert self._states is not None
        allowed = torch.ones(logits.shape, dtype=torch.bool)
        for row, quoted in enumerate(self._states):
            mask = self.constraint.allowed(quoted)
            allowed[row, : len(mask)] = torch.from_numpy(mask.copy())
            allowed[row, len(mask) :] = not quoted.quoting
        return allowed.to(logits.device)


def token_pieces(tokenizer: "Tokenizer") -> list[bytes]:
    """The bytes of every token, none for control tokens."""
    return [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
