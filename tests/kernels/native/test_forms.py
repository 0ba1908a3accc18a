"""Native forms: outputs, gradients and states are those of the definition, on every machine."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kernels.native.cases import CASES, EXACT, Case, inputs, outputs
from kernels.triton.support import close, slopes
from solomonic import kernels

# Places of the arguments that have a time.
TIMED = {"ssd": (0, 1, 3, 4), "delta": (0, 1, 2, 3, 4), "conv": (0,), "attention": (0, 1, 2, 3)}

names = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def computed(case: Case, backend: str, dtype: torch.dtype, twist=None) -> list[Tensor]:
    """Outputs, then gradients, all detached."""
    arguments = case.arguments(dtype)
    given = [twist(x) if twist else x for x in arguments]
    result = kernels.TABLE[case.op][backend].function(*given)
    outs = outputs(result, arguments)
    return [x.detach() for x in (*outs, *slopes(outs, inputs(arguments)))]


@names
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_outputs_and_gradients_are_those_of_the_definition(
    case: Case, dtype: torch.dtype, isa: str
) -> None:
    """Buffers come filled with NaN (tests/conftest.py), so an entry not written would show."""
    if dtype == torch.bfloat16 and case.op == "linear":
        pytest.skip("the form refuses bfloat16")
    close(computed(case, "native", dtype), *expected(case, dtype))


@cache
def expected(case: Case, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """What plain PyTorch finds in that type, and the definition in float64 for the same inputs."""
    rounded = Case(case.op, lambda: [_double(x) for x in case.arguments(dtype)], case.name)
    return computed(case, "torch", dtype), computed(rounded, EXACT[case.op], torch.float64)


def _double(x):
    if isinstance(x, kernels.Carry):
        return kernels.Carry(*(_double(part) for part in x))
    return x.detach().double() if isinstance(x, Tensor) and x.is_floating_point() else x


@names
def test_the_number_of_threads_changes_no_bit(case: Case) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = computed(case, "native", torch.float32)
    finally:
        torch.set_num_threads(before)
    one = computed(case, "native", torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(two, one, strict=True))


@names
def test_tensors_may_lie_anywhere(case: Case) -> None:
    """Slices of wider tensors whose other entries would spoil every sum."""

    def slices(x):
        if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1:
            wide = torch.cat((x, torch.full_like(x, torch.nan)), dim=1)
            return wide[:, : x.shape[1]]
        return x

    def columns(x):
        if isinstance(x, Tensor) and x.is_floating_point() and x.dim() > 1:
            return torch.stack((x, torch.full_like(x, torch.nan)), dim=-1)[..., 0]
        return x

    plain = computed(case, "native", torch.float32)
    for twist in (slices, columns):
        moved = computed(case, "native", torch.float32, twist)
        assert all(torch.equal(a, b) for a, b in zip(moved, plain, strict=True))


@pytest.mark.parametrize("op", ["ssd", "delta", "conv", "attention"])
@pytest.mark.parametrize("marks", [[0, 1, 2], [5, 5, 36], [16, 17, 30]], ids=str)
def test_any_cut_is_the_whole(op: str, marks: list[int]) -> None:
    name, state_at = {
        "ssd": ("ssd-2x37x3", 5),
        "delta": ("delta-2x37x3", 5),
        "conv": ("conv-37x20x4", 3),
        "attention": ("attention-1-fresh", 4),
    }[op]
    case = next(case for case in CASES if case.name == name)
    form = kernels.TABLE[op]["native"].function
    given = case.arguments(torch.float32)
    whole = outputs(form(*given), given)
    parts, edges = [], [0, *marks, 37]
    for first, last in pairwise(edges):
        for place in TIMED[op]:
            full = case.arguments(torch.float32)[place]
            given[place] = None if full is None else full[:, first:last]
        if op == "attention":
            given[7] = False
        result = form(*given)
        given[state_at] = result.carry if op == "attention" else result[1]
        parts.append(result[0])
    joined = [torch.cat(parts, dim=1), *outputs(result, given)[1:]]
    for a, b in zip(joined, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_nothing_read_changes_nothing() -> None:
    for case in CASES:
        if case.op == "linear" or "37" not in case.name:
            continue
        given = case.arguments(torch.float32)
        for place in TIMED[case.op]:
            given[place] = None if given[place] is None else given[place][:, :0]
        result = kernels.TABLE[case.op]["native"].function(*given)
        assert result[0].shape[1] == 0
        after = result.carry.slots if case.op == "attention" else result[1]
        before = given[{"ssd": 5, "delta": 5, "conv": 3, "attention": 4}[case.op]]
        assert torch.equal(after, before.slots if case.op == "attention" else before)
