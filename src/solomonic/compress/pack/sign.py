"""Signatures of device files: Ed25519, so that devices hold a public key and cannot sign.

Needs the package `cryptography` (solomonic[compress]); reading a signed file does not.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from solomonic.compress.pack.contents import Signature
from solomonic.compress.pack.reader import parse_pack, read_pack
from solomonic.compress.pack.writer import build_pack, content_size
from solomonic.core import CheckpointError, ConfigError, write_whole

ED25519 = 1
KEY_BYTES, SIGNATURE_BYTES = 32, 64
_PURPOSE = b"solomonic.pack.1" + bytes(4)
"""A signature of a device file can never be one of something else."""


def new_key() -> tuple[bytes, bytes]:
    """A private and a public key, 32 bytes each. Keep the first one secret."""
    private = _ed25519().Ed25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def sign_pack(path: str | Path, private_key: bytes, out: str | Path | None = None) -> str:
    """Sign the file, in place or into `out`.

    Returns:
        the identity of the signed file.

    Raises:
        CheckpointError: `path` is no sound device file.
        ConfigError: the key is none, or `cryptography` is not installed.
        StorageError: the disk is full or the place cannot be written.
    """
    if len(private_key) != KEY_BYTES:
        raise ConfigError(f"a private key has {KEY_BYTES} bytes, not {len(private_key)}.")
    key = _ed25519().Ed25519PrivateKey.from_private_bytes(private_key)
    contents = read_pack(path)
    # That the file is signed is part of what is signed.
    empty = build_pack(replace(contents, signature=Signature(ED25519, bytes(SIGNATURE_BYTES))))
    identity = hashlib.sha256(empty[: content_size(empty)])
    signature = Signature(ED25519, key.sign(_PURPOSE + identity.digest()))
    write_whole(
        Path(path if out is None else out), build_pack(replace(contents, signature=signature))
    )
    return identity.hexdigest()


def verify_pack(path: str | Path, public_key: bytes) -> None:
    """Return if the owner of the key signed the file as it is.

    Raises:
        CheckpointError: it is not signed, signed by another key, or no sound device file.
        ConfigError: the key is none, or `cryptography` is not installed.
    """
    if len(public_key) != KEY_BYTES:
        raise ConfigError(f"a public key has {KEY_BYTES} bytes, not {len(public_key)}.")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read the device file {path} ({error.strerror}).") from error
    signature = parse_pack(data, str(path)).signature
    if signature is None:
        raise CheckpointError(f"{path} is not signed; fetch it from where it was made.")
    if signature.algorithm != ED25519:
        raise CheckpointError(
            f"{path} is signed by the algorithm {signature.algorithm}, unknown here; update "
            "solomonic."
        )
    from cryptography.exceptions import InvalidSignature

    identity = hashlib.sha256(data[: content_size(data)]).digest()
    try:
        _ed25519().Ed25519PublicKey.from_public_bytes(public_key).verify(
            signature.data, _PURPOSE + identity
        )
    except InvalidSignature as error:
        raise CheckpointError(f"{path} was not signed with this key; do not use it.") from error


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ConfigError(
            "signatures need the package cryptography; install solomonic[compress]."
        ) from error
    return ed25519
