"""The end head: a small network for P(the utterance is complete | what was heard so far).

    hidden (D) -> norm -> 32 \\
    label  (J) -> norm -> 32  > concatenated -> tanh -> GRU 40 -> 1 -> sigmoid
    pauses (5) ---------> 16 /

It reads the encoder's frame (does the voice sink?), the predictor's vector of the best hypothesis
(can a command end here?) and how long nothing has come. Neither is trained through it.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional

from solomonic.core import Config, ShapeError, require
from solomonic.speech.endpoint.features import PAUSE_FEATURES, EndFeatures
from solomonic.state import State, field


@dataclasses.dataclass(frozen=True, kw_only=True)
class EndHeadConfig(Config):
    """Sizes of the end head.

    Attributes:
        hidden_size: D, of the encoder's frames.
        label_size: J, of the predictor's vectors.
        width: of each projection of those two; pauses get half of it.
        memory: units of the recurrence.
    """

    hidden_size: int
    label_size: int
    width: int = 32
    memory: int = 40

    def __post_init__(self) -> None:
        for name in ("hidden_size", "label_size", "width", "memory"):
            value = getattr(self, name)
            require(value > 0, f"{name} of the end head must be above 0, not {value}.")


@dataclasses.dataclass
class EndHeadState(State):
    """The recurrence's memory (B, memory)."""

    memory: Tensor = field()


class EndHead(nn.Module):
    """Logit, and in `stream` the probability, that the utterance is complete at each frame."""

    def __init__(self, config: EndHeadConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(config.hidden_size, config.width)
        self.label = nn.Linear(config.label_size, config.width)
        self.pauses = nn.Linear(PAUSE_FEATURES, config.width // 2)
        joined = 2 * config.width + config.width // 2
        self.recurrence = nn.GRU(joined, config.memory, batch_first=True)
        self.out = nn.Linear(config.memory, 1)

    def init_state(self, batch: int) -> EndHeadState:
        """The state before the first frame of an utterance."""
        return EndHeadState(memory=self.out.weight.new_zeros(batch, self.config.memory))

    def forward(
        self, features: EndFeatures, state: EndHeadState | None = None
    ) -> tuple[Tensor, EndHeadState]:
        """Logits (B, T) of all frames at once, and the state after the last.

        Raises:
            ShapeError: a feature has another size than the configuration says.
        """
        _check(features, self.config)
        state = self.init_state(features.hidden.shape[0]) if state is None else state
        joined = torch.cat(
            (
                self.hidden(_normed(features.hidden.detach())),
                self.label(_normed(features.label.detach())),
                self.pauses(features.pauses),
            ),
            dim=-1,
        )
        if joined.shape[1] == 0:
            return joined.new_zeros(joined.shape[:2]), state
        outputs, memory = self.recurrence(torch.tanh(joined), state.memory.unsqueeze(0))
        return self.out(outputs).squeeze(-1), EndHeadState(memory=memory.squeeze(0))

    @torch.no_grad()
    def stream(self, features: EndFeatures, state: EndHeadState) -> tuple[Tensor, EndHeadState]:
        """Probabilities (B, T), and the state after the last frame.

        Frames and rows are computed one by one: another shape may round another way (even a
        sigmoid), and a decision must depend neither on cuts nor on who shares the batch.
        """
        rows, memories = [], []
        for b in range(features.hidden.shape[0]):
            memory = EndHeadState(memory=state.memory[b : b + 1])
            values = []
            for t in range(features.hidden.shape[1]):
                frame = EndFeatures(*(x[b : b + 1, t : t + 1] for x in features))
                logit, memory = self(frame, memory)
                values.append(torch.sigmoid(logit))
            empty = features.hidden.new_zeros(1, 0)
            rows.append(torch.cat([empty, *values], dim=1))
            memories.append(memory.memory)
        return torch.cat(rows), EndHeadState(memory=torch.cat(memories))


def _normed(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])


def _check(features: EndFeatures, config: EndHeadConfig) -> None:
    sizes = {
        "hidden": config.hidden_size,
        "label": config.label_size,
        "pauses": PAUSE_FEATURES,
    }
    shape = features.hidden.shape[:2]
    for name, size in sizes.items():
        tensor = getattr(features, name)
        if tensor.dim() != 3 or tensor.shape[-1] != size or tensor.shape[:2] != shape:
            raise ShapeError(
                f"{name} must be (B, T, {size}) with the same B and T for all features, not "
                f"{tuple(tensor.shape)}."
            )
