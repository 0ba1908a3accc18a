"""The download form gives the device file back bit for bit, at nearly the entropy of its levels."""

from pathlib import Path

import numpy as np
import pytest

from solomonic.compress.matrix import QuantisedMatrix
from solomonic.compress.pack import (
    Pack,
    build_pack,
    describe_pack,
    download,
    expand,
    squeeze,
    write_pack,
)
from solomonic.compress.pack.download import expand_bytes, squeeze_bytes
from solomonic.core import CheckpointError

pytest.importorskip("zstandard")
CORPUS = Path(__file__).resolve().parents[2] / "native" / "fuzz" / "corpus"
NAMES = sorted(path.stem for path in CORPUS.glob("*.solo"))


@pytest.mark.parametrize("name", NAMES)
def test_bit_for_bit(name: str, tmp_path: Path) -> None:
    report = squeeze(CORPUS / f"{name}.solo", tmp_path / "sent")
    expand(tmp_path / "sent", tmp_path / "model.solo")
    assert (tmp_path / "model.solo").read_bytes() == (CORPUS / f"{name}.solo").read_bytes()
    assert report.download == (tmp_path / "sent").stat().st_size


@pytest.mark.parametrize("name", ["tiny", "signed", "v16_4", "q5"])
def test_every_cut_and_every_changed_byte_is_refused(name: str) -> None:
    data, _ = squeeze_bytes((CORPUS / f"{name}.solo").read_bytes())
    for size in range(len(data)):
        with pytest.raises(CheckpointError, match="it, byte [0-9]+: ..."):
            expand_bytes(data[:size], "it")
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        with pytest.raises(CheckpointError):
            expand_bytes(bytes(changed))
    with pytest.raises(CheckpointError, match="belong to nothing"):
        expand_bytes(data + b"x")


def test_near_the_entropy_of_the_levels(tmp_path: Path) -> None:
    """Gaussian weights, half of them zero, 4 bits: kernels.md measured 2.61 bits against 2.57."""
    random = np.random.default_rng(5)
    weights = random.standard_normal((1024, 1024))
    weights[np.abs(weights) < np.median(np.abs(weights))] = 0
    levels = np.clip(np.rint(weights / 0.45), -7, 7).astype(np.int8)
    matrix = QuantisedMatrix(levels, np.full(1024, 0.45, np.float32), 4, "unstructured")
    write_pack(tmp_path / "model.solo", Pack({}, {"w": matrix}))
    report = squeeze(tmp_path / "model.solo", tmp_path / "sent")
    entropy = describe_pack(tmp_path / "model.solo").tensors[0].entropy
    assert report.weights == levels.size
    assert entropy < report.bits_per_weight < 1.03 * entropy
    assert expand_bytes((tmp_path / "sent").read_bytes()) == build_pack(Pack({}, {"w": matrix}))


def test_vectors_of_zeros_take_a_bit_each() -> None:
    """Half of the vectors of 16 zero, the other levels likely alike: less than the file itself."""
    random = np.random.default_rng(6)
    alive = np.repeat(random.random((16, 250)) < 0.5, 16, axis=0)[:250]
    levels = np.where(alive, random.integers(-7, 8, (250, 250)), 0).astype(np.int8)
    matrix = QuantisedMatrix(levels, np.full(250, 0.1, np.float32), 4, "vec16")
    data = build_pack(Pack({}, {"w": matrix}))
    found, report = squeeze_bytes(data)
    assert expand_bytes(found) == data
    assert report.weights == levels.size and len(found) < len(data)
    wanted = 1 / 16 + alive.mean() * np.log2(15)  # bits a weight: the map, and 15 levels alike
    assert wanted < report.bits_per_weight < 1.06 * wanted


@pytest.mark.parametrize("name", ["v16_4", "v16_8", "tiny"])
def test_the_first_version_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It had the levels of vectors with their zeros."""
    data = (CORPUS / f"{name}.solo").read_bytes()
    with monkeypatch.context() as before:
        before.setattr(download, "VERSION", 1)
        before.setattr(download, "_BY_VECTORS", ())
        old, _ = squeeze_bytes(data)
    assert old[8] == 1 and expand_bytes(old) == data
    assert squeeze_bytes(data)[0][8] == 2
