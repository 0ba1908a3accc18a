"""Tiny language models for tests of reranking: random ones, and one that knows a sentence."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from solomonic.serve.lm.loaded import LoadedModel
from solomonic.state import State, field
from solomonic.text import ByteTokenizer, Tokenizer
from tiny import tiny_model

FAR = -100.0


def random_lm(seed: int = 0, pattern: str = "BB", tokenizer: Tokenizer | None = None) -> Any:
    """A model of random weights on PyTorch."""
    tokenizer = tokenizer or ByteTokenizer()
    model = tiny_model(pattern, seed, vocab_size=tokenizer.vocab_size)
    return LoadedModel(
        name=f"random-{seed}",
        reader=model,
        tokenizer=tokenizer,
        fingerprint=model.fingerprint(),
        engine="torch",
    )


def native_lm(seed: int = 0, weights: str = "float32") -> LoadedModel:
    """The same on the native core."""
    from solomonic.lm.native import NativeModel

    lm = random_lm(seed)
    return dataclasses.replace(lm, reader=NativeModel(lm.reader.float(), weights))


@dataclasses.dataclass
class Place(State):
    """at (B,): tokens of the known sentence read so far; -1: something else was read."""

    at: Tensor = field()


class KnowAll:
    """Reads like a `LanguageModel`; gives 0 nats to each token of one sentence, -100 to others.

    After the first wrong token all tokens are as likely.
    """

    def __init__(self, sentence: str, tokenizer: Tokenizer) -> None:
        end = tokenizer.eos_id
        self.line = [end, *tokenizer.encode(sentence), end]
        self.config = SimpleNamespace(vocab_size=tokenizer.vocab_size)
        self.device = torch.device("cpu")
        self.tokens_read = 0

    def init_state(self, rows: int) -> Place:
        return Place(torch.zeros(rows, dtype=torch.int64))

    def __call__(
        self, tokens: Tensor, state: Place | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Place]:
        state = state or self.init_state(len(tokens))
        at = state.at.tolist()
        logits = torch.zeros(*tokens.shape, self.config.vocab_size, dtype=torch.float64)
        for row, line in enumerate(tokens.tolist()):
            for place in range(tokens.shape[1] if lengths is None else int(lengths[row])):
                self.tokens_read += 1
                right = 0 <= at[row] < len(self.line) - 1 and self.line[at[row]] == line[place]
                at[row] = at[row] + 1 if right else -1
                if right:
                    logits[row, place] = FAR
                    logits[row, place, self.line[at[row]]] = 0.0
        return logits, Place(torch.tensor(at))


def oracle_lm(sentence: str, tokenizer: Tokenizer | None = None) -> LoadedModel:
    """A language model that knows what was said."""
    tokenizer = tokenizer or ByteTokenizer()
    return LoadedModel(
        name="oracle",
        reader=KnowAll(sentence, tokenizer),  # type: ignore[arg-type]
        tokenizer=tokenizer,
        fingerprint=f"oracle of {sentence}",
        engine="a test",
    )
