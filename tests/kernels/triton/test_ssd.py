"""Triton's state-space recurrence against its definition: outputs, last state, every gradient."""

import importlib

import pytest
import torch
from torch import Tensor

from kernels.triton.support import DTYPES, close, everything_in_its_type, scattered, slopes
from solomonic import kernels
from solomonic.core import ConfigError
from solomonic.kernels import ssd
from solomonic.kernels.ssd import triton

CHUNKED = importlib.import_module("solomonic.kernels.ssd.chunked")


def inputs(steps: int, dtype: torch.dtype, device: torch.device, rows: int = 2) -> list[Tensor]:
    """x, dt, rate, b, c, h: 4 heads of 8, a state of 5."""
    x, b = torch.randn(rows, steps, 4, 8), torch.randn(rows, steps, 5)
    dt, rate = torch.rand(rows, steps, 4) / 2, -2 * torch.rand(4)
    c, h = torch.randn(rows, steps, 5), torch.randn(rows, 4, 8, 5)
    parts = (x.to(dtype), dt, rate, b.to(dtype), c.to(dtype), h)
    return [part.to(device).requires_grad_() for part in parts]


def double(parts: list[Tensor]) -> list[Tensor]:
    return [part.detach().double().requires_grad_() for part in parts]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("steps", [1, 16, 37])
def test_outputs_state_and_gradients(steps: int, dtype: torch.dtype, device) -> None:
    parts = inputs(steps, dtype, device)
    results = []
    for form, given in ((triton.ssd, parts), (ssd.chunked, parts), (ssd.chunked, double(parts))):
        same = [part.detach().clone().requires_grad_() for part in given]
        if form is ssd.chunked and same[0].dtype != torch.float64:
            with everything_in_its_type(CHUNKED):
                found = form(*[part.to(dtype) for part in same])
        else:
            found = form(*same)
        results.append([*found, *slopes(found, same)])
    close(*results)


@pytest.mark.parametrize("steps", [1, 5])
def test_the_definition_itself(steps: int, device) -> None:
    parts = inputs(steps, torch.float32, device)
    ours, law = triton.ssd(*parts), ssd.reference(*double(parts))
    close(ours, ours, law)
    with torch.no_grad():  # one token has a kernel of its own
        close(triton.ssd(*parts), ours, law)


def test_no_token_leaves_the_state(device) -> None:
    parts = inputs(0, torch.float32, device)
    y, h = triton.ssd(*parts)
    assert y.shape == (2, 0, 4, 8)
    assert torch.equal(h, parts[5])


@pytest.mark.parametrize("cuts", [[20, 17], [1, 35, 1]])
def test_a_cut_stream_has_the_values_and_gradients_of_the_whole(cuts: list[int], device) -> None:
    parts = inputs(37, torch.float32, device)
    whole = triton.ssd(*parts)
    x, dt, rate, b, c, h = parts
    outs, pieces = [], zip(*(part.split(cuts, 1) for part in (x, dt, b, c)), strict=True)
    for px, pdt, pb, pc in pieces:
        y, h = triton.ssd(px, pdt, rate, pb, pc, h)
        outs.append(y)
    cut = (torch.cat(outs, 1), h)
    law = [*ssd.chunked(*double(parts)), *_law_slopes(parts)]
    close([*cut, *slopes(cut, parts)], [*whole, *slopes(whole, parts)], law)


def _law_slopes(parts: list[Tensor]) -> list[Tensor]:
    twin = double(parts)
    return slopes(ssd.chunked(*twin), twin)


def test_views_between_poisoned_entries(device) -> None:
    """x, b and c as slices of a wider projection, dt and b transposed: strides are honoured."""
    parts = [part.detach() for part in inputs(19, torch.float32, device)]
    x, dt, rate, b, c, h = parts
    views = (
        scattered(x), dt.transpose(0, 1).contiguous().transpose(0, 1), rate, scattered(b),
        c.transpose(1, 2).contiguous().transpose(1, 2), h.transpose(2, 3).contiguous().mT,
    )  # fmt: skip
    twins = [view.requires_grad_() for view in views]
    found = triton.ssd(*twins)
    law = [*ssd.chunked(*double(parts)), *_law_slopes(parts)]
    close([*found, *slopes(found, twins)], law, law)


def test_steps_of_size_zero_are_the_identity(device) -> None:
    parts = [part.detach() for part in inputs(21, torch.float32, device)]
    parts[1][1, 13:] = 0
    _, h = triton.ssd(*parts)
    short = [part[1:, :13] if i in (0, 1, 3, 4) else part for i, part in enumerate(parts)]
    short[5] = parts[5][1:]
    assert torch.allclose(triton.ssd(*short)[1], h[1:], atol=1e-6)


def test_the_state_given_is_overwritten_only_when_donated(device) -> None:
    from solomonic.kernels.triton import donate

    parts = [part.detach() for part in inputs(1, torch.float32, device)]
    before = parts[5].clone()
    y, h = triton.ssd(*parts)
    assert torch.equal(parts[5], before)
    with donate():
        again, same = triton.ssd(*parts)
    assert torch.equal(again, y)
    assert same.data_ptr() == parts[5].data_ptr()
    assert torch.equal(same, h)


def test_composes_with_torch_compile(device) -> None:
    parts = inputs(9, torch.float32, device)

    def double_step(*given: Tensor) -> Tensor:
        return triton.ssd(*given)[0].sin()

    compiled = torch.compile(double_step, backend="aot_eager", fullgraph=True)
    ours, plain = compiled(*parts), double_step(*parts)
    assert torch.equal(ours, plain)
    for a, b in zip(slopes([ours], parts), slopes([plain], parts), strict=True):
        assert torch.equal(a, b)


def test_the_registry_takes_it_and_says_what_it_refuses(device) -> None:
    parts = inputs(3, torch.float32, device)
    assert kernels.resolve("ssd", *parts) is triton.ssd
    wide = double(parts)
    assert "float64" in kernels.explain("ssd", *wide)
    with kernels.use("triton"), pytest.raises(ConfigError, match=r"ssd.*triton.*float64"):
        kernels.resolve("ssd", *wide)
    x, dt, rate, *_, h = parts
    long = torch.zeros(2, 3, 300, device=device)
    reason = triton.refuses(x, dt, rate, long, long, h)
    assert reason is not None and "300" in reason
