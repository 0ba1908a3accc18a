"""A reranker from files: weights that `tune-rerank` wrote, and the recogniser they are for."""

from pathlib import Path
from typing import TYPE_CHECKING

from solomonic.core import ConfigError
from solomonic.serve.rescore.config import RerankConfig, read_weights
from solomonic.serve.rescore.internal import InternalLM
from solomonic.serve.rescore.reranker import Reranker

if TYPE_CHECKING:
    from solomonic.serve.lm.loaded import LoadedModel

SHIPPED_WEIGHTS = Path(__file__).resolve().parent / "weights.json"
"""Tuned for the language model and the recogniser of the package."""


def load_reranker(
    lm: "LoadedModel", weights: str | Path | None = None, asr: str | Path | None = None
) -> Reranker:
    """Settings and all.

    Args:
        weights: a file of `solomonic tune-rerank`. None: those of the package where `lm` is the
            model that they were tuned for, else `RerankConfig()`.
        asr: folder or device file of the recogniser whose lattices come, for `internal_scale`;
            None: the recogniser of the package.

    Raises:
        ConfigError: the weights are missing or damaged.
        CheckpointError: the recogniser is.
    """
    config, origin = RerankConfig(), "by default, not tuned for this model"
    if weights is not None:
        config, origin = RerankConfig.load(weights), f"of {weights}"
    elif SHIPPED_WEIGHTS.is_file():
        record = read_weights(SHIPPED_WEIGHTS)
        known = record.get("development", {}).get("lm", {}).get("fingerprint")
        if known == lm.fingerprint:
            config, origin = RerankConfig.from_json(record["settings"]), "of the package"
    internal = load_internal(asr) if config.internal_scale else None
    return Reranker(lm, config, internal, origin)


def load_internal(asr: str | Path | None = None) -> InternalLM:
    """The expectation of a recogniser in a folder or a device file; None: the package's.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: the packages that speech needs are not installed.
    """
    try:
        from solomonic.speech.places import SHIPPED
        from solomonic.speech.pretrained import load_speech_model
    except ImportError as error:
        raise ConfigError(
            f"internal_scale needs the recogniser, and {error.name} cannot be loaded; install it "
            "with `pip install 'solomonic[speech]'` or set internal_scale to 0."
        ) from error
    return InternalLM(load_speech_model(SHIPPED if asr is None else asr))
