"""A language model as a solver's proposer: its best answer to a prompt, and repeatable draws."""

import dataclasses
import math

import torch

from solomonic.core import Config, require
from solomonic.lm.generate import Reader
from solomonic.memory.solver.task import Proposal
from solomonic.text import StreamDecoder, Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposerConfig(Config):
    """How answers are written.

    Attributes:
        max_tokens: of one answer.
        max_prompt: tokens of the prompt that are read: the last ones.
        temperature: of draws; the best answer takes the likeliest token each time.
    """

    max_tokens: int = 96
    max_prompt: int = 2048
    temperature: float = 0.8

    def __post_init__(self) -> None:
        require(self.max_tokens >= 1, "max_tokens must be at least 1.")
        require(self.max_prompt >= 1, "max_prompt must be at least 1.")
        require(self.temperature > 0, "temperature must be positive.")


class LanguageModelProposer:
    """Answers by a `LanguageModel` or a `NativeModel`.

    The confidence is the geometric mean of the tokens' probabilities: how sure the model is of the
    wording. Whether that means being right, only a calibration can tell (`memory.conformal`).
    """

    def __init__(
        self, model: Reader, tokenizer: Tokenizer, config: ProposerConfig | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.config = config or ProposerConfig()
        self.name = "language model"

    def best(self, prompt: str, stop: str) -> Proposal | None:
        """The likeliest continuation, token by token, up to the text `stop`."""
        return self._write(prompt, stop, None)

    def sample(self, prompt: str, stop: str, index: int) -> Proposal:
        """Draw number `index`: the same prompt and number give the same answer."""
        return self._write(prompt, stop, torch.Generator().manual_seed(index))

    @torch.no_grad()
    def _write(self, prompt: str, stop: str, generator: torch.Generator | None) -> Proposal:
        tokens = self.tokenizer.encode(prompt)[-self.config.max_prompt :] or [self.tokenizer.eos_id]
        unread = torch.tensor([tokens], device=self.model.device)
        decoder, text, log_prob, count, state = StreamDecoder(self.tokenizer), "", 0.0, 0, None
        while count < self.config.max_tokens and stop not in text.lstrip():
            logits, state = self.model.next_logits(unread, state, None)
            log_probs = logits[0].double().cpu().log_softmax(-1)
            token = int(log_probs.argmax())
            if generator is not None:
                drawn = (log_probs / self.config.temperature).softmax(-1)
                token = int(torch.multinomial(drawn, 1, generator=generator))
            log_prob, count = log_prob + float(log_probs[token]), count + 1
            if token == self.tokenizer.eos_id:
                break
            text += decoder.push(token)
            unread = torch.tensor([[token]], device=self.model.device)
        lead = len(text) - len(text.lstrip())
        end = text.find(stop, lead)
        return Proposal(text if end < 0 else text[:end], math.exp(log_prob / count))
