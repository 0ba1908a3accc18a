"""Every Triton kernel compiles for an H100 without a GPU, fits its memory, uses its tensor cores.

The interpreter accepts programs that the compiler does not; this is the other half of the check.
"""

import os

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed (Linux only; extra 'gpu')")

from kernels.triton.compiler import SHARED_BYTES, compiling  # noqa: E402
from solomonic.kernels import AttentionSpec, empty_carry  # noqa: E402
from solomonic.kernels import triton as device  # noqa: E402
from solomonic.kernels.attention import triton as attention  # noqa: E402
from solomonic.kernels.ssd import triton as ssd  # noqa: E402

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="a real device is here; the kernels are run on it instead"
)
SPEC = AttentionSpec(window=64, refresh=64, slots=32, fading=1, lag=64)
SMALL = {"BM": 64, "BN": 32, "num_warps": 4, "num_stages": 1}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ.get("TRITON_INTERPRET") != "1"
    monkeypatch.setattr(ssd, "CONFIGS", ssd.CONFIGS[:1])
    monkeypatch.setattr(attention, "CONFIGS", [SMALL])
    torch.use_deterministic_algorithms(False)


def check(found: list, names: set[str], products: set[str]) -> None:
    """`names` were compiled to machine code, within shared memory; `products` of them multiply
    matrices on tensor cores."""
    assert {name for name, _ in found} == names
    for name, kernel in found:
        assert kernel.asm["cubin"], name
        assert kernel.metadata.shared <= SHARED_BYTES, name
        text = kernel.asm["ptx"]
        assert (name not in products) or "wgmma" in text or "mma.sync" in text, name


def test_recurrence() -> None:
    x, b, c = torch.randn(1, 70, 4, 64), torch.randn(1, 70, 64), torch.randn(1, 70, 64)
    parts = [x.bfloat16(), torch.rand(1, 70, 4), -torch.rand(4), b.bfloat16(), c.bfloat16()]
    parts = [part.requires_grad_() for part in [*parts, torch.randn(1, 4, 64, 64)]]
    with compiling() as found:
        y, last = ssd.ssd(*parts)
        torch.autograd.grad([y.sum(), last.sum()], parts)
        x, dt, rate, b, c, h = parts
        with torch.no_grad():
            ssd.ssd(x[:, :1], dt[:, :1], rate, b[:, :1], c[:, :1], h)
    products = {"chunk_states", "outputs", "gradients"}
    check(found, {*products, "pass_states", "step"}, products)


@pytest.mark.parametrize("past", [False, True])
def test_attention(past: bool) -> None:
    """Fresh rows without positions; and a past, RoPE and grouped heads, without fading tokens."""
    spec = SPEC
    if past:
        spec = AttentionSpec(window=64, refresh=32, slots=32, rope_theta=1e4)
    groups, size = (1, 32) if past else (2, 64)
    q, kv = torch.randn(1, 96, 2, size).bfloat16(), torch.randn(1, 96, 2, groups, size).bfloat16()
    faded, eps = None if past else torch.randn_like(kv), torch.rand(1, 96)
    carry = empty_carry(spec, 1, groups, size, kv)
    leaves = [part.requires_grad_() for part in (q, kv, faded) if part is not None]
    with compiling() as found:
        out = attention.attention(q, kv, faded, eps, carry, spec, None, not past).out
        torch.autograd.grad(out.sum(), leaves)
    products = {"forward", "queries", "tokens", "slots"}
    check(found, {*products, "best_of_block", "merge"}, products)


@pytest.mark.parametrize("donated", [False, True])
def test_one_token(donated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "donated", lambda: donated)
    q, kv = torch.randn(2, 1, 4, 64).bfloat16(), torch.randn(2, 1, 2, 2, 64).bfloat16()
    carry = empty_carry(SPEC, 2, 2, 64, kv)
    with compiling() as found, torch.no_grad():
        attention.attention(q, kv, torch.randn_like(kv), torch.rand(2, 1), carry, SPEC)
    check(found, {"step", "best_of_block", "commit", *(["move"] if donated else [])}, {"step"})
