"""Files in which every bit is vouched for: whatever happens to one, it is refused, with a place."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from solomonic.core import CheckpointError, StorageError
from solomonic.state import checked

KIND = checked.Kind(format="test", version=2, title="test file")
TENSORS = {
    "a": torch.arange(6.0).view(2, 3),
    "time": torch.tensor([3, -1]),
    "empty": torch.zeros(0, 4),
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
}
HEADER = {"notes": 'Größe "digest":"0" \n'}


def data() -> bytes:
    return checked.pack(TENSORS, HEADER, KIND)


def test_what_is_written_is_read() -> None:
    tensors, header = checked.unpack(data(), "it", KIND)
    assert header["notes"] == HEADER["notes"]
    assert set(tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_it_is_plain_safetensors_to_others() -> None:
    assert torch.equal(load_safetensors(data())["a"], TENSORS["a"])


def test_every_cut_is_seen_and_its_byte_named() -> None:
    whole = data()
    for length in range(len(whole)):
        with pytest.raises(CheckpointError, match="cut short") as found:
            checked.unpack(whole[:length], "it", KIND)
        assert f"byte {length}" in str(found.value)


def test_every_changed_byte_is_seen() -> None:
    whole = data()
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << (place % 8)
        with pytest.raises(CheckpointError):
            checked.unpack(bytes(broken), "it", KIND)


def test_a_damaged_tensor_is_named_with_its_bytes() -> None:
    whole = bytearray(data())
    whole[-1] ^= 1
    with pytest.raises(CheckpointError, match="damaged") as found:
        checked.unpack(bytes(whole), "it", KIND)
    first, last = map(int, re.findall(r"bytes (\d+) to (\d+)", str(found.value))[0])
    assert first <= len(whole) - 1 < last


def test_more_than_there_should_be_is_seen() -> None:
    with pytest.raises(CheckpointError, match="should end"):
        checked.unpack(data() + b"x", "it", KIND)


def test_another_kind_of_file_is_called_so(tmp_path: Path) -> None:
    others = [
        b"PK\x03\x04 a zip archive, for instance",
        save_safetensors({"a": torch.zeros(1)}),
        save_safetensors({"a": torch.zeros(1)}, metadata={"format": "pt"}),
        checked.pack(TENSORS, {}, checked.Kind(format="other", version=1, title="other")),
    ]
    for other in others:
        (tmp_path / "f").write_bytes(other)
        with pytest.raises(CheckpointError, match="no test file"):
            checked.read(tmp_path / "f", KIND)


def test_a_newer_version_is_called_so() -> None:
    newer = checked.pack(TENSORS, {}, checked.Kind(format="test", version=3, title=""))
    with pytest.raises(CheckpointError, match="version 3.* up to 2; update"):
        checked.unpack(newer, "it", KIND)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        checked.read(tmp_path / "none", KIND)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checked.read(tmp_path, KIND)
    with pytest.raises(StorageError, match="cannot write"):
        checked.write(Path("/proc/none/x"), TENSORS, {}, KIND)
