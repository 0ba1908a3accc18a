"""One call that looks into a trained model while it reads a text: `probe(model, tokenizer, text)`.

Everything but the causal influence comes from one reading.
"""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from solomonic.core import Config, DataError, require, require_least
from solomonic.layers import SSM
from solomonic.layers.config import ModelConfig
from solomonic.lm.model import LanguageModel
from solomonic.lm.probe.gramians import effective_rank, hankel, text_gramians
from solomonic.lm.probe.influence import influence
from solomonic.lm.probe.record import QUANTILES, LayerProbe, Probe, White
from solomonic.lm.probe.signals import Drive, recurrent_layers, watch
from solomonic.realization import whiteness
from solomonic.text import Tokenizer

LAGS = 20
"""Lags of the whiteness tests."""
_EVERY = 16  # tokens between two states that are looked at
_CHANNELS = 4  # principal directions of an innovation that are tested
Progress = Callable[[str, float], None]
"""Told what is being done and how much of it is, 0 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig(Config):
    """How much is read.

    Attributes:
        tokens: of the text, at most.
        longest: largest distance of the causal influence.
        places: tokens that are replaced for it; 0: none.
        seconds: no further replacing after so long in all.
        seed: of what is replaced.
    """

    tokens: int = 4096
    longest: int = 512
    places: int = 64
    seconds: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(self, 2, "tokens")
        require_least(self, 1, "longest")
        require_least(self, 0, "places")
        require(self.seconds > 0, f"seconds = {self.seconds} must be above 0.")


def probe(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str | bytes,
    config: ProbeConfig | None = None,
    *,
    name: str = "model",
    progress: Progress | None = None,
) -> Probe:
    """Look into `model` while it reads `text` as the beginning of a document.

    Raises:
        ConfigError: no state-space layer with scalar decay.
        DataError: fewer than two tokens.
    """
    config, tell = config or ProbeConfig(), progress or (lambda what, share: None)
    began = time.monotonic()
    ids = torch.tensor([tokenizer.eos_id, *tokenizer.encode(text)][: config.tokens + 1])
    if len(ids) < 3:
        raise DataError(f"the text has {len(ids) - 1} tokens; give at least two.")
    reading = _Reading(model, ids)
    reading.run(lambda share: tell("reading", share))
    layers = []
    for index, kind in enumerate(model.config.layers):
        tell("layers", index / len(model.config.layers))
        layers.append(reading.layer(index, kind))
    tell("layers", 1.0)
    found = None
    if config.places:
        found = influence(
            model,
            ids,
            longest=config.longest,
            places=config.places,
            seconds=config.seconds - (time.monotonic() - began),
            seed=config.seed,
            progress=lambda done, wanted: tell("replacing tokens", done / wanted),
        )
    costs = torch.cat(reading.costs).numpy()
    size = sum(len(tokenizer.token_bytes(token)) for token in ids[1:].tolist())
    return Probe(
        model=name,
        pattern=model.config.layers,
        window=model.config.window_size,
        slots=model.config.eidetic_slots if "B" in model.config.layers else 0,
        tokens=len(costs),
        bytes=size,
        bits_per_byte=float(costs.sum()) / math.log(2) / max(size, 1),
        layers=layers,
        surprise=_white(costs[:, None]),
        influence=found,
        seconds=time.monotonic() - began,
    )


class _Reading:
    """What one reading of the text leaves behind."""

    def __init__(self, model: LanguageModel, ids: Tensor) -> None:
        self.model, self.ids = model, ids
        self.costs: list[Tensor] = []
        self.modules = recurrent_layers(model)
        self.signals: dict[int, list[tuple[Tensor, ...]]] = {layer: [] for layer in self.modules}
        self.moments: dict[int, Tensor] = {}
        self.outputs: dict[int, list[Tensor]] = {layer: [] for layer in self.modules}

    def run(self, tell: Callable[[float], None]) -> None:
        """Read the text once."""
        length = len(self.ids) - 1

        def after(start: int, hidden: Tensor) -> None:
            targets = self.ids[start + 1 : start + 1 + len(hidden)].to(hidden.device)
            logits = self.model.head(hidden).float()
            self.costs.append(cross_entropy(logits, targets, reduction="none").double().cpu())
            tell(min((start + len(hidden)) / length, 1.0))

        watch(self.model, self.ids[:-1], self._visit, after)

    def _visit(self, layer: int, module: SSM, drive: Drive) -> None:
        self.signals[layer].append((drive.log_decay, drive.steps, drive.b, drive.c))
        moment = self.moments.get(layer, torch.zeros(1).double())
        for _, h in drive.states(_EVERY):
            moment = moment + h.transpose(-1, -2) @ h
        self.moments[layer] = moment
        self.outputs[layer].append(drive.output)

    def layer(self, index: int, kind: str) -> LayerProbe:
        """The figures of one layer."""
        length = deadbeat(self.model.config, kind)
        if index not in self.modules:
            return LayerProbe(layer=index, kind=kind, deadbeat=length)
        log_decay, steps, b, c = (
            torch.cat(parts) for parts in zip(*self.signals[index], strict=True)
        )
        lives = -math.log(2) / log_decay.clamp(max=-1e-12)
        levels = torch.tensor(QUANTILES, dtype=torch.float64)
        grams = text_gramians(log_decay, steps, b, c)
        return LayerProbe(
            layer=index,
            kind=kind,
            deadbeat=length,
            half_lives=torch.quantile(lives, levels, dim=0).T.numpy(),
            effective_rank=effective_rank(self.moments[index]).numpy(),
            hankel=hankel(grams.mean_reached, grams.mean_seen).numpy(),
            places=grams.places.numpy(),
            reached=effective_rank(grams.reached).mean(1).numpy(),
            seen=effective_rank(grams.seen).mean(1).numpy(),
            whiteness=_white(self._innovation(torch.cat(self.outputs[index])).numpy()),
        )

    def _innovation(self, y: Tensor) -> Tensor:
        """y_t less what its past foretells by the taps of B'MOJO's test, (T, d)."""
        guess, taps = torch.zeros_like(y), self.model.config.predictor_taps
        for j in range(1, taps + 1):
            guess[j:] += 2.0**-j / (1 - 2.0**-taps) * y[:-j]
        return (y - guess)[taps:]


def deadbeat(config: ModelConfig, kind: str) -> int | None:
    """Tokens after which what a layer held verbatim is gone for certain; None: never."""
    if kind == "T":
        return None
    spans = [1]
    if kind in "WFB":
        spans.append(config.window_size)
    if kind in config.short_conv_layers and config.short_conv_size:
        spans.append(config.short_conv_size)
    if kind in "MDFB":
        spans.append(config.ssm_conv_size)
    return max(spans)


def _white(errors: np.ndarray) -> White | None:
    """The test on the strongest directions of errors (T, d); None where they are too few."""
    samples = len(errors)
    if samples < 2 * LAGS + _CHANNELS + 2:
        return None
    centred = errors - errors.mean(0)
    if centred.shape[1] > _CHANNELS:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        centred = centred @ vectors[:, -_CHANNELS:]
    try:
        found = whiteness(centred, LAGS)
    except DataError:  # a layer whose output never moves
        return None
    diagonal = np.diagonal(found.correlations, axis1=1, axis2=2)
    largest = np.take_along_axis(diagonal, np.abs(diagonal).argmax(axis=1)[:, None], axis=1)[:, 0]
    return White(
        p_value=found.p_value,
        correlations=largest,
        samples=samples,
        channels=centred.shape[1],
    )
