"""The interface of the store: its records, its limits, and what may be put in."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

from solomonic.core import Config, DataError
from solomonic.core.config import require

NAME_CHARACTERS = 200
"""Of a user's or a key's name."""
SOURCE_CHARACTERS = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreConfig(Config):
    """Bounds of what one user may leave, and of how long an answer may take.

    Attributes:
        max_utterances: kept per user; the oldest is forgotten when one more comes.
        max_history_bytes: of all kept sentences of one user (UTF-8), likewise.
        max_text_bytes: of one utterance; a longer one is refused.
        max_state_bytes: of the model state of one user; a larger one is refused.
        max_phrases: personal words of one user.
        max_phrase_characters: of one of them.
        timeout: seconds to wait for a lock, a connection or a statement.
        connections: kept open to the database.
    """

    max_utterances: int = 10_000
    max_history_bytes: int = 1 << 20
    max_text_bytes: int = 64 << 10
    max_state_bytes: int = 64 << 20
    max_phrases: int = 5_000
    max_phrase_characters: int = 200
    timeout: float = 30.0
    connections: int = 8

    def __post_init__(self) -> None:
        for name in ("max_utterances", "max_text_bytes", "max_state_bytes", "connections"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1.")
        require(self.max_phrases >= 0, "max_phrases must not be negative.")
        require(self.max_phrase_characters >= 1, "max_phrase_characters must be at least 1.")
        require(
            self.max_history_bytes >= self.max_text_bytes,
            "max_history_bytes must hold one utterance of max_text_bytes; raise it.",
        )
        require(
            math.isfinite(self.timeout) and self.timeout > 0, "timeout must be positive seconds."
        )


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One sentence of a user.

    Attributes:
        text: what was understood in the end.
        heard: the recogniser's best before reranking; "" where there was no reranking.
        time: unix seconds; 0 = when it is committed.
        source: which device or client, in its own words.
        revision: of the user's record with this utterance; 0 = not committed. Not compared.
    """

    text: str
    heard: str = ""
    time: float = 0.0
    source: str = ""
    revision: int = dataclasses.field(default=0, compare=False)

    @property
    def nbytes(self) -> int:
        """What counts towards `StoreConfig.max_history_bytes`."""
        return sum(len(part.encode()) for part in (self.text, self.heard, self.source))


@dataclasses.dataclass(frozen=True)
class UserMemory:
    """All that is remembered of one user.

    Attributes:
        user: name.
        revision: grows with every change; 0 = nothing is known of this user.
        phrases: personal words.
        utterances: the last ones, oldest first.
        state: a safetensors state file of the model `fingerprint`, whichever that is, or None.
        fingerprint: of the model that wrote `state`; "" without one.
        state_revision: what the state has read: utterances of a later revision are not in it.
    """

    user: str
    revision: int = 0
    phrases: tuple[str, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    state: bytes | None = dataclasses.field(default=None, repr=False)
    fingerprint: str = ""
    state_revision: int = 0


@dataclasses.dataclass(frozen=True)
class UserUsage:
    """How much is kept of one user: counts, and bytes of sentences and of the state."""

    user: str
    revision: int
    utterances: int
    history_bytes: int
    state_bytes: int


@dataclasses.dataclass(frozen=True)
class KeyRecord:
    """An API key as it is kept: its hash, never the key.

    Attributes:
        name: what people call it; unique.
        user: the only user it may act for; "" = any.
        limits: overrides of the server's limits.
        created: unix seconds.
        key_hash: SHA-256 of the key (`serve.keys.hash_key`).
    """

    name: str
    user: str = ""
    limits: dict[str, Any] = dataclasses.field(default_factory=dict)
    created: float = 0.0
    key_hash: bytes = dataclasses.field(default=b"", repr=False)


class Store(Protocol):
    """What lasts between requests and runs. Thread-safe; methods block.

    Every method that writes is one transaction: when it has returned, the change survives a crash
    of the machine; when it has raised, nothing has changed (a message that cannot promise this
    says so).

    Raises (all methods):
        StorageError: the database or the disk does not answer, is full or read-only.
        CheckpointError: what is stored is damaged.
        DataError: what is given is too long, empty, or not storable text.
    """

    def memory(self, user: str, *, last: int | None = 1000, state: bool = True) -> UserMemory:
        """What is known of a user: an empty record for an unknown one, which creates nothing.

        Args:
            last: most utterances to return; None for all.
            state: False leaves the model state out, which may be megabytes.
        """
        ...

    def commit(
        self, user: str, utterance: Utterance, *, state: bytes | None = None, fingerprint: str = ""
    ) -> int:
        """Add an utterance, and the model state after it where there is one; atomic.

        Without a state the one before stays (`UserMemory.state_revision` tells how far it read).

        Returns:
            The user's new revision, greater than all before.
        """
        ...

    def set_phrases(self, user: str, phrases: Sequence[str]) -> None:
        """Replace the personal words."""
        ...

    def users(self) -> list[str]:
        """Names of all users, sorted by code point."""
        ...

    def usage(self) -> list[UserUsage]:
        """How much is kept of each user, by name."""
        ...

    def delete_user(self, user: str) -> dict[str, int]:
        """Delete every trace of a user, keys bound to it included; how much of each there was."""
        ...

    def add_key(
        self, key_hash: bytes, name: str, user: str = "", limits: dict[str, Any] | None = None
    ) -> None:
        """Keep a key's hash. DataError where name or hash are taken."""
        ...

    def find_key(self, key_hash: bytes) -> KeyRecord | None:
        """The key of this hash."""
        ...

    def keys(self) -> list[KeyRecord]:
        """All keys, by name."""
        ...

    def revoke_key(self, name: str) -> bool:
        """Forget a key; False where there was none of this name."""
        ...

    def check(self) -> None:
        """Raise StorageError when the store is not usable (for readiness)."""
        ...

    def close(self) -> None:
        """Let go of files and connections. May be called again."""
        ...


def valid_name(name: str, what: str = "user") -> str:
    """`name` where it can stand for a user or a key.

    Raises:
        DataError: empty, too long, or with control characters.
    """
    if not name or len(name) > NAME_CHARACTERS:
        raise DataError(f"the name of a {what} has 1 to {NAME_CHARACTERS} characters.")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise DataError(f"the name of a {what} must not contain control characters.")
    return valid_text(name, f"the name of a {what}")


def valid_text(text: str, what: str) -> str:
    """`text` where every database can keep it: no NUL, no half surrogates (DataError)."""
    if "\0" in text:
        raise DataError(f"{what} must not contain the character NUL.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} is not valid Unicode (half a surrogate pair).") from error
    return text


def valid_utterance(utterance: Utterance, config: StoreConfig) -> Utterance:
    """The utterance with its time filled in, within the limits (DataError otherwise)."""
    for name in ("text", "heard", "source"):
        valid_text(getattr(utterance, name), f"'{name}' of an utterance")
    if len(utterance.source) > SOURCE_CHARACTERS:
        raise DataError(f"'source' of an utterance has at most {SOURCE_CHARACTERS} characters.")
    if utterance.nbytes > config.max_text_bytes:
        raise DataError(
            f"an utterance of {utterance.nbytes} bytes is over the limit of "
            f"{config.max_text_bytes}; split it."
        )
    if not math.isfinite(utterance.time) or utterance.time < 0:
        raise DataError("'time' of an utterance is seconds since 1970, or 0 for now.")
    return dataclasses.replace(utterance, time=utterance.time or time.time())


def valid_phrases(phrases: Sequence[str], config: StoreConfig) -> list[str]:
    """The personal words, within the limits (DataError otherwise)."""
    if len(phrases) > config.max_phrases:
        raise DataError(
            f"{len(phrases)} personal words are over the limit of {config.max_phrases}; "
            "leave some out."
        )
    for phrase in phrases:
        if not phrase.strip() or len(phrase) > config.max_phrase_characters:
            raise DataError(
                f"a personal word or phrase has 1 to {config.max_phrase_characters} characters."
            )
        valid_text(phrase, "a personal word")
    return list(phrases)
