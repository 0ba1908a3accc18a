"""The language model: embedding, a stack of layers, a head. `logits, state = model(tokens, state)`.

One code path: a whole text is a single chunk, decoding is chunks of one token.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from solomonic.core import ShapeError, VocabularyError
from solomonic.layers import LayerRecall, Linear, ModelConfig, RMSNorm, Stack, StackState
from solomonic.layers.checks import check_rows
from solomonic.layers.config import LATER_SETTINGS
from solomonic.state import State, field


@dataclasses.dataclass
class ModelState(State):
    """time (B,) int64: tokens each row has read; stack: the layers' states."""

    time: Tensor = field()
    stack: StackState = dataclasses.field(default_factory=StackState)


class LanguageModel(nn.Module):
    """A B'MOJO language model, or by its pattern a Transformer, a Mamba-like model or a mixture."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = Stack(config)
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)
        self.head: nn.Linear = Linear(config.hidden_size, config.vocab_size)
        self.initialise()
        self.tie_weights()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.embed.weight.device

    @property
    def gradient_checkpointing(self) -> bool:
        """Recompute each block in the backward pass instead of storing what is inside."""
        return self.blocks.gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.blocks.gradient_checkpointing = value

    def tie_weights(self) -> None:
        """Share the embedding with the head when the configuration says so."""
        if self.config.tie_word_embeddings:
            self.head.weight = self.embed.weight

    def initialise(self) -> None:
        """Normal weights of `initializer_range`; what writes to the residual stream is scaled
        down by sqrt(2 * layers) (GPT-2). Layers keep their own initial decays and steps."""
        deviation = self.config.initializer_range
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                last = name.rpartition(".")[2]
                writes = last in ("output", "down") or (last == "out_proj" and ".ssm." not in name)
                scale = math.sqrt(2 * len(self.blocks)) if writes else 1.0
                nn.init.normal_(module.weight, std=deviation / scale)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=deviation)

    def init_state(
        self, batch: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> ModelState:
        """The state of `batch` rows before any token."""
        like = self.embed.weight.new_empty(0).to(device=device, dtype=dtype)
        time = torch.zeros(batch, dtype=torch.int64, device=like.device)
        return ModelState(time, self.blocks.init_state(batch, like))

    def hidden(
        self,
        tokens: Tensor | None,
        state: ModelState | None = None,
        lengths: Tensor | None = None,
        trace: list[dict] | None = None,
        embedded: Tensor | None = None,
        recall: Mapping[int, LayerRecall] | None = None,
    ) -> tuple[Tensor, ModelState]:
        """The normalised output of the stack, (B, T, d), and the next state.

        Args:
            tokens: (B, T) int64; ignored in favour of `embedded` (B, T, d) when that is given.
            state: what an earlier call returned; None before the first token.
            lengths: (B,) int64 real tokens of right-padded rows; what lies behind is ignored.
            trace: a list that collects what each B'MOJO layer found surprising and kept.
            recall: by layer, slots of a long-term memory to read, and places for what it keeps.

        Raises:
            ShapeError: a wrong dimension, named.
            VocabularyError: a token outside the vocabulary.
            ConfigError: `recall` names a layer that cannot read slots.
        """
        if embedded is None:
            assert tokens is not None, "give tokens or embedded"
            self._check(tokens)
        x = self.embed(tokens) if embedded is None else embedded
        batch, steps = x.shape[:2]
        check_rows(batch, steps, lengths, None if state is None else len(state.time))
        x, stack = self.blocks(x, None if state is None else state.stack, lengths, trace, recall)
        time = torch.zeros(batch, dtype=torch.int64, device=x.device)
        time = time + (steps if lengths is None else lengths)
        return self.norm(x), ModelState(time if state is None else state.time + time, stack)

    def forward(
        self,
        tokens: Tensor,
        state: ModelState | None = None,
        lengths: Tensor | None = None,
        trace: list[dict] | None = None,
    ) -> tuple[Tensor, ModelState]:
        """Logits (B, T, vocabulary) for the token after each one, and the next state."""
        x, state = self.hidden(tokens, state, lengths, trace)
        return self.head(x), state

    def next_logits(
        self, tokens: Tensor, state: ModelState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, ModelState]:
        """Logits (B, V) after each row's last real token of (B, T) alone, and the next state.

        Raises:
            ShapeError: a wrong dimension, named.
            VocabularyError: a token outside the vocabulary.
        """
        hidden, state = self.hidden(tokens, state, lengths)
        if lengths is None:
            return self.head(hidden[:, -1]), state
        rows = torch.arange(len(tokens), device=hidden.device)
        return self.head(hidden[rows, (lengths - 1).clamp(min=0)]), state

    def parameter_groups(self) -> dict[str, list[str]]:
        """Names of parameters by how they are optimised.

        "ssm": everything in a fading memory, which the paper trains with its own rate;
        "attention": everything else; "no_decay", which overlaps with both: gains, biases, decay
        rates, convolutions.
        """
        groups: dict[str, list[str]] = {"ssm": [], "attention": [], "no_decay": []}
        kinds = self.config.layers
        for name, parameter in self.named_parameters():
            recurrent = ".mixer.ssm." in name or (
                ".mixer." in name and kinds[int(name.split(".")[1])] in "MD"
            )
            groups["ssm" if recurrent else "attention"].append(name)
            if parameter.dim() != 2:
                groups["no_decay"].append(name)
        return groups

    def fingerprint(self) -> str:
        """Identifies configuration and weights; state files of another model are refused by it."""
        said = self.config.to_json()
        # A setting that came later and is not used leaves a model what it was.
        said = {k: v for k, v in said.items() if k not in LATER_SETTINGS or v != LATER_SETTINGS[k]}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
        for name, parameter in sorted(self.named_parameters()):
            digest.update(name.encode())
            digest.update(parameter.detach().to("cpu", torch.float64).numpy().tobytes())
        return digest.hexdigest()

    def _check(self, tokens: Tensor) -> None:
        if tokens.dim() != 2:
            raise ShapeError(
                f"tokens must be (batch, time), not {tokens.dim()} dimensions; add or drop one."
            )
        # Looking at values would make a GPU wait, and the embedding there fails loudly by itself.
        if tokens.device.type == "cpu" and tokens.numel():
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= self.config.vocab_size:
                wrong = low if low < 0 else high
                raise VocabularyError(
                    f"token {wrong} lies outside the vocabulary of {self.config.vocab_size} "
                    "tokens; use the tokenizer this model was trained with."
                )
