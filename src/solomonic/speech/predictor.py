"""Prediction networks: what the labels so far say about the next one.

LSTM (Graves 2012; He et al. 2019) and stateless (Ghodsi et al. 2020: the last few labels through a
short depthwise convolution). Both give vectors of the joint network's size.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from solomonic.layers import LSTM, ModelConfig
from solomonic.speech.config import TransducerConfig
from solomonic.state import State, field


@dataclasses.dataclass
class LSTMPredictorState(State):
    """One state a layer."""

    layers: tuple[State, ...] = ()


@dataclasses.dataclass
class StatelessState(State):
    """labels: (B, context) int64, the last labels, oldest first; 0 where there are none yet."""

    labels: Tensor = field()


class LSTMPredictor(nn.Module):
    """Labels (B, U) -> (B, U + 1, J); row u is what labels 1..u say. The blank is no label: the
    first vector comes from a learned start vector."""

    def __init__(self, config: TransducerConfig) -> None:
        super().__init__()
        size = config.predictor_size
        self.dropout = config.dropout
        self.embed = nn.Embedding(config.vocab_size, size)  # entry 0 stands for "nothing yet"
        self.layers = nn.ModuleList(
            LSTM(ModelConfig(vocab_size=1, hidden_size=size, num_attention_heads=1, pattern="L"))
            for _ in range(config.predictor_layers)
        )
        self.output = nn.Linear(size, config.joint_size)

    def features(self, labels: Tensor) -> Tensor:
        """The last layer's outputs (B, U + 1, size) before the projection."""
        start = labels.new_zeros(len(labels), 1)
        x = self._embed(torch.cat((start, labels), dim=1))
        for layer in self.layers:
            x, _ = layer(x)
        return dropout(x, self.dropout, self.training)

    def forward(self, labels: Tensor) -> Tensor:
        return self.output(self.features(labels))

    def start(self, batch: int) -> tuple[Tensor, LSTMPredictorState]:
        """The vector (batch, J) and the state before any label."""
        device = self.embed.weight.device
        return self._read(torch.zeros(batch, dtype=torch.int64, device=device), None)

    def step(self, labels: Tensor, state: LSTMPredictorState) -> tuple[Tensor, LSTMPredictorState]:
        """The vector (B, J) after one more label (B,) a row, and the next state."""
        return self._read(labels, state)

    def _read(
        self, labels: Tensor, state: LSTMPredictorState | None
    ) -> tuple[Tensor, LSTMPredictorState]:
        x = self._embed(labels[:, None])
        before = (None,) * len(self.layers) if state is None else state.layers
        after: list[State] = []
        for layer, past in zip(self.layers, before, strict=True):
            x, new = layer(x, past)
            after.append(new)
        return self.output(x[:, 0]), LSTMPredictorState(tuple(after))

    def _embed(self, labels: Tensor) -> Tensor:
        return dropout(self.embed(labels), self.dropout, self.training)


class StatelessPredictor(nn.Module):
    """As `LSTMPredictor`, but only the last `predictor_context` labels count."""

    def __init__(self, config: TransducerConfig) -> None:
        super().__init__()
        size, self.context, self.dropout = (
            config.predictor_size,
            config.predictor_context,
            config.dropout,
        )
        self.embed = nn.Embedding(config.vocab_size, size)
        self.mix = nn.Parameter(torch.randn(self.context, size) / self.context**0.5)
        self.output = nn.Linear(size, config.joint_size)

    def features(self, labels: Tensor) -> Tensor:
        """Mixed embeddings (B, U + 1, size) before the projection."""
        padded = torch.cat((labels.new_zeros(len(labels), self.context), labels), dim=1)
        return self._mix(padded.unfold(1, self.context, 1))

    def forward(self, labels: Tensor) -> Tensor:
        return self.output(self.features(labels))

    def start(self, batch: int) -> tuple[Tensor, StatelessState]:
        """The vector (batch, J) and the state before any label."""
        device = self.embed.weight.device
        labels = torch.zeros(batch, self.context, dtype=torch.int64, device=device)
        return self.output(self._mix(labels)), StatelessState(labels)

    def step(self, labels: Tensor, state: StatelessState) -> tuple[Tensor, StatelessState]:
        """The vector (B, J) after one more label (B,) a row, and the next state."""
        seen = torch.cat((state.labels[:, 1:], labels[:, None]), dim=1)
        return self.output(self._mix(seen)), StatelessState(seen)

    def _mix(self, labels: Tensor) -> Tensor:
        embedded = dropout(self.embed(labels), self.dropout, self.training)
        return relu((embedded * self.mix).sum(dim=-2))
