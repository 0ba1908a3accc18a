"""Exact little transducers in float64, for tests of the decoder.

`Toy` has random vectors for frames and for label histories, and the real joint network's formula.
What is right is computed from its definition here, with nothing of the decoder.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from solomonic.speech.decode import DecodeConfig, Decoder, Search
from solomonic.state import State, field

J = 6
INF = float("inf")
EXACT = DecodeConfig(
    beam=10_000, expand_beam=INF, state_beam=INF, label_context=0, lattice_beam=INF,
    stable_beam=INF, stable_frames=0, nbest=10_000, max_symbols=3,
)  # fmt: skip
"""Nothing is pruned, nothing merged but equal labels."""


@dataclasses.dataclass
class Memory(State):
    """hidden: (B, J)."""

    hidden: Tensor = field()


class Recurrent:
    """hidden' = tanh(hidden A + embedding of the label): it sees the whole history."""

    def __init__(self, embed: Tensor, mix: Tensor) -> None:
        self.embed, self.mix = embed, mix
        self.labels = 0  # predicted so far

    def start(self, batch: int) -> tuple[Tensor, Memory]:
        hidden = torch.tanh(self.embed[:1]).expand(batch, J).clone()
        return hidden * 1.5, Memory(hidden)

    def step(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        self.labels += len(tokens)
        # Row by row, so that a row's result cannot depend on its neighbours.
        pairs = zip(state.hidden, tokens, strict=True)
        hidden = torch.stack([torch.tanh(h @ self.mix + self.embed[k]) for h, k in pairs])
        return hidden * 1.5, Memory(hidden)


class LastTwo(Recurrent):
    """Only the last two labels count, so that path merging over two or more loses nothing."""

    def start(self, batch: int) -> tuple[Tensor, Memory]:
        labels = torch.zeros(batch, 2, dtype=torch.int64)
        return self._read(labels), Memory(labels)

    def step(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        self.labels += len(tokens)
        labels = torch.stack((state.hidden[:, 1], tokens), dim=1)
        return self._read(labels), Memory(labels)

    def _read(self, labels: Tensor) -> Tensor:
        rows = [torch.tanh(self.embed[a] @ self.mix + self.embed[b]) for a, b in labels]
        return torch.stack(rows) * 1.5


class Toy:
    """A transducer of `size` symbols; `sharp` scales logits, `blank` is added to the blank's."""

    def __init__(
        self, seed: int = 0, size: int = 3, sharp: float = 1.5, blank: float = 0.0,
        predictor: type[Recurrent] = Recurrent,
    ) -> None:  # fmt: skip
        self.random = torch.Generator().manual_seed(seed)
        self.config = SimpleNamespace(frame_seconds=0.06)
        self.predictor = predictor(self._draw(size, J), self._draw(J, J))
        bias = torch.zeros(size, dtype=torch.float64)
        bias[0] = blank
        self.joint = SimpleNamespace(weight=sharp * self._draw(size, J), bias=bias)
        self.size = size

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=torch.float64)

    def audio(self, frames: int, streams: int = 1) -> Tensor:
        """Acoustic vectors (streams, frames, J)."""
        return self._draw(streams, frames, J)

    def log_probs(self, acoustic: Tensor, tokens: tuple[int, ...]) -> np.ndarray:
        """(T, U + 1, V) by the definition, of acoustic (T, J)."""
        label, state = self.predictor.start(1)
        labels = [label]
        for token in tokens:
            label, state = self.predictor.step(torch.tensor([token]), state)
            labels.append(label)
        x = torch.tanh(acoustic[:, None] + torch.cat(labels)[None])
        return (x @ self.joint.weight.T + self.joint.bias).log_softmax(-1).numpy()

    def full_score(
        self, acoustic: Tensor, tokens: tuple[int, ...], most: int, join: Any = np.logaddexp
    ) -> float:
        """Sum (or best, with `join=max`) over alignments with at most `most` labels a frame."""
        table = self.log_probs(acoustic, tokens)
        row = {0: 0.0}
        for frame in range(len(acoustic)):
            new: dict[int, float] = {}
            for done, score in row.items():
                for last in range(done, min(len(tokens), done + most) + 1):
                    end = score + table[frame, last, 0]
                    new[last] = join(new[last], end) if last in new else end
                    if last < len(tokens):
                        score = score + table[frame, last, tokens[last]]
            row = new
        return float(row.get(len(tokens), -INF))

    def alignment_score(
        self, acoustic: Tensor, tokens: tuple[int, ...], frames: tuple[int, ...]
    ) -> float:
        """Log-probability of the one alignment that emits the tokens in these frames."""
        table = self.log_probs(acoustic, tokens)
        labels = sum(table[t, u, k] for u, (t, k) in enumerate(zip(frames, tokens, strict=True)))
        done = [sum(t <= frame for t in frames) for frame in range(len(acoustic))]
        return float(labels + sum(table[frame, u, 0] for frame, u in enumerate(done)))


class Pieces:
    """Labels a, b, ...; every second one starts a word."""

    def __init__(self, size: int) -> None:
        letters = "abcdefghijklmnopqrstuvwxyz"[: size - 1]
        marked = [("▁" if i % 2 == 0 else "") + letter for i, letter in enumerate(letters)]
        self.pieces = ("<blank>", *marked)


def decoder(toy: Toy, config: DecodeConfig = EXACT, **changes: Any) -> Decoder:
    return Decoder(toy, Pieces(toy.size), config.replace(**changes))  # type: ignore[arg-type]


def decode(made: Decoder, acoustic: Tensor, bias: Any = None) -> Search:
    """A search that has read all of `acoustic` (1, T, J)."""
    search = made.start(bias)
    made.advance([search], acoustic)
    return search


def labels(search: Search) -> tuple[int, ...]:
    """The best hypothesis' labels."""
    return tuple(search.best.prefix.tokens())
