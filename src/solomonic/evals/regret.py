"""Regret: bits that a predictor pays above the best possible one, over time, on known sources.

    curves = regret(contenders(model, tokenizer), RegretConfig(sources=("tree", "switching")))
    plot_regret(curves, "regret.png")

The best possible is the Bayes predictor of the source (`solomonic.induction.sources`), so the zero
is known and not estimated. Symbols are read as the digits of a text by predictors of text.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solomonic.core import Config, DataError, Predictor, require
from solomonic.evals.output import save_figure
from solomonic.induction import ContextTree, Frequencies, Mixer
from solomonic.induction.restricted import Restricted
from solomonic.induction.sources import SOURCES, Source, choose, machine_bounds, machine_outputs

if TYPE_CHECKING:
    from solomonic.lm.model import LanguageModel
    from solomonic.text import Tokenizer

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
"""How symbols are written in text, here and by `solomonic gen universal`."""

BOUND = "program length"
"""The curve of the source "machine" that bounds the best possible from above."""

Make = Callable[[int], Predictor]  # of an alphabet


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegretConfig(Config):
    """Which sources, how many sequences of which length, and from which seed."""

    sources: tuple[str, ...] = tuple(SOURCES)
    length: int = 256
    sequences: int = 16
    seed: int = 0
    machine_alphabet: int = 2

    def __post_init__(self) -> None:
        choose(",".join(self.sources))
        require(self.length >= 1, f"length = {self.length} must be at least 1.")
        require(self.sequences >= 1, f"sequences = {self.sequences} must be at least 1.")
        require(2 <= self.machine_alphabet <= 36, "machine_alphabet must be from 2 to 36.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegretCurve:
    """One predictor on one source.

    Attributes:
        regret: (length,) bits above the best possible after each symbol, mean over sequences; of
            the source "machine", where none is known, all bits paid.
        error: (length,) its standard error.
        best: bits a symbol of the best possible, mean; None for "machine".
    """

    source: str
    predictor: str
    regret: np.ndarray
    error: np.ndarray
    best: float | None

    def to_json(self) -> dict[str, Any]:
        """At powers of two and at the end."""
        at = [2**k for k in range(20) if 2**k < len(self.regret)] + [len(self.regret)]
        return {
            "source": self.source,
            "predictor": self.predictor,
            "best_bits_per_symbol": self.best,
            "regret_bits": {str(t): round(float(self.regret[t - 1]), 3) for t in at},
            "standard_error": round(float(self.error[-1]), 3),
        }


def contenders(
    model: "LanguageModel | None" = None,
    tokenizer: "Tokenizer | None" = None,
    untrained: bool = False,
) -> dict[str, Make]:
    """What is compared: frequencies, context trees, the mixer, and a language model if given.

    Args:
        untrained: also a model of the same configuration with random weights.

    Raises:
        DataError: the model's tokenizer has no token for a digit.
    """
    found: dict[str, Make] = {
        "frequencies": lambda alphabet: Frequencies(alphabet),
        "context trees": lambda alphabet: ContextTree(alphabet, 8),
        "mixer": lambda alphabet: Restricted(Mixer(14), [ord(d) for d in DIGITS[:alphabet]]),
    }
    if model is not None and tokenizer is not None:
        from solomonic.lm.predictor import LmPredictor

        ids = [tokenizer.encode(digit) for digit in DIGITS]
        if any(len(one) != 1 for one in ids):
            raise DataError("the model's tokenizer has no token for a digit; use a byte tokenizer.")
        models = {"language model": model}
        if untrained:
            models["untrained"] = _untrained(model)
        for label, one in models.items():
            # One predictor is enough: it is copied at the beginning of each text.
            first = LmPredictor(one, tokenizer.eos_id)
            found[label] = lambda alphabet, first=first: Restricted(
                first.fork(), [digit[0] for digit in ids[:alphabet]]
            )
    return found


def _untrained(model: "LanguageModel") -> "LanguageModel":
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return type(model)(model.config).eval()


def regret(predictors: Mapping[str, Make], config: RegretConfig) -> list[RegretCurve]:
    """A curve for every source and predictor, on the same sequences."""
    curves = []
    for name in config.sources:
        alphabet, sequences, best = _sequences(name, config)
        for label, make in predictors.items():
            paid = np.stack([_paid(make(alphabet), one) for one in sequences])
            over = np.cumsum(paid - best, axis=1)
            spread = over.std(axis=0, ddof=1) if len(over) > 1 else np.zeros(config.length)
            curves.append(
                RegretCurve(
                    source=name,
                    predictor=label,
                    regret=over.mean(axis=0),
                    error=spread / np.sqrt(len(over)),
                    best=None if name == "machine" else float(best.mean()),
                )
            )
        if name == "machine":
            curves.append(_program_length(config))
    return curves


def _program_length(config: RegretConfig) -> RegretCurve:
    """What the programs behind the sequences cost: no more than that is needed for them."""
    size = config.machine_alphabet
    found = machine_bounds(config.sequences, config.length, alphabet=size, seed=config.seed)
    spread = found.std(axis=0, ddof=1) if len(found) > 1 else np.zeros(config.length)
    return RegretCurve(
        source="machine",
        predictor=BOUND,
        regret=found.mean(axis=0),
        error=spread / np.sqrt(len(found)),
        best=None,
    )


def _sequences(name: str, config: RegretConfig) -> tuple[int, np.ndarray, np.ndarray]:
    """Alphabet, sequences (N, length) and what the best possible pays for each symbol."""
    if name == "machine":
        found = machine_outputs(
            config.sequences, config.length, alphabet=config.machine_alphabet, seed=config.seed
        )
        return config.machine_alphabet, found, np.zeros(found.shape)
    source: Source = SOURCES[name](config.seed)
    chance = np.random.default_rng(config.seed)
    found = np.stack([source.draw(config.length, chance) for _ in range(config.sequences)])
    return source.alphabet, found, np.stack([_paid(source.oracle(), one) for one in found])


def _paid(predictor: Predictor, sequence: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.array([predictor.update(int(symbol)) for symbol in sequence])


def plot_regret(curves: Sequence[RegretCurve], path: str | Path) -> Path:
    """A panel a source: bits above the best possible against time, all predictors together.

    Raises:
        DataError: there is nothing to draw.
        StorageError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not curves:
        raise DataError("there are no curves to draw; name at least one source.")
    sources = list(dict.fromkeys(curve.source for curve in curves))
    labels = list(dict.fromkeys(curve.predictor for curve in curves))
    columns = min(3, len(sources))
    rows = -(-len(sources) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained")
    for place, source in enumerate(sources, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for curve in (one for one in curves if one.source == source):
            at = np.arange(1, len(curve.regret) + 1)
            colour = _COLOURS[labels.index(curve.predictor) % len(_COLOURS)]
            style = "--" if curve.predictor == BOUND else "-"
            axes.plot(at, curve.regret, style, color=colour, label=curve.predictor)
            low, high = curve.regret - curve.error, curve.regret + curve.error
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.axhline(0, color="black", linewidth=1)
        axes.set_title(source, loc="left", fontsize=10)
        axes.set_xlabel("symbols read")
        axes.set_ylabel("bits paid" if source == "machine" else "bits above the best possible")
        axes.grid(alpha=0.25)
    shown = {
        label: line
        for axes in figure.axes
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.axes[0].legend(shown.values(), shown.keys(), fontsize=8)
    return save_figure(figure, path)


_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
