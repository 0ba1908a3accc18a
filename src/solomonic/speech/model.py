"""The transducer (RNN-T): encoder, prediction network and joint network.

Sources: Graves, arXiv 1211.3711; He et al., arXiv 1811.06621. P(k | t, u) is the softmax of
joint(acoustic_t, label_u); k = 0, the blank, moves to the next frame.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from solomonic.speech.branching.encoder import BranchingEncoder, BranchingState
from solomonic.speech.config import TransducerConfig
from solomonic.speech.encoder import Encoder, EncoderState
from solomonic.speech.predictor import LSTMPredictor, StatelessPredictor

if TYPE_CHECKING:
    from solomonic.speech.biasing.attention import ContextBiasing
    from solomonic.speech.biasing.pointer import PointerBiasing

BLANK = 0
ATTENTION = ("context", "pointer")
"""Parts of a transducer that attend to personal words; trained after it, and on what comes out."""
Heard = EncoderState | BranchingState


class Joint(nn.Module):
    """logits = tanh(acoustic + label) W^T + b; leading dimensions broadcast."""

    def __init__(self, size: int, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocab_size, size) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, acoustic: Tensor, label: Tensor) -> Tensor:
        return nn.functional.linear(torch.tanh(acoustic + label), self.weight, self.bias)


class Transducer(nn.Module):
    """A streaming transducer; `hidden`, `acoustic`, `predictor` and `joint` are its parts."""

    def __init__(self, config: TransducerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder | BranchingEncoder = (
            BranchingEncoder(config) if config.small_pattern else Encoder(config)
        )
        self.to_joint = nn.Linear(config.hidden_size, config.joint_size)
        self.predictor: LSTMPredictor | StatelessPredictor = (
            LSTMPredictor(config) if config.predictor == "lstm" else StatelessPredictor(config)
        )
        self.joint = Joint(config.joint_size, config.vocab_size)
        self.context: ContextBiasing | None = None
        """Attention of frames to personal words (speech.biasing.attention), where there is one."""
        self.pointer: PointerBiasing | None = None
        """Attention of the joint network to them (speech.biasing.pointer), where there is one."""

    def init_state(self, batch: int) -> Heard:
        """The state of `batch` streams before any audio."""
        return self.encoder.init_state(batch)

    def hidden(
        self,
        features: Tensor,
        state: Heard | None = None,
        lengths: Tensor | None = None,
        trace: list[dict] | None = None,
    ) -> tuple[Tensor, Heard, Tensor | None]:
        """The encoder's output; arguments as in `Encoder.forward`."""
        return self.encoder(features, state, lengths, trace)

    def acoustic(self, hidden: Tensor, context: object | None = None) -> Tensor:
        """What the joint network reads, (B, T, J), from hidden vectors (B, T, D).

        Args:
            context: personal words embedded by `self.context`; None is the plain model, bit for
                bit.
        """
        if context is not None and self.context is not None:
            hidden = self.context(hidden, context)
        return self.to_joint(hidden)

    def plain_state(self) -> dict[str, Tensor]:
        """`state_dict` without the attention to personal words."""
        return {k: v for k, v in self.state_dict().items() if k.partition(".")[0] not in ATTENTION}

    def parameter_groups(self) -> dict[str, list[str]]:
        """Names of parameters by how they are optimised (see `core.protocols.Task`)."""
        names = dict(self.named_parameters())
        ssm = [name for name in names if name.endswith(("A_log", "dt_bias", ".D"))]
        return {
            "ssm": ssm,
            "attention": [name for name in names if name not in ssm],
            "no_decay": [name for name, parameter in names.items() if parameter.dim() != 2],
        }
