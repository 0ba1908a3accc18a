"""Word pieces for speech recognition: a SentencePiece unigram vocabulary with a blank at id 0.

    id 0   "<blank>", which no text is encoded to (SentencePiece's "unknown" takes its place)
    id 1.. pieces; one that begins with "▁" begins a word

A file of pieces is a SentencePiece `.model`, so any tool that reads those reads it. Text is taken
as it is: lower case, digits and punctuation are `text.spoken.normalise`'s work.
(Kudo 2018, "Subword regularization", for the unigram model and its n-best segmentations.)
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from solomonic.core import CheckpointError, ConfigError, DataError, VocabularyError, write_whole

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

BLANK = 0
BLANK_PIECE = "<blank>"
WORD_START = "▁"
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
_LONGEST_LINE = 1 << 20  # bytes; SentencePiece drops longer lines without an error
_PIECES_FIELD, _NORMALISER_FIELD = 1, 3  # of sentencepiece_model.proto's ModelProto


class WordPieces:
    """A trained vocabulary. Make one with `train`, `load` or `from_bytes`.

    Attributes:
        pieces: every piece by id; pieces[0] is "<blank>".
        size: how many there are, the blank included.
    """

    def __init__(self, processor: SentencePieceProcessor, model: bytes) -> None:
        self._processor, self._model = processor, model
        self.size = int(processor.get_piece_size())
        self.pieces: tuple[str, ...] = tuple(processor.id_to_piece(i) for i in range(self.size))
        self._known = {piece for piece in self.pieces if len(piece) == 1} - {WORD_START}

    @classmethod
    def train(cls, texts: Iterable[str], size: int = 256) -> Self:
        """Learn `size` pieces (the blank included) from lines of text.

        The letters a to z and the apostrophe are always among them, so that any English word can
        be written; other characters are when they occur. Little text may give fewer than `size`.
        The same texts in the same order give the same vocabulary.

        Raises:
            DataError: there is no text.
            ConfigError: `size` is too small for the characters.
        """
        import sentencepiece

        lines = list(_lines(texts))
        if not lines:
            raise DataError("there is no text to learn word pieces from; give some sentences.")
        needed = len(set(LETTERS).union(*lines) - {" "}) + 2  # blank and word start
        if size < needed:
            raise ConfigError(
                f"{size} word pieces are too few for this text's characters; give at least "
                f"{needed}."
            )
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=size,
            character_coverage=1.0,
            required_chars=LETTERS,
            unk_id=BLANK,
            unk_piece=BLANK_PIECE,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            normalization_rule_name="identity",
            hard_vocab_limit=False,
            max_sentence_length=_LONGEST_LINE,
            num_threads=1,  # the order of sums, hence the pieces, would depend on it
            minloglevel=2,
        )
        return cls.from_bytes(model.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a `.model` that `save` wrote.

        Raises:
            CheckpointError: it is missing, cut short, or not a vocabulary with a blank.
        """
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"cannot read the word pieces {path} ({error.strerror}); copy them from where the "
                "model was trained."
            ) from error
        return cls.from_bytes(model, str(path))

    @classmethod
    def from_bytes(cls, model: bytes, name: str = "the stored word pieces") -> Self:
        """The vocabulary in the bytes of a `.model`; `name` is for the message.

        Raises:
            CheckpointError: cut short, foreign, or without the blank at id 0.
        """
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor()
        try:
            # A file cut between two fields still parses; the normaliser is the last of them.
            whole = {_PIECES_FIELD, _NORMALISER_FIELD} <= _fields(model)
            whole = whole and bool(processor.LoadFromSerializedProto(model))
        except (RuntimeError, IndexError):
            whole = False
        if not whole:
            raise CheckpointError(f"{name}: cut short or no SentencePiece model; copy it again.")
        special = [i for i in range(processor.get_piece_size()) if _is_special(processor, i)]
        if processor.unk_id() != BLANK or special != [BLANK]:
            raise CheckpointError(
                f"{name}: a SentencePiece model without the blank at id 0; give one that "
                "solomonic trained."
            )
        return cls(processor, model)

    def to_bytes(self) -> bytes:
        """The `.model` file's contents; all that `from_bytes` needs."""
        return self._model

    def save(self, path: str | Path) -> None:
        """Write the `.model`, whole or not at all.

        Raises:
            StorageError: the disk is full or the place cannot be written.
        """
        write_whole(Path(path), self._model)

    def encode(self, text: str) -> list[int]:
        """The likeliest segmentation, ids 1 and up; of an empty text, none.

        Raises:
            VocabularyError: a character is not in the vocabulary.
        """
        self._check(text)
        return self._processor.encode(text)

    def encode_nbest(self, text: str, n: int) -> list[list[int]]:
        """Up to `n` different segmentations, the likeliest first.

        Raises:
            VocabularyError: a character is not in the vocabulary.
        """
        self._check(text)
        if n < 1:
            raise ConfigError(f"n = {n} segmentations were asked for; ask for at least 1.")
        best = self.encode(text)
        found = {tuple(best): None}
        if best and n > 1:
            found |= {tuple(ids): None for ids in self._processor.nbest_encode_as_ids(text, n)}
        return [list(ids) for ids in list(found)[:n] if BLANK not in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, words separated by one space.

        Raises:
            VocabularyError: an id is the blank or outside the vocabulary.
        """
        parts = []
        for token in ids:
            if not BLANK < token < self.size:
                raise VocabularyError(
                    f"{token} is not the id of a word piece; they are 1 to {self.size - 1}."
                )
            parts.append(self.pieces[token])
        return " ".join("".join(parts).replace(WORD_START, " ").split())

    def starts_word(self, token: int) -> bool:
        """Whether the piece begins a word."""
        return self.pieces[token].startswith(WORD_START)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordPieces) and self._model == other._model

    def __hash__(self) -> int:
        return hash(self._model)

    def __reduce__(self) -> tuple:
        return type(self).from_bytes, (self._model,)

    def _check(self, text: str) -> None:
        unknown = set(text) - self._known - {" "}
        if unknown:
            shown = ", ".join(repr(c) for c in sorted(unknown)[:5])
            raise VocabularyError(
                f"the word pieces have no {shown} (in '{_short(text)}'); pass the text through "
                "solomonic.text.spoken.normalise, or spell it out."
            )


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        line = " ".join(text.split())
        if WORD_START in line or "\0" in line:
            raise DataError(f"the text '{_short(line)}' holds a reserved character; remove it.")
        if len(line.encode()) >= _LONGEST_LINE:
            raise DataError(
                f"the text '{_short(line)}' is longer than {_LONGEST_LINE} bytes; give a sentence "
                "a line."
            )
        if line:
            yield line


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_special(processor: SentencePieceProcessor, token: int) -> bool:
    return (
        processor.is_unknown(token) or processor.is_control(token) or processor.is_unused(token)
    ) or processor.is_byte(token)


def _fields(message: Sequence[int]) -> set[int]:
    """Numbers of the fields of a serialised protocol buffer; IndexError when it is cut."""
    found, at = set(), 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 != 2:  # every field of a ModelProto is a nested message
            raise IndexError
        length, at = _varint(message, at)
        at += length
        if at > len(message):
            raise IndexError
        found.add(key >> 3)
    return found


def _varint(message: Sequence[int], at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
