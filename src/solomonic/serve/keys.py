"""API keys: 256 random bits that are shown once and kept only as their SHA-256.

A plain hash is enough, as nobody searches through 2^256 keys; slow hashes are for passwords. Keys
are in the store, or in a file of their own (`KeyFile`) that an operator can copy and read:

    {"keys": [{"name": "phone", "hash": "<64 hex digits>", "user": "ana", "limits": {}, ...}]}
"""

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from solomonic.core import CheckpointError, ConfigError, StorageError, require, write_whole
from solomonic.serve.store.base import KeyRecord

PREFIX = "slm_"
"""Of every key, so that scanners for leaked secrets find it."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""Of keys and users. No colon: it separates a key's users from those of other keys."""
LIMITS = ("requests_per_minute", "max_streams", "max_requests")
"""What may stand in a key's limits, each in place of the server's for one client."""


class KeySource(Protocol):
    """Where keys are: a `KeyFile` or a `serve.store.Store`."""

    def find_key(self, key_hash: bytes) -> KeyRecord | None: ...
    def keys(self) -> list[KeyRecord]: ...
    def add_key(
        self, key_hash: bytes, name: str, user: str = "", limits: dict | None = None
    ) -> None: ...
    def revoke_key(self, name: str) -> bool: ...


def hash_key(key: str) -> bytes:
    """What is stored of a key, 32 bytes."""
    return hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).digest()


def issue_key(source: KeySource, name: str, user: str = "", limits: dict | None = None) -> str:
    """Make a key, store its hash, and give it back: the only time that it can be seen.

    Raises:
        ConfigError: a name that is taken or cannot be one, or an unknown limit.
    """
    check_name(name, "key")
    if user:
        check_name(user, "user")
    for limit, value in (limits or {}).items():
        require(limit in LIMITS, f"keys have no limit '{limit}'; known: {', '.join(LIMITS)}.")
        require(
            isinstance(value, int) and value >= 0,
            f"the limit {limit} = {value} must be a whole number of at least 0.",
        )
    taken = [known.name for known in source.keys()]  # noqa: SIM118 (no mapping)
    if name in taken:
        raise ConfigError(f"there is a key '{name}' already; revoke it or choose another name.")
    key = PREFIX + secrets.token_urlsafe(32)
    source.add_key(hash_key(key), name, user, limits)
    return key


def check_name(name: str, what: str) -> None:
    """Raise `ConfigError` unless `name` can be that of a key or user."""
    require(
        NAME.fullmatch(name) is not None,
        f"this is no name of a {what}: use 1 to 64 of a-z, A-Z, 0-9, '.', '_', '@' and '-', "
        "beginning with a letter or digit.",
    )


class KeyFile:
    """Keys in a JSON file. It is read anew when it changes, so that a revoked key stops working.

    Raises:
        CheckpointError: the file is there and no key file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._known: dict[bytes, KeyRecord] = {}
        self.keys()

    def find_key(self, key_hash: bytes) -> KeyRecord | None:
        """The key of this hash, or None."""
        return self._read().get(key_hash)

    def keys(self) -> list[KeyRecord]:
        """All keys, in the order in which they were added."""
        return list(self._read().values())

    def add_key(
        self, key_hash: bytes, name: str, user: str = "", limits: dict | None = None
    ) -> None:
        """Add a key; see `issue_key`."""
        key = KeyRecord(
            key_hash=key_hash, name=name, user=user, limits=limits or {}, created=time.time()
        )
        self._write([*self.keys(), key])

    def revoke_key(self, name: str) -> bool:
        """Remove the key of this name; False if there is none."""
        keys = self.keys()
        left = [key for key in keys if key.name != name]
        if len(left) < len(keys):
            self._write(left)
        return len(left) < len(keys)

    def revoke_user(self, user: str) -> int:
        """Remove the keys that are bound to a user, who is to leave no trace; how many they were.

        Where a store has the keys, its `delete_user` does that.
        """
        keys = self.keys()
        left = [key for key in keys if key.user != user]
        if user and len(left) < len(keys):
            self._write(left)
            return len(keys) - len(left)
        return 0

    def _read(self) -> dict[bytes, KeyRecord]:
        with self._lock:
            try:
                found = self.path.stat()
                stamp = (found.st_mtime_ns, found.st_size)
                if stamp != self._stamp:
                    self._known = _parse(self.path, self.path.read_text("utf-8"))
                    self._stamp = stamp
            except FileNotFoundError:
                self._known, self._stamp = {}, None
            except OSError as error:
                raise StorageError(
                    f"the key file {self.path} cannot be read ({error.strerror}); mend its "
                    "permissions."
                ) from error
            return self._known

    def _write(self, keys: Sequence[KeyRecord]) -> None:
        records = [
            {
                "name": key.name,
                "hash": key.key_hash.hex(),
                "user": key.user,
                "limits": key.limits,
                "created": round(key.created),
            }
            for key in keys
        ]
        write_whole(self.path, (json.dumps({"keys": records}, indent=2) + "\n").encode())


def _parse(path: Path, text: str) -> dict[bytes, KeyRecord]:
    try:
        found = [
            KeyRecord(
                key_hash=bytes.fromhex(record["hash"]),
                name=str(record["name"]),
                user=str(record.get("user", "")),
                limits={str(k): int(v) for k, v in record.get("limits", {}).items()},
                created=float(record.get("created", 0)),
            )
            for record in json.loads(text)["keys"]
        ]
        if any(len(key.key_hash) != 32 for key in found):
            raise ValueError("a hash has not 64 digits")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is no key file ({error}); make one with `solomonic serve keys add NAME "
            "--api-key-file FILE`."
        ) from error
    return {key.key_hash: key for key in found}
