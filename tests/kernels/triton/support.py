"""What the Triton tests share: hostile inputs, and the tolerance every backend is held to."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

APART = {"test_interpreter.py", "test_compiled.py", "test_choices.py", "test_gpu.py"} | {
    "test_benchmark.py"
}
"""Files that are not run under the interpreter."""

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
NARROW = {torch.float32: 1e-6, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def worst(got: Tensor, exact: Tensor) -> float:
    """Largest difference relative to the largest entry."""
    assert got.shape == exact.shape, f"{tuple(got.shape)} is not {tuple(exact.shape)}"
    if got.numel() == 0:
        return 0.0
    assert bool(torch.isfinite(got).all())
    return ((got.double() - exact.double()).abs().max() / exact.abs().max().clamp(min=1e-3)).item()


def close(got: Sequence[Tensor], plain: Sequence[Tensor], exact: Sequence[Tensor]) -> None:
    """Each of `got` may be off by twice what plain PyTorch in that type loses, or by its last bit.

    Args:
        plain: what PyTorch computes with everything in the type of `got`.
        exact: the same in float64.
    """
    for place, (ours, theirs, truth) in enumerate(zip(got, plain, exact, strict=True)):
        floor = NARROW[ours.dtype]
        error, allowed = worst(ours, truth), 2 * worst(theirs, truth) + floor
        assert error <= allowed, f"entry {place} is off by {error:.2e}, allowed {allowed:.2e}"


def scattered(x: Tensor, poison: float = float("nan")) -> Tensor:
    """The values of x in a view that is contiguous nowhere but in its last dimension, between
    entries that would spoil any result they entered."""
    wide = x.new_full((*x.shape[:-2], 2 * x.shape[-2], x.shape[-1] + 3), poison)
    view = wide[..., ::2, 1 : 1 + x.shape[-1]]
    view.copy_(x)
    return view


def slopes(outputs: Sequence[Tensor], inputs: Sequence[Tensor], seed: int = 5) -> list[Tensor]:
    """Gradients of the inputs under fixed random gradients of the outputs."""
    generator = torch.Generator().manual_seed(seed)
    chosen, weights = [], []
    for output in outputs:
        weight = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        if output.requires_grad:
            chosen.append(output)
            weights.append(weight.to(output))
    found = torch.autograd.grad(chosen, inputs, weights, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]


@contextmanager
def everything_in_its_type(*modules: object) -> Iterator[None]:
    """Let the torch forms of these modules accumulate in the type of their inputs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "compute_dtype", lambda x: x.dtype)
        yield


WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")


class NoWaiting(TorchDispatchMode):
    """Refuses what would make a GPU wait: values read by the host, or shapes that depend on them.

    This is how a path without host synchronisation is checked where there is no GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[override]
        name = func.overloadpacket.__name__
        assert name not in WAITS, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))
