"""Archives: what goes in comes out, and whatever is cut, damaged or foreign is refused."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from needs import needs_core
from solomonic.core import CheckpointError, DataError, SolomonicError
from solomonic.induction import ByteTree, Frequencies, Mixer, coding
from solomonic.induction.archive import ArchiveReader, ByteCodec, compress


def codec(name: str = "mix") -> ByteCodec:
    made = Mixer(10) if name == "mix" else ByteTree(3, 12)
    return ByteCodec(name, made, made.identity())


def packed(data: bytes, name: str = "mix", block: int = 1000) -> bytes:
    archive = io.BytesIO()
    assert compress(codec(name), io.BytesIO(data), archive, block) == len(archive.getvalue())
    return archive.getvalue()


def unpacked(archive: bytes, name: str = "mix") -> bytes:
    return b"".join(ArchiveReader(io.BytesIO(archive)).text(codec(name)))


def some_bytes(chance: np.random.Generator) -> bytes:
    """Random in length, in how many byte values there are and in how they repeat."""
    size = int(chance.integers(0, 80))
    values = chance.integers(0, 256, int(chance.integers(1, 257)))
    data = chance.choice(values, size).astype(np.uint8).tobytes()
    return data * int(chance.integers(1, 4))


@needs_core
@pytest.mark.parametrize("name", ["mix", "ctw"])
def test_five_hundred_random_files(name: str) -> None:
    chance = np.random.default_rng(len(name))
    for _ in range(500):
        data = some_bytes(chance)
        assert unpacked(packed(data, name, int(chance.integers(1, 100))), name) == data


@needs_core
def test_thirty_real_files() -> None:
    files = sorted(Path(__file__).parents[1].rglob("*.py"))[:30]
    for file in files:
        data = file.read_bytes()[:1500]
        assert unpacked(packed(data)) == data


@needs_core
def test_every_prefix_is_refused() -> None:
    archive = packed(b"to be, or not to be: that is the question " * 5, block=100)
    for size in range(len(archive)):
        with pytest.raises(DataError, match="cut short|does not begin"):
            unpacked(archive[:size])
    with pytest.raises(DataError, match="more behind"):
        unpacked(archive + b"x")


@needs_core
def test_every_flipped_byte_is_refused_or_harmless() -> None:
    data = b"whether 'tis nobler in the mind to suffer " * 3
    archive = packed(data, block=50)
    for at in range(len(archive)):
        damaged = bytearray(archive)
        damaged[at] ^= 0x55
        try:
            assert unpacked(bytes(damaged)) == data  # only the name and coder's padding may differ
        except SolomonicError:
            continue
        assert 10 <= at < 13 or at >= 13


@needs_core
def test_another_predictor_is_refused() -> None:
    archive = packed(b"abc")
    with pytest.raises(CheckpointError, match=r"another predictor.*'ctw'.*'mix'"):
        unpacked(archive, "ctw")
    other = Mixer(11)
    with pytest.raises(CheckpointError, match="another predictor"):
        ArchiveReader(io.BytesIO(archive)).check(ByteCodec("mix", other, other.identity()))
    newer = archive[:4] + b"\2" + archive[5:]
    with pytest.raises(DataError, match="version 2"):
        unpacked(newer)


@needs_core
def test_the_slow_definition_reads_what_the_native_one_wrote() -> None:
    data = b"equal to the last bit"
    made = Mixer(10, native=False)
    archive = packed(data)
    assert (
        b"".join(ArchiveReader(io.BytesIO(archive)).text(ByteCodec("mix", made, made.identity())))
        == data
    )


def test_the_layout_is_as_documented() -> None:
    archive = io.BytesIO()
    compress(ByteCodec("f", Frequencies(256), "who"), io.BytesIO(b"aa"), archive)
    coded = coding.encode(Frequencies(256), b"aa")
    crc = zlib.crc32(b"aa").to_bytes(4, "little")
    head = b"SLMZ\1" + zlib.crc32(b"who").to_bytes(4, "little") + b"\1f"
    block = bytes([2, 2, len(coded)]) + crc + coded
    assert archive.getvalue() == head + block + b"\0\1" + crc


def test_codes_of_any_alphabet() -> None:
    chance = np.random.default_rng(0)
    for alphabet in (1, 2, 3, 5, 257):
        way = chance.integers(0, alphabet, 50).tolist()
        coded = coding.encode(Frequencies(alphabet), way)
        assert coding.decode(Frequencies(alphabet), coded, 50) == way


def test_certain_symbols_cost_next_to_nothing() -> None:
    coded = coding.encode(Frequencies(2, 1e-6), [0] * 5000)
    assert len(coded) <= 2


@needs_core
def test_the_coder_in_python_and_the_native_one_agree() -> None:
    text = b"one coder, two languages"
    slow = coding.Encoder()
    mixer = Mixer(10)
    for byte in text:
        for k in range(7, -1, -1):
            slow.encode(byte >> k & 1, round(mixer.bit() * 65536))
            mixer.learn(byte >> k & 1)
    coded = slow.finish()
    assert coded == coding.encode(Mixer(10), text)
    assert bytes(coding.decode_each(Mixer(10), coded, len(text))) == text
