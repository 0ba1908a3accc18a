"""Device files: what is written is read, and everything else is refused with offset and reason."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import (
    Pack,
    Piece,
    Vocabulary,
    build_pack,
    describe_pack,
    new_key,
    pack_identity,
    parse_pack,
    read_pack,
    settings,
    sign_pack,
    typed,
    verify_pack,
    write_pack,
)
from solomonic.core import CheckpointError, Config, ConfigError, StorageError

FUZZ = Path(__file__).resolve().parents[2] / "native" / "fuzz"


def packs() -> dict[str, Pack]:
    """The files of the native tests, made anew."""
    spec = importlib.util.spec_from_file_location("make_corpus", FUZZ / "make_corpus.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.packs()


PACKS = packs()


def same(a: np.ndarray | QuantisedMatrix, b: np.ndarray | QuantisedMatrix) -> bool:
    """Equal in every number and in what is known of them."""
    if isinstance(a, QuantisedMatrix) and isinstance(b, QuantisedMatrix):
        books = [m.codebook is None or m.codebook.tolist() for m in (a, b)]
        return (
            np.array_equal(a.levels, b.levels)
            and np.array_equal(a.scales, b.scales)
            and (a.bits, a.pattern) == (b.bits, b.pattern)
            and books[0] == books[1]
        )
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)


@pytest.mark.parametrize("name", PACKS)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    pack = PACKS[name]
    identity = write_pack(tmp_path / "model.solo", pack)
    found = read_pack(tmp_path / "model.solo")
    assert dict(found.config) == dict(pack.config)
    assert list(found.tensors) == list(pack.tensors)
    assert all(same(found.tensors[n], pack.tensors[n]) for n in pack.tensors)
    assert found.vocabulary == pack.vocabulary
    assert found.signature == pack.signature
    assert identity == pack_identity(tmp_path / "model.solo")
    assert build_pack(found) == (tmp_path / "model.solo").read_bytes()


@pytest.mark.parametrize("name", PACKS)
def test_the_native_tests_files_are_those_of_this_program(name: str) -> None:
    stored = (FUZZ / "corpus" / f"{name}.solo").read_bytes()
    assert stored == build_pack(PACKS[name]), "run native/fuzz/make_corpus.py and commit"


@pytest.mark.parametrize("name", ["tiny", "signed", "q8", "v16_4"])
def test_every_cut_is_refused(name: str) -> None:
    data = build_pack(PACKS[name])
    for size in range(len(data)):
        with pytest.raises(CheckpointError, match="it, byte [0-9]+: ..."):
            parse_pack(data[:size], "it")
    with pytest.raises(CheckpointError, match="byte"):
        parse_pack(data + b"x")


@pytest.mark.parametrize("name", ["tiny", "signed"])
def test_every_changed_byte_is_noticed(name: str) -> None:
    data = build_pack(PACKS[name])
    for at in range(len(data)):
        for bit in (0, 3, 7):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            with pytest.raises(CheckpointError):
                parse_pack(bytes(changed))


def test_a_newer_version_is_named() -> None:
    data = bytearray(build_pack(PACKS["tiny"]))
    data[8] = 2
    with pytest.raises(CheckpointError, match="version 2 and this program reads up to 1; update"):
        parse_pack(bytes(data))


def test_what_cannot_be_stored_is_refused() -> None:
    one = np.ones(1, np.float32)
    for contents, why in (
        (({"A": "1"}, {}), "cannot be a key"),
        (({"a": "1\n"}, {}), "control character"),
        (({}, {"a b": one}), "cannot name"),
        (({}, {"a": one.astype(np.float64)}), "float32"),
        (({}, {"a": one * np.nan}), "NaN"),
        (({}, {"a": one[0]}), "float32|dimensions"),
        (({}, {"a": one[:0]}), "dimensions"),
    ):
        with pytest.raises(ConfigError, match=why):
            Pack(*contents)
    with pytest.raises(ConfigError, match="piece 0"):
        Vocabulary("pieces", (Piece(b"a", float("nan")),))
    book = np.arange(32, dtype=np.int8)[::-1].copy()
    levels = np.full((2, 3), 31, np.int8)
    descending = QuantisedMatrix(levels, np.ones(2, np.float32), 5, "dense", book)
    with pytest.raises(ConfigError, match="ascend"):
        Pack({}, {"a": descending})


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="unharmed"):
        write_pack(tmp_path / "file" / "model.solo", PACKS["tiny"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(CheckpointError, match="cannot read"):
        read_pack(tmp_path / "absent.solo")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knobs(Config):
    size: int = 1
    rate: float = 0.5
    name: str = ""
    some: int | None = None
    on: bool = False


def test_settings_keep_their_types() -> None:
    for knobs in (
        Knobs(),
        Knobs(size=-3, rate=float("inf"), name="12", some=4, on=True),
        Knobs(rate=1e-30, name="x=y"),
    ):
        assert typed(Knobs, "k", settings("k", knobs.to_json())) == knobs
    with pytest.raises(ConfigError, match="cannot be stored"):
        settings("k", {"name": "null"})
    stored = settings("k", Knobs().to_json())
    for changed, why in (
        ({**stored, "k.new": "1"}, "k.new"),
        ({k: v for k, v in stored.items() if k != "k.on"}, "k.on"),
        ({**stored, "k.size": "1.5"}, "k.size"),
        ({**stored, "k.on": "1"}, "k.on"),
    ):
        with pytest.raises(ConfigError, match=why):
            typed(Knobs, "k", changed)


def test_settings_that_came_later() -> None:
    """Left out where they say what their absence means, so that old models keep their files."""
    later = {"some": None, "on": False}
    for knobs, kept in ((Knobs(), 3), (Knobs(some=4), 4), (Knobs(some=0, on=True), 5)):
        stored = settings("k", knobs.to_json(), later)
        assert len(stored) == kept
        assert typed(Knobs, "k", stored, later) == knobs
        assert typed(Knobs, "k", settings("k", knobs.to_json()), later) == knobs
    with pytest.raises(ConfigError, match=r"k\.on"):
        typed(Knobs, "k", settings("k", Knobs().to_json(), later))
    with pytest.raises(ConfigError, match=r"k\.size"):
        typed(Knobs, "k", {"k.rate": "0.5", "k.name": ""}, later)


def test_signatures(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    private, public = new_key()
    write_pack(tmp_path / "a.solo", PACKS["tiny"])
    with pytest.raises(CheckpointError, match="not signed"):
        verify_pack(tmp_path / "a.solo", public)
    identity = sign_pack(tmp_path / "a.solo", private)
    assert identity == pack_identity(tmp_path / "a.solo")
    verify_pack(tmp_path / "a.solo", public)
    with pytest.raises(CheckpointError, match="this key"):
        verify_pack(tmp_path / "a.solo", new_key()[1])
    signed = read_pack(tmp_path / "a.solo")
    write_pack(tmp_path / "b.solo", dataclasses.replace(signed, config={"model.type": "other"}))
    with pytest.raises(CheckpointError, match="this key"):
        verify_pack(tmp_path / "b.solo", public)
    with pytest.raises(ConfigError, match="32 bytes"):
        sign_pack(tmp_path / "a.solo", b"short")


def test_description(tmp_path: Path) -> None:
    write_pack(tmp_path / "a.solo", PACKS["all"])
    info = describe_pack(tmp_path / "a.solo")
    found = {tensor.name: tensor for tensor in info.tensors}
    assert info.bytes == (tmp_path / "a.solo").stat().st_size
    assert info.overhead > 0
    assert found["b"].macs == 0
    assert found["q8"].macs == found["q8"].weights == 35
    assert found["s24_4"].macs == 4 * 37 // 2
    levels = PACKS["all"].tensors["v16_4"]
    assert isinstance(levels, QuantisedMatrix)
    kept = sum(
        len(block) * int((block != 0).any(axis=0).sum())
        for block in (levels.values[:16], levels.values[16:32], levels.values[32:])
    )
    assert found["v16_4"].macs == kept
    assert 0.3 < found["v16_4"].zeros < 0.7
    assert found["q4r"].entropy == pytest.approx(np.log2(15), abs=0.1)
    assert found["q8"].format == "q8"
    assert found["q5"].format == "q5"
