"""Decoding by a CUDA graph: one step of the whole model is recorded once and replayed.

A step of a small model is hundreds of launches of a few microseconds; replaying them costs one.
What a graph needs is that every tensor stays where it is, so the state lives in buffers that a step
overwrites (`StaticDecoder`); kernels that can, write into them directly (`kernels.triton.donate`),
and what others return is copied. Nothing in a step waits for the device. `StaticDecoder` runs
anywhere and is what the tests compare; `GraphDecoder` is the same step, recorded.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from solomonic.core import ConfigError, ShapeError
from solomonic.kernels.triton import donate

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel, ModelState

WARM_UP = 3
"""Steps before the recording: kernels are compiled and their tile sizes measured in the first."""


class StaticDecoder:
    """One token a row and step, in buffers that never move.

    Attributes:
        tokens: (B, 1) int64, what the next step reads.
        logits: (B, V), what the last step answered.
    """

    def __init__(self, model: "LanguageModel", batch: int) -> None:
        """Buffers for `batch` streams before any token.

        Raises:
            ConfigError: the model has full attention, whose cache grows.
        """
        if "T" in model.config.layers:
            raise ConfigError(
                f"pattern '{model.config.layers}' has full attention ('T'), whose cache grows with "
                "every token and so cannot stay in place; decode with lm.generate instead."
            )
        weight = model.embed.weight
        self.model = model
        self.tokens = torch.zeros(batch, 1, dtype=torch.int64, device=weight.device)
        self.logits = weight.new_zeros(batch, model.config.vocab_size)
        self._state = _owned(model.init_state(batch))

    @property
    def state(self) -> "ModelState":
        """What the streams remember, as a value: a copy that later steps do not change."""
        return self._state.map(lambda _, x: x.clone())

    def load(self, state: "ModelState") -> None:
        """Go on from `state`, which is copied.

        Raises:
            ShapeError: it has another number of rows.
        """
        if len(state.time) != len(self.tokens):
            raise ShapeError(
                f"the state has {len(state.time)} rows in its batch dimension, the decoder "
                f"{len(self.tokens)}; use state.gather or a decoder of that size."
            )
        self._absorb(state)

    @torch.no_grad()
    def step(self, tokens: Tensor) -> Tensor:
        """Read one token a row, (B,) int64; logits (B, V), overwritten by the next step.

        Raises:
            ShapeError: another number of tokens than rows.
        """
        if tokens.shape != self.tokens.shape[:1]:
            raise ShapeError(
                f"tokens must be of shape ({len(self.tokens)},), one a row of the batch, not "
                f"{tuple(tokens.shape)}."
            )
        self.tokens.copy_(tokens[:, None])
        self._advance()
        return self.logits

    def _advance(self) -> None:
        self._run()

    def _run(self) -> None:
        """Read `tokens`, write `logits` and the state; the part that a graph records."""
        with donate():
            logits, state = self.model(self.tokens, self._state)
        self.logits.copy_(logits[:, 0])
        self._absorb(state)

    def _absorb(self, state: "ModelState") -> None:
        """Copy every tensor of `state` that is not yet in its buffer."""
        for (name, mine), (_, new) in zip(self._state.leaves(), state.leaves(), strict=True):
            if mine.shape != new.shape:
                raise ShapeError(
                    f"the state's '{name}' is {tuple(new.shape)}, this model's {tuple(mine.shape)};"
                    " the state belongs to another model."
                )
            if mine.data_ptr() != new.data_ptr():
                mine.copy_(new)


class GraphDecoder(StaticDecoder):
    """`StaticDecoder` whose step is recorded as a CUDA graph when it is made, then replayed.

    The weights are those of the moment: changing them in place is seen, replacing them is not.
    """

    def __init__(self, model: "LanguageModel", batch: int) -> None:
        """Record a step for `batch` streams; a model in training mode is refused by nothing but
        gradients, which a recorded step has none of.

        Raises:
            ConfigError: the model is not on a CUDA device, or has full attention.
        """
        device = model.embed.weight.device
        if device.type != "cuda":
            raise ConfigError(
                f"a CUDA graph needs a model on a CUDA device, and this one is on '{device}'; move "
                "it there, or use StaticDecoder or lm.generate."
            )
        super().__init__(model, batch)
        self._graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._run()
        torch.cuda.current_stream(device).wait_stream(stream)
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._run()
        self._absorb(model.init_state(batch))  # the steps so far were rehearsals

    def _advance(self) -> None:
        self._graph.replay()


def _owned(state: "ModelState") -> "ModelState":
    """The state in contiguous tensors of its own, none of them shared."""
    return state.map(lambda _, x: x.clone(memory_format=torch.contiguous_format))
