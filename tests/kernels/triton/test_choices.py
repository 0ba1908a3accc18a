"""Availability, and the tile sizes: measured once, kept on disk, shown.

Needs neither Triton nor a GPU: what would be measured is replaced.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from solomonic import kernels
from solomonic.kernels import triton as device

CONFIGS = [{"BM": 64, "num_warps": 4}, {"BM": 128, "num_warps": 8}]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list:
    """A machine with a device, whose second configuration is the fastest; collects measurements."""
    seen: list = []

    def fastest(configs: Sequence[device.Config], launch: object) -> device.Config:
        seen.append(launch)
        return configs[1]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(device, "_chosen", {})
    monkeypatch.setattr(device, "_fastest", fastest)
    monkeypatch.setattr(device, "interpreted", lambda: False)
    monkeypatch.setattr(device, "installed", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return seen


def nothing(_config: device.Config) -> None:
    raise AssertionError("nothing is launched here")


def test_measured_once_then_read_from_disk(measured: list, monkeypatch) -> None:
    key = (torch.bfloat16, 64)
    assert device.tune("ssd.forward", key, CONFIGS, nothing) == CONFIGS[1]
    assert device.tune("ssd.forward", key, CONFIGS, nothing) == CONFIGS[1]
    assert len(measured) == 1
    assert device.choices() == {"ssd.forward bfloat16 64": CONFIGS[1]}
    assert json.loads(device.cache_file().read_text()) == device.choices()
    assert "nvidia-h100-80gb" in device.cache_file().name
    monkeypatch.setattr(device, "_chosen", {})  # another process
    assert device.tune("ssd.forward", key, CONFIGS, nothing) == CONFIGS[1]
    assert len(measured) == 1
    assert device.tune("ssd.forward", (torch.float16, 64), CONFIGS, nothing) == CONFIGS[1]
    assert len(measured) == 2
    assert len(device.choices()) == 2


def test_a_damaged_file_is_said_and_measured_anew(measured: list) -> None:
    device.cache_file().parent.mkdir(parents=True)
    device.cache_file().write_text("{")
    with pytest.warns(UserWarning, match="cannot be read"):
        assert device.tune("a", (1,), CONFIGS, nothing) == CONFIGS[1]
    assert device.choices() == {"a 1": CONFIGS[1]}


def test_nothing_is_measured_while_a_graph_is_recorded(measured: list, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert device.tune("a", (1,), CONFIGS, nothing) == CONFIGS[0]
    assert not measured
    assert device.choices() == {}


def test_fixed_without_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.tune("a", (1,), CONFIGS, nothing) == CONFIGS[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a device is here")
def test_tensors_on_the_cpu_are_refused_with_the_reason() -> None:
    x = torch.zeros(1, 3, 2, 4)
    given = (x, x[..., 0], x[0, 0, :, 0], x[:, :, 0], x[:, :, 0], torch.zeros(1, 2, 4, 4))
    assert device.why_not(x) == device.NO_DEVICE
    assert f"not triton: {device.NO_DEVICE.removesuffix(chr(46))}" in kernels.explain("ssd", *given)


def test_a_missing_triton_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "installed", lambda: False)
    monkeypatch.setattr(device, "interpreted", lambda: True)
    assert device.why_not(torch.zeros(1)) == device.NO_TRITON
