"""A language model that learns from another one: from all its next-token probabilities.

loss = (1 - share) cross entropy of the text + share temperature^2 KL(teacher || student)
(Hinton et al., arXiv 1503.02531).
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from solomonic.core import ConfigError, require
from solomonic.lm.task import LanguageModelTask

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel


class DistilledLanguageTask(LanguageModelTask):
    """A `LanguageModelTask` with a teacher; arguments as there, and the teacher's.

    Args:
        share: of the loss that is the teacher's, 0 to 1.
        temperature: above 1 the teacher's less likely tokens count more.

    Raises:
        ConfigError: another vocabulary, or a value out of range.
    """

    def __init__(
        self,
        model: "LanguageModel",
        *args: Any,
        teacher: "LanguageModel",
        share: float = 0.7,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(model, *args)
        require(0 <= share <= 1, f"share = {share} must lie between 0 and 1.")
        require(temperature > 0, f"temperature = {temperature} must be above 0.")
        if teacher.config.vocab_size != model.config.vocab_size:
            raise ConfigError(
                f"the teacher knows {teacher.config.vocab_size} tokens and the student "
                f"{model.config.vocab_size}; they must be the same to be compared."
            )
        self.teacher = teacher.to(self._device).eval().requires_grad_(False)
        self.share, self.temperature = share, temperature

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The mixed loss in nats per token; 'text' and 'distance' are its parts."""
        tokens = batch.to(self._device, non_blocking=True)
        read, targets = tokens[:, :-1], tokens[:, 1:]
        with torch.no_grad():
            wanted = self.teacher(read)[0].float() / self.temperature
        found = self.model(read)[0].float()
        text = cross_entropy(found.flatten(0, 1), targets.flatten())
        distance = kl_div(
            log_softmax(found / self.temperature, -1).flatten(0, 1),
            log_softmax(wanted, -1).flatten(0, 1),
            reduction="batchmean",
            log_target=True,
        )
        loss = (1 - self.share) * text + self.share * self.temperature**2 * distance
        figures = {"text": float(text.detach()), "distance": float(distance.detach())}
        return loss, {**figures, "tokens": float(targets.numel())}
