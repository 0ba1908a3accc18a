"""A lattice as a message that is sent in place of the audio: small, versioned, checksummed.

    magic "SL", version, length of the rest    4 bytes and more
    header: which utterance and revision, why it ended, who spoke, how    plain bytes
    lattice                                                               range coder (`coder`)
    CRC-32 of all before                                                  4 bytes

`docs/lattice-format.md` has it byte by byte. A reader takes what is right in every byte, or
refuses with the offset and the reason.
"""

import zlib
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from solomonic.core import ConfigError, DataError, require
from solomonic.speech.lattice.body import code_body, from_body, to_body
from solomonic.speech.lattice.coder import Decoder, Encoder
from solomonic.speech.lattice.graph import Lattice
from solomonic.speech.lattice.header import Reader, Writer
from solomonic.speech.lattice.paths import best_path
from solomonic.speech.lattice.prune import prune_to_bytes

MAGIC = b"SL"
VERSION = 1
DEFAULT_LIMIT = 1000  # bytes: 5 s of speech at 1/15 of Opus at 24 kbit/s
PER_NAT = 16  # steps of a score
_FINE_PER_NAT = 64  # where 1/16 nat would put another path in front
_MOST_NATS = 1 << 17  # float32 still tells steps of 1/64 nat apart

Kind = Literal["speculative_end", "final", "commit", "reset"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SPEAKER, _WHISPER, _LANGUAGE, _LATTICE = 1, 2, 4, 8


@dataclass(frozen=True, kw_only=True)
class LatticeMessage:
    """What a device sends instead of audio.

    Args:
        lattice: of words (or pieces); None only in "commit" and "reset", which need none.
        utterance: number of the utterance, from 0.
        revision: of its result, growing within an utterance.
        kind: "speculative_end" (work may begin), "final" (a result of a new revision), "commit"
            (the result of `revision` stands) or "reset" (all revisions up to this one are void).
        reason: which end-pointer fired, in plain words.
        duration: seconds of audio that the message stands for.
        speaker: id of the recognised speaker, or None.
        speaker_score: of that recognition, on its own scale; kept to 1/1000.
        whisper: probability that it was whispered, or None; kept to 1/255.
        language: tag such as "en" or "de-AT", or None.

    Raises:
        ConfigError: a value is out of its range.
    """

    lattice: Lattice | None
    utterance: int = 0
    revision: int = 0
    kind: Kind = "final"
    reason: str = ""
    duration: float = 0.0
    speaker: str | None = None
    speaker_score: float = 0.0
    whisper: float | None = None
    language: str | None = None

    def __post_init__(self) -> None:
        require(self.kind in KINDS, f"kind of a message must be one of {KINDS}, not {self.kind}.")
        for name in ("utterance", "revision"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and 0 <= value < 1 << 63,
                f"{name} of a message must be a whole number in 0..2**63-1, not {value}.",
            )
        require(
            self.lattice is not None or self.kind in ("commit", "reset"),
            f"a message of the kind {self.kind} needs a lattice.",
        )
        require(0.0 <= self.duration < 1e9, f"duration must be in 0..1e9 s, not {self.duration}.")
        require(
            abs(self.speaker_score) <= 1e6,
            f"speaker_score must be in -1e6..1e6, not {self.speaker_score}.",
        )
        require(
            self.whisper is None or 0.0 <= self.whisper <= 1.0,
            f"whisper must be a probability, not {self.whisper}.",
        )
        for name in ("reason", "speaker", "language"):
            size = len((getattr(self, name) or "").encode())
            require(size <= 255, f"{name} of a message must be at most 255 bytes, not {size}.")


def limit_for(seconds: float) -> int:
    """Bytes that keep a message 15 times below Opus at 24 kbit/s (and 160 times below PCM).

    200 for each second of audio, and not less than `DEFAULT_LIMIT`.
    """
    return max(DEFAULT_LIMIT, int(200 * seconds))


def encode_message(message: LatticeMessage, limit: int | None = DEFAULT_LIMIT) -> bytes:
    """The message in at most `limit` bytes; None: as many as it takes.

    Where it would be longer, arcs are pruned, the worst first. Scores are rounded to 1/16 nat, or
    more finely where another path would otherwise become the best; none moves by more than 1/32.
    Symbols that no arc uses are left out.

    Raises:
        DataError: the best path alone does not fit, or a score is beyond 131,072 nats.
    """
    if limit is None or message.lattice is None:
        data = _encode(message)
        if limit is not None and len(data) > limit:
            raise DataError(f"the message takes {len(data)} bytes, more than the limit of {limit}.")
        return data

    made: dict[int, bytes] = {}  # by the number of arcs: lattices of one search differ in it

    def measure(lattice: Lattice) -> int:
        made[lattice.arcs] = _encode(replace(message, lattice=lattice))
        return len(made[lattice.arcs])

    return made[prune_to_bytes(message.lattice, limit, measure).arcs]


def decode_message(data: bytes) -> LatticeMessage:
    """The message in `data`; symbols of its lattice are numbered by first use.

    Raises:
        DataError: it is cut short, corrupted, written by a newer version, no such message at all,
            or contradicts itself; the sentence names the byte.
    """
    data = bytes(data)
    reader = Reader(data)
    if data[:2] != MAGIC[: len(data)] or not data:
        raise DataError("this is no lattice message: byte 0 is not 'SL'.")
    reader.skip(2, "magic")
    version = reader.byte("version")
    if version != VERSION:
        raise DataError(
            f"the lattice message has version {version} (byte 2) and this program reads "
            f"{VERSION}; update solomonic."
        )
    length = reader.number("length")
    end = reader.at + length
    if end + 4 != len(data):
        what = "is cut short" if end + 4 > len(data) else "has bytes after its end"
        raise DataError(
            f"the lattice message {what}: {end + 4} bytes are announced (byte 3) and there are "
            f"{len(data)}."
        )
    stored = int.from_bytes(data[end:], "little")
    if stored != zlib.crc32(data[:end]):
        raise DataError(f"the lattice message is corrupted: the checksum at byte {end} is wrong.")
    reader.end = end
    try:
        return _read_body(reader, end)
    except ConfigError as error:
        raise DataError(f"the lattice message contradicts itself: {error}") from error


def quantise(lattice: Lattice) -> tuple[int, np.ndarray, np.ndarray]:
    """Steps per nat, and the scores (A,) int64 in steps, such that the best path stays the best.

    Rounding to the nearest 1/16 nat moves a path by up to 1/32 nat an arc and a kind of score, and
    a path that close to the best one could pass it. Then steps are 1/64 nat, scores on the best
    path are rounded to the next step above and all others down: no other path can gain on it.

    Raises:
        DataError: a score is too large.
    """
    for name in ("acoustic", "bias"):
        largest = float(np.abs(getattr(lattice, name)).max())
        if largest > _MOST_NATS:
            raise DataError(f"a lattice message holds up to {_MOST_NATS} nats, not {largest:g}.")
    best = list(best_path(lattice).arcs)
    scores = [lattice.acoustic.astype(np.float64), lattice.bias.astype(np.float64)]
    acoustic, bias = (np.rint(score * PER_NAT).astype(np.int64) for score in scores)
    rounded = replace(lattice, acoustic=acoustic / PER_NAT, bias=bias / PER_NAT)
    if list(best_path(rounded).arcs) == best:
        return PER_NAT, acoustic, bias
    acoustic, bias = (np.floor(score * _FINE_PER_NAT).astype(np.int64) for score in scores)
    acoustic[best] += 1
    bias[best] = np.ceil(scores[1][best] * _FINE_PER_NAT).astype(np.int64)
    return _FINE_PER_NAT, acoustic, bias


def _encode(message: LatticeMessage) -> bytes:
    writer = Writer()
    lattice = message.lattice
    flags = (
        _SPEAKER * (message.speaker is not None)
        | _WHISPER * (message.whisper is not None)
        | _LANGUAGE * (message.language is not None)
        | _LATTICE * (lattice is not None)
    )
    writer.byte(flags << 2 | KINDS.index(message.kind))
    writer.number(message.utterance)
    writer.number(message.revision)
    writer.text(message.reason)
    writer.number(round(message.duration * 1000))
    if message.speaker is not None:
        writer.text(message.speaker)
        writer.signed(round(message.speaker_score * 1000))
    if message.whisper is not None:
        writer.byte(round(message.whisper * 255))
    if message.language is not None:
        writer.text(message.language)
    if lattice is not None:
        per_nat, acoustic, bias = quantise(lattice)
        writer.number(per_nat)
        writer.seconds(lattice.frame_seconds)
        coder = Encoder()
        code_body(coder, to_body(lattice, acoustic, bias))
        writer.data += coder.finish()
    start = Writer()
    start.data += MAGIC + bytes([VERSION])
    start.number(len(writer.data))
    data = bytes(start.data + writer.data)
    return data + zlib.crc32(data).to_bytes(4, "little")


def _read_body(reader: Reader, end: int) -> LatticeMessage:
    flags, kind = divmod(reader.byte("flags"), 4)
    if flags > 15:
        raise DataError(f"the flags {flags} at byte {reader.at - 1} are unknown.")
    fields = {
        "utterance": reader.number("utterance"),
        "revision": reader.number("revision"),
        "kind": KINDS[kind],
        "reason": reader.text("reason"),
        "duration": reader.number("duration") / 1000,
    }
    if flags & _SPEAKER:
        fields["speaker"] = reader.text("speaker")
        fields["speaker_score"] = reader.signed("speaker score") / 1000
    if flags & _WHISPER:
        fields["whisper"] = reader.byte("whisper") / 255
    if flags & _LANGUAGE:
        fields["language"] = reader.text("language")
    lattice = _read_lattice(reader, end) if flags & _LATTICE else None
    if lattice is None and reader.at != end:
        raise DataError(f"{end - reader.at} bytes are left over at byte {reader.at}.")
    return LatticeMessage(lattice=lattice, **fields)


def _read_lattice(reader: Reader, end: int) -> Lattice:
    at = reader.at
    per_nat = reader.number("steps per nat")
    if not 1 <= per_nat <= 1 << 16:
        raise DataError(f"{per_nat} steps per nat at byte {at} are outside of 1..65536.")
    frame_seconds = reader.seconds("frame length")
    decoder = Decoder(reader.data, reader.at, end)
    try:
        body = code_body(decoder)
        decoder.finish()
        return from_body(body, per_nat, frame_seconds)
    except DataError as error:
        raise DataError(
            f"the lattice of the message is wrong before byte {decoder.offset + 1}: {error}"
        ) from error
