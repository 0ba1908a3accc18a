"""Settings of reranking, and the file of weights that `solomonic tune-rerank` writes."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from solomonic.core import Config, ConfigError, require, write_whole

FORMAT = "solomonic-rerank"
VERSION = 1
_RESULTS = "development"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RerankConfig(Config):
    """How a sentence is picked from a lattice.

        score = acoustic + bias_scale * bias + lm_scale * lm - internal_scale * internal
                + memory_scale * memory + word_bonus * words

    Raises:
        ConfigError: a value out of range.
    """

    lm_scale: float = 0.3
    """Of the language model's log-probability of the sentence, its end included."""
    internal_scale: float = 0.0
    """Of what the recogniser expects by itself, which is subtracted (needs an `InternalLM`)."""
    word_bonus: float = 0.0
    """Nats a word: language models like short sentences."""
    memory_scale: float = 0.3
    """Of what the user's own words add to the log-probability."""
    bias_scale: float = 1.0
    """Of what personal words earned in the recogniser."""
    share: float = 0.2
    """Share of the user's own words in the probability of the next word."""
    recall: float = 0.3
    """Share of the model that has read what the user said before; the rest has read nothing."""
    whole: bool = True
    """Search the whole lattice; else only the `texts` best of it."""
    history: int = 4
    """Words after which two partial sentences at one node count as one."""
    beam: float = 8.0
    """Nats by which a partial sentence may lie behind the best one at its node."""
    max_paths: int = 6
    """Partial sentences kept at a node."""
    lattice_beam: float = 10.0
    """Arcs whose best path is so many nats behind are not looked at."""
    max_arcs: int = 2000
    """Arcs that are looked at: the best. Where that would still be more, only the `texts` best
    sentences are compared, so that no lattice can keep a server busy."""
    texts: int = 30
    """Of the lattice's own best that are always scored whole."""

    def __post_init__(self) -> None:
        for name in ("lm_scale", "internal_scale", "memory_scale", "bias_scale"):
            value = getattr(self, name)
            require(0 <= value <= 100, f"{name} = {value} must lie between 0 and 100.")
        require(abs(self.word_bonus) <= 100, f"word_bonus = {self.word_bonus} is beyond 100 nats.")
        require(0 <= self.share < 1, f"share = {self.share} must lie in [0, 1).")
        require(0 <= self.recall <= 1, f"recall = {self.recall} must lie in [0, 1].")
        for name in ("history", "max_paths", "max_arcs", "texts"):
            require(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1.")
        for name in ("beam", "lattice_beam"):
            require(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} is negative.")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file of weights.

        Raises:
            ConfigError: missing, damaged, foreign, newer, or with settings that are none.
        """
        return cls.from_json(read_weights(path)["settings"])

    def save(self, path: str | Path, about: dict[str, Any] | None = None) -> None:
        """Write a file of weights, whole or not at all.

        Args:
            about: what they were tuned on, for people.

        Raises:
            StorageError: it cannot be written.
        """
        record = {"format": FORMAT, "version": VERSION, "settings": self.to_json()}
        text = json.dumps(record | {_RESULTS: about or {}}, indent=2)
        write_whole(Path(path), (text + "\n").encode())


def read_weights(path: str | Path) -> dict[str, Any]:
    """All that a file of weights holds: "settings", and under "development" how they were found.

    Raises:
        ConfigError: as `RerankConfig.load`.
    """
    try:
        record = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read the weights {path} ({error}); give a file of `solomonic tune-rerank`."
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ConfigError(f"{path} holds no weights; give a file of `solomonic tune-rerank`.")
    version = record.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise ConfigError(
            f"{path} has version {version}, this program reads up to {VERSION}; update solomonic."
        )
    if not isinstance(record.get("settings"), dict):
        raise ConfigError(f"{path} names no settings; write it again with `solomonic tune-rerank`.")
    return record
