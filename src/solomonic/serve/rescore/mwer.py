"""Fine-tuning the language model for fewer word errors: minimum word error over n-best sentences.

With the score s_i of sentence i of an utterance (all of `RerankConfig`'s, the model's own part
weighted by `lm_scale`) and its word errors e_i,

    P_i = softmax(s)_i        L = sum_i P_i (e_i - mean e)

(Prabhavalkar et al. 2018, arXiv 1712.01818; for rescoring: Xu et al. 2022, RescoreBERT,
arXiv 2202.01094). The mean changes no gradient by itself but keeps it small. A share of the plain
log-likelihood of what was said keeps the model a language model.

A `solomonic.core.Task`: `solomonic.train.train` runs it, stops and resumes it.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from solomonic.core import Config, DataError, require
from solomonic.lm.padding import pad
from solomonic.lm.pretrained import write_pretrained
from solomonic.serve.rescore.config import RerankConfig
from solomonic.serve.rescore.tune import WEIGHTS, Sheet
from solomonic.text import Tokenizer

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel

_LM = 1 + WEIGHTS.index("lm_scale")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MwerConfig(Config):
    """What is minimised.

    Raises:
        ConfigError: a value out of range.
    """

    utterances: int = 8
    """Lattices of a batch."""
    texts: int = 8
    """Sentences of each, the best by the weights before training."""
    likelihood: float = 0.1
    """Weight of the negative log-likelihood of what was said, in nats a token."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("utterances", "texts"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        require(self.likelihood >= 0, f"likelihood = {self.likelihood} must not be negative.")


@dataclasses.dataclass(frozen=True)
class Rivals:
    """The sentences of one utterance.

    Attributes:
        texts: the sentences.
        rest: (K,) float64, weighted nats of all but the language model.
        edits: (K,) float64, word errors.
        reference: what was said.
    """

    texts: tuple[str, ...]
    rest: Tensor
    edits: Tensor
    reference: str


def rivals(sheet: Sheet, weights: RerankConfig, texts: int) -> Rivals:
    """The best `texts` sentences of a sheet by the weights."""
    row = torch.tensor([1.0, *(getattr(weights, name) for name in WEIGHTS)], dtype=torch.float64)
    parts = torch.from_numpy(sheet.parts)
    order = (parts @ row).sort(descending=True, stable=True).indices[:texts]
    row[_LM] = 0.0
    return Rivals(
        tuple(sheet.texts[place] for place in order.tolist()),
        (parts @ row)[order],
        torch.from_numpy(sheet.edits)[order].double(),
        sheet.reference,
    )


def expected_errors(scores: Tensor, edits: Tensor) -> Tensor:
    """sum_i softmax(scores)_i (edits_i - mean edits), a scalar, for (K,) each."""
    return (scores.softmax(dim=0) * (edits - edits.mean())).sum()


class MwerTask:
    """Word errors of sheets as a loss; a `solomonic.core.Task`.

    Args:
        model: fine-tuned in place.
        train: sheets of `tune.collect`.
        weights: of the reranking that the model is for; `lm_scale` must be above 0.
        held_out: sheets that the best checkpoint is chosen by.

    Raises:
        DataError: no utterance has sentences that differ in their errors: nothing to learn.
        ConfigError: the weights leave the language model out.
    """

    def __init__(
        self,
        model: "LanguageModel",
        tokenizer: Tokenizer,
        train: Sequence[Sheet],
        weights: RerankConfig,
        config: MwerConfig | None = None,
        held_out: Sequence[Sheet] = (),
    ) -> None:
        require(
            weights.lm_scale > 0, "lm_scale = 0 leaves the language model out; tune weights first."
        )
        self.model, self.tokenizer, self.weights = model, tokenizer, weights
        self.config = config or MwerConfig()
        found = [rivals(sheet, weights, self.config.texts) for sheet in train]
        self._train = [one for one in found if len(set(one.edits.tolist())) > 1]
        if not self._train:
            raise DataError(
                f"none of {len(train)} lattices has sentences with more and with fewer errors, so "
                "there is nothing to learn; give wider lattices."
            )
        # The others count too: nothing may get worse.
        self._held_out = [rivals(sheet, weights, self.config.texts) for sheet in held_out]

    def batches(
        self, position: Mapping[str, Any] | None
    ) -> Iterator[tuple[list[Rivals], dict[str, Any]]]:
        """Utterances in an order of each epoch's own, for ever."""
        epoch, at = (0, 0) if position is None else (position["epoch"], position["at"])
        while True:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
            order = torch.randperm(len(self._train), generator=generator).tolist()
            while at < len(order):
                rows = order[at : at + self.config.utterances]
                at += len(rows)
                yield [self._train[row] for row in rows], {"epoch": epoch, "at": at}
            epoch, at = epoch + 1, 0

    def loss(self, batch: list[Rivals]) -> tuple[Tensor, dict[str, float]]:
        """Mean over the utterances; figures: 'risk' (expected errors above the mean), 'nats'."""
        scores, spoken = self._scores(batch)
        risk = torch.stack(
            [
                expected_errors(score, one.edits.to(score))
                for score, one in zip(scores, batch, strict=True)
            ]
        ).mean()
        nats = torch.stack(spoken).mean()
        figures = {"risk": float(risk.detach()), "nats": float(nats.detach())}
        lines = [text for one in batch for text in (*one.texts, one.reference)]
        figures["tokens"] = float(sum(len(self._line(text)) - 1 for text in lines))
        return risk + self.config.likelihood * nats, figures

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """On the held-out sheets: 'loss' (as in training, a mean), 'errors' of the sentences that
        are picked, and 'nats' a token of what was said. Empty without such sheets."""
        if not self._held_out:
            return {}
        loss = nats = 0.0
        errors = 0
        for first in range(0, len(self._held_out), self.config.utterances):
            batch = self._held_out[first : first + self.config.utterances]
            scores, spoken = self._scores(batch)
            for score, said, one in zip(scores, spoken, batch, strict=True):
                loss += float(expected_errors(score, one.edits.to(score)))
                loss += self.config.likelihood * float(said)
                nats += float(said)
                errors += int(one.edits[int(score.argmax())])
        count = len(self._held_out)
        return {"loss": loss / count, "errors": float(errors), "nats": nats / count}

    def parameter_groups(self) -> Mapping[str, Sequence[str]]:
        """As the model says."""
        return self.model.parameter_groups()

    def save(self, directory: str) -> None:
        """A model folder as `load_lm` reads."""
        write_pretrained(Path(directory), self.model, self.tokenizer)

    def _line(self, text: str) -> list[int]:
        end = self.tokenizer.eos_id
        return [end, *self.tokenizer.encode(text.lower()), end]

    def _scores(self, batch: list[Rivals]) -> tuple[list[Tensor], list[Tensor]]:
        """The score (K,) of each utterance's sentences; nats a token of each reference."""
        lines = [self._line(text) for one in batch for text in (*one.texts, one.reference)]
        tokens, lengths = pad(lines)
        tokens = tokens.to(self.model.device)
        lengths = lengths.to(self.model.device)
        logits, _ = self.model(tokens[:, :-1], lengths=lengths - 1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        picked = logits.log_softmax(dim=-1).gather(2, tokens[:, 1:, None])[..., 0]
        real = torch.arange(picked.shape[1], device=picked.device) < (lengths - 1)[:, None]
        sums = picked.masked_fill(~real, 0.0).sum(dim=1)
        scores, spoken, at = [], [], 0
        for one in batch:
            count = len(one.texts)
            rest = one.rest.to(sums)
            scores.append(rest + self.weights.lm_scale * sums[at : at + count])
            spoken.append(-sums[at + count] / (lengths[at + count] - 1))
            at += count + 1
        return scores, spoken
