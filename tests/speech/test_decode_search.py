"""The search itself, on small models in float64 whose every alignment can be counted.

`Toy` is an exact stand-in for a transducer: random vectors for frames and for whole label
histories, the real joint network's formula. Nothing of the decoder is used to find what is right.
"""

import dataclasses
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from solomonic.speech.decode import DecodeConfig, Decoder, Search
from solomonic.state import State, field

J = 6
INF = float("inf")
EXACT = DecodeConfig(
    beam=10_000, expand_beam=INF, state_beam=INF, label_context=0, lattice_beam=INF, stable_beam=INF,
    nbest=10_000, max_symbols=3,
)  # fmt: skip


@dataclasses.dataclass
class Memory(State):
    """hidden: (B, J)."""

    hidden: Tensor = field()


class Predictor:
    """hidden' = tanh(hidden A + embedding of the label): it sees the whole history."""

    def __init__(self, size: int, random: torch.Generator) -> None:
        self.embed = torch.randn(size, J, generator=random, dtype=torch.float64)
        self.mix = torch.randn(J, J, generator=random, dtype=torch.float64)
        self.calls = 0

    def start(self, batch: int) -> tuple[Tensor, Memory]:
        hidden = torch.tanh(self.embed[:1]).expand(batch, J).clone()
        return hidden * 1.5, Memory(hidden)

    def step(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        self.calls += 1
        # Row by row, so that a row's result cannot depend on its neighbours.
        rows = [torch.tanh(h @ self.mix + self.embed[k]) for h, k in zip(state.hidden, tokens)]
        hidden = torch.stack(rows)
        return hidden * 1.5, Memory(hidden)


class Toy:
    """A transducer of `size` symbols; `blank` is added to the blank's logit."""

    def __init__(
        self, seed: int = 0, size: int = 3, sharp: float = 1.5, blank: float = 0.0
    ) -> None:
        random = torch.Generator().manual_seed(seed)
        self.config = SimpleNamespace(frame_seconds=0.06)
        self.predictor = Predictor(size, random)
        weight = sharp * torch.randn(size, J, generator=random, dtype=torch.float64)
        bias = torch.zeros(size, dtype=torch.float64)
        bias[0] = blank
        self.joint = SimpleNamespace(weight=weight, bias=bias)
        self.random = random
        self.size = size

    def audio(self, frames: int, streams: int = 1) -> Tensor:
        return torch.randn(streams, frames, J, generator=self.random, dtype=torch.float64)

    def log_probs(self, acoustic: Tensor, tokens: tuple[int, ...]) -> Tensor:
        """(T, U + 1, V) by the definition."""
        label, state = self.predictor.start(1)
        labels = [label]
        for token in tokens:
            label, state = self.predictor.step(torch.tensor([token]), state)
            labels.append(label)
        x = torch.tanh(acoustic[:, None] + torch.cat(labels)[None])
        return (x @ self.joint.weight.T + self.joint.bias).log_softmax(-1)

    def full_score(
        self, acoustic: Tensor, tokens: tuple[int, ...], most: int, join: Any = np.logaddexp
    ) -> float:
        """Sum (or, with `join=max`, best) over all alignments with at most `most` labels a frame."""
        table = self.log_probs(acoustic, tokens).numpy()
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


class Pieces:
    """Labels a, b, ...; every second one starts a word."""

    def __init__(self, size: int) -> None:
        letters = "abcdefghijklmnopqrstuvwxyz"
        self.pieces = (
            "<blank>",
            *(("▁" if i % 2 == 0 else "") + letters[i] for i in range(size - 1)),
        )


def decoder(toy: Toy, config: DecodeConfig = EXACT, **changes: Any) -> Decoder:
    return Decoder(toy, Pieces(toy.size), config.replace(**changes))  # type: ignore[arg-type]


def decode(made: Decoder, acoustic: Tensor, bias: Any = None) -> Search:
    search = made.start(bias)
    made.advance([search], acoustic)
    return search


def every_sequence(size: int, longest: int) -> list[tuple[int, ...]]:
    labels = range(1, size)
    return [s for n in range(longest + 1) for s in itertools.product(labels, repeat=n)]


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_without_limits_is_the_exact_sum_over_alignments(seed: int) -> None:
    toy = Toy(seed)
    acoustic = toy.audio(3)
    search = decode(decoder(toy, max_symbols=2), acoustic)
    found = {tuple(hyp.prefix.tokens()): hyp for hyp in search.hyps}
    expected = every_sequence(toy.size, 6)
    assert set(found) == set(expected)
    for tokens in expected:
        exact = toy.full_score(acoustic[0], tokens, 2)
        assert found[tokens].mass == pytest.approx(exact, abs=1e-10)
        exact = toy.full_score(acoustic[0], tokens, 2, join=max)
        assert found[tokens].score == pytest.approx(exact, abs=1e-10)
    best = max(expected, key=lambda tokens: toy.full_score(acoustic[0], tokens, 2))
    assert tuple(search.best.prefix.tokens()) == best
