"""What a device file holds, as Python values."""

import contextlib
import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack.layout import (
    MOST_CONFIG,
    MOST_DIMS,
    MOST_NAME,
    MOST_SIDE,
    MOST_SIGNATURE,
    MOST_TENSORS,
    VOCABULARIES,
)
from solomonic.core import Config, ConfigError, require

_KEY = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_NAME = re.compile(r"[!-~]+")

Tensor = np.ndarray | QuantisedMatrix
Setting = str | int | float | bool | None
C = TypeVar("C", bound=Config)


class Piece(NamedTuple):
    """One entry of a vocabulary.

    text: UTF-8 of a word piece, or the bytes a token stands for.
    score: log-probability in SentencePiece's unigram model; 0 elsewhere.
    type: SentencePiece's: 1 normal, 2 unknown (here the blank), 3 control, 4 user-defined, 6 byte.
    """

    text: bytes
    score: float = 0.0
    type: int = 1


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Pieces in the order of their ids.

    Attributes:
        kind: "pieces" (a SentencePiece unigram model) or "tokens" (a byte-level tokenizer).
        pieces: by id.
        dummy_prefix: a word start is put in front of text before it is cut into pieces.
        squeeze_spaces: spaces at both ends are removed, and runs of them become one.
        escape_spaces: a space is written "▁" (U+2581) in pieces.
        rewrites: text is rewritten by a character map that only `rest` has; a reader that does not
            know it must not cut text itself.
        rest: "pieces": what follows the pieces in SentencePiece's own file; "tokens": the
            tokenizer as JSON. Only needed to give the original back.
    """

    kind: str
    pieces: tuple[Piece, ...]
    dummy_prefix: bool = True
    squeeze_spaces: bool = True
    escape_spaces: bool = True
    rewrites: bool = False
    rest: bytes = b""

    def __post_init__(self) -> None:
        require(
            self.kind in VOCABULARIES[1:],
            f"vocabulary kind '{self.kind}' is unknown; use 'pieces' or 'tokens'.",
        )
        require(bool(self.pieces), "a vocabulary needs at least one piece.")
        for token, piece in enumerate(self.pieces):
            require(
                len(piece.text) < 1 << 16 and 1 <= piece.type <= 6 and np.isfinite(piece.score),
                f"piece {token} does not fit a device file: {piece}.",
            )


class Signature(NamedTuple):
    """Who vouches for a file: the number of an algorithm, and what that algorithm gives."""

    algorithm: int
    data: bytes


@dataclasses.dataclass(frozen=True, eq=False)
class Pack:
    """All of a device file.

    Attributes:
        config: flat settings, each a text: "transducer.hidden_size" to "256". `settings` makes
            them of plain values.
        vocabulary: None in a model without one.
        tensors: by name, in the order of the file: float32 arrays of one to four dimensions, or
            quantised matrices.
        signature: None in a file that nobody signed.

    Raises:
        ConfigError: a key, a value, a name or a shape that the format cannot hold.
    """

    config: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    vocabulary: Vocabulary | None = None
    signature: Signature | None = None

    def __post_init__(self) -> None:
        size = 0
        for key, value in self.config.items():
            require(
                bool(_KEY.fullmatch(key)),
                f"'{key}' cannot be a key of a device file; use a-z, 0-9 and _ between dots.",
            )
            require(
                isinstance(value, str) and all(c >= " " and c != "\x7f" for c in value),
                f"the value of '{key}' holds a control character or is no text; leave it out.",
            )
            size += len(key) + len(value.encode()) + 2
        require(size <= MOST_CONFIG, f"the settings take {size} bytes, more than {MOST_CONFIG}.")
        require(len(self.tensors) <= MOST_TENSORS, f"more than {MOST_TENSORS} tensors.")
        for name, tensor in self.tensors.items():
            require(
                bool(_NAME.fullmatch(name)) and len(name) <= MOST_NAME,
                f"'{name}' cannot name a tensor; use 1 to {MOST_NAME} ASCII characters.",
            )
            _check_tensor(name, tensor)
        if self.signature is not None:
            require(
                0 < len(self.signature.data) <= MOST_SIGNATURE,
                f"a signature has 1 to {MOST_SIGNATURE} bytes.",
            )


def settings(
    prefix: str, values: Mapping[str, Setting], later: Mapping[str, Setting] | None = None
) -> dict[str, str]:
    """Plain values as settings "prefix.name": numbers in decimal, true, false, null for None.

    Args:
        later: settings that came after the first files, and what files without them mean. Where a
            value is that, the setting is left out: an old model stays the file that it always was.

    Raises:
        ConfigError: a value of another type, or a text that would read as one of those words.
    """
    found = {}
    for name, value in values.items():
        if later is not None and name in later and value == later[name]:
            continue
        if value is None:
            text = "null"
        elif isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, int | float):
            text = repr(value)
        else:
            text = value
            require(
                isinstance(text, str) and text not in ("null", "true", "false"),
                f"the setting {prefix}.{name} = {value!r} cannot be stored.",
            )
        found[f"{prefix}.{name}"] = text
    return found


def typed(
    cls: type[C],
    prefix: str,
    config: Mapping[str, str],
    later: Mapping[str, Setting] | None = None,
) -> C:
    """The configuration dataclass whose fields are the settings "prefix.field".

    Args:
        later: as of `settings`: fields that the file need not say, and what they are then.

    Raises:
        ConfigError: a setting is unknown, missing or of another type, or the values do not fit.
    """
    hints = typing.get_type_hints(cls)
    found = {
        key.removeprefix(f"{prefix}."): text
        for key, text in (settings(prefix, later or {}) | dict(config)).items()
        if key.startswith(f"{prefix}.")
    }
    names = {field.name for field in dataclasses.fields(cls) if field.init}
    odd = sorted(names ^ found.keys())
    require(
        not odd,
        f"the setting '{prefix}.{odd[0] if odd else ''}' is missing or unknown to this version.",
    )
    return cls(**{name: _value(f"{prefix}.{name}", hints[name], found[name]) for name in found})


def _value(key: str, hint: Any, text: str) -> Setting:
    kinds = typing.get_args(hint) or (hint,)
    if text == "null" and type(None) in kinds:
        return None
    if bool in kinds and text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        if kind in kinds:
            with contextlib.suppress(ValueError):
                return kind(text)
    if str in kinds:
        return text
    raise ConfigError(f"the setting {key} = '{text}' is no {hint}.")


def _check_tensor(name: str, tensor: Tensor) -> None:
    if isinstance(tensor, QuantisedMatrix):
        shape = tensor.levels.shape
        book = tensor.codebook
        require(
            book is None or (bool((np.diff(book.astype(int)) >= 0).all()) and book[0] > -128),
            f"the codebook of '{name}' must ascend from -127 or more.",
        )
        require(bool(np.isfinite(tensor.scales).all()), f"'{name}' has a scale that is no number.")
    else:
        require(
            isinstance(tensor, np.ndarray) and tensor.dtype == np.float32,
            f"'{name}' must be a float32 array or a QuantisedMatrix.",
        )
        shape = tensor.shape
        require(bool(np.isfinite(tensor).all()), f"'{name}' holds NaN or infinity.")
    require(
        1 <= len(shape) <= MOST_DIMS and all(1 <= side <= MOST_SIDE for side in shape),
        f"'{name}' has the shape {shape}; a device file holds 1 to {MOST_DIMS} dimensions of 1 to "
        f"{MOST_SIDE}.",
    )
