"""Our own models as a contender: the native core ("native") or PyTorch ("torch").

Weight types other than float32 exist in the native core only. Training always runs through
PyTorch, with whatever kernels the registry chooses there.
"""

import functools
from typing import Any

import torch

from peers.protocol import NotHere, serve
from peers.training import Trainer
from sizes import ours
from solomonic.kernels import native
from solomonic.lm.loss import next_token_loss
from solomonic.lm.model import LanguageModel, ModelState
from solomonic.lm.native import NativeModel, NativeStreams
from solomonic.state import nbytes

READ = 16_384  # tokens really read on the way to a far position; memories are full long before
SEGMENT = 4_096
CHECKPOINTED = "+checkpoints"  # behind a pattern letter: activations are recomputed


def build(spec: dict[str, Any]) -> LanguageModel:
    """The model with random weights, the same in every worker."""
    torch.manual_seed(0)
    return LanguageModel(ours(spec["size"], spec["model"])).eval()


class Native:
    """The native core."""

    def __init__(self, spec: dict[str, Any], weights: str, threads: int) -> None:
        if (reason := native.why_not()) is not None:
            raise NotHere(f"not there yet: {reason}")
        source = build(spec)
        self.parameters = sum(p.numel() for p in source.parameters())
        self.vocab, self.grows = source.config.vocab_size, "T" in source.config.pattern
        self.model, self.threads = NativeModel(source, weights=weights, threads=threads), threads
        self.streams: NativeStreams | None = None
        self.rows = 1

    def facts(self) -> dict[str, Any]:
        text = self.model.describe()
        return {"parameters": self.parameters, "weight_bytes": self.model.nbytes, "text": text}

    def set_threads(self, threads: int) -> None:
        if threads != self.threads:
            raise NotHere("a native model keeps the threads it was made with.")

    def _tokens(self, rows: int, count: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(1)
        return torch.randint(0, self.vocab, (rows, count), generator=random)

    def prefill(self, tokens: int) -> None:
        streams = self.model.streams(1)
        for part in self._tokens(1, tokens).split(SEGMENT, dim=1):
            self.model.read(part, streams)

    def seat(self, position: int, rows: int) -> int:
        if self.grows and position > READ:
            raise NotHere(f"a cache of {position} tokens was not built; it grows with the text.")
        self.streams, self.rows = self.model.streams(rows), rows
        read = min(position, READ)
        for part in self._tokens(rows, read).split(SEGMENT, dim=1):
            self.model.read(part, self.streams)
        for stream in self.streams.handles:
            stream.set_time(position)
        return self.streams.nbytes

    def decode(self, tokens: int) -> None:
        assert self.streams is not None
        token = torch.ones(self.rows, 1, dtype=torch.int64)
        for _ in range(tokens):
            self.model.read(token, self.streams)

    def train(self, batch: int, length: int, bfloat16: bool) -> None:
        raise NotHere("the native core by itself does not train; say path = 'torch'.")


class Torch:
    """The library in PyTorch."""

    def __init__(self, spec: dict[str, Any], weights: str, threads: int) -> None:
        if weights != "float32":
            raise NotHere(f"{weights} weights are the native core's.")
        letter = spec["model"].removesuffix(CHECKPOINTED)
        self.model = build(spec | {"model": letter})
        self.model.gradient_checkpointing = letter != spec["model"]
        self.state: ModelState | None = None
        self.trainer: Trainer | None = None
        self.rows = 1

    def facts(self) -> dict[str, Any]:
        parameters = sum(p.numel() for p in self.model.parameters())
        text = f"torch {torch.__version__}"
        return {"parameters": parameters, "weight_bytes": 4 * parameters, "text": text}

    def set_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)

    @torch.inference_mode()
    def _read(self, tokens: torch.Tensor) -> None:
        for part in tokens.split(SEGMENT, dim=1):
            x, self.state = self.model.hidden(part, self.state)
        self.model.head(x[:, -1])

    def _tokens(self, rows: int, count: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(1)
        return torch.randint(0, self.model.config.vocab_size, (rows, count), generator=random)

    def prefill(self, tokens: int) -> None:
        self.state = None
        self._read(self._tokens(1, tokens))

    def seat(self, position: int, rows: int) -> int:
        self.state, self.rows = None, rows
        self._read(self._tokens(rows, min(position, SEGMENT)))
        if position > SEGMENT and "T" in self.model.config.pattern:
            raise NotHere("our full attention in PyTorch is measured up to 4,096 tokens.")
        assert self.state is not None
        return nbytes(self.state)

    def decode(self, tokens: int) -> None:
        token = torch.ones(self.rows, 1, dtype=torch.int64)
        for _ in range(tokens):
            self._read(token)

    def train(self, batch: int, length: int, bfloat16: bool) -> None:
        if self.trainer is None:
            loss = functools.partial(next_token_loss, self.model)
            self.trainer = Trainer(self.model, loss, self.model.config.vocab_size)
        self.trainer.step(batch, length, bfloat16)


def load(spec: dict[str, Any], weights: str, threads: int) -> Native | Torch:
    """`spec["path"]` says which."""
    return (Torch if spec["path"] == "torch" else Native)(spec, weights, threads)


if __name__ == "__main__":
    serve(load)
