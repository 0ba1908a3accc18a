"""Triton's B'MOJO attention against the torch form: outputs, carry, kept slots, every gradient."""

import pytest
import torch
from torch import Tensor

from kernels.triton.cases import CASES, SINGLE, Call, Case, draw, spec
from kernels.triton.support import close, scattered, slopes, worst
from solomonic import kernels
from solomonic.core import ConfigError
from solomonic.kernels.attention import AttentionOutput, blocks, reference, triton
from solomonic.kernels.triton import donate


def results(call: Call, output: AttentionOutput, gradients: bool = True) -> list[Tensor]:
    """Outputs, the floating parts of the carry, then the gradients of everything."""
    carry = output.carry
    found = [call.real(output.out), carry.raw, carry.faded, carry.slots]
    if gradients:
        found += slopes(found, call.leaves)
    return [part.detach() for part in found]


def same_choices(ours: AttentionOutput, law: AttentionOutput) -> None:
    """Times, slots and their history agree exactly; ours may repeat the last entry."""
    for name in ("time", "raw_eps", "slot_eps", "slot_time"):
        assert torch.equal(getattr(ours.carry, name), getattr(law.carry, name).to(ours.out.device))
    assert (ours.kept is None) == (law.kept is None)
    if ours.kept is not None and law.kept is not None:
        count = law.kept.shape[1]
        assert torch.equal(ours.kept[:, :count], law.kept)
        assert bool((ours.kept[:, count:] == law.kept[:, -1:]).all())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outputs_carry_and_gradients(case: Case, device) -> None:
    exact = draw(case).to(torch.float64, device)
    call, plain = exact.to(torch.float32), exact.to(torch.float32)
    ours, law = call.run(triton.attention), exact.run(blocks)
    same_choices(ours, plain.run(blocks))
    theirs = results(plain, plain.run(blocks))
    close(results(call, ours), theirs, results(exact, law))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", [CASES[1], CASES[6]], ids=lambda case: case.name)
def test_narrow_types(case: Case, dtype: torch.dtype, device) -> None:
    call = draw(case).to(dtype, device)
    exact, plain = call.to(torch.float64), call.to(dtype)
    ours, law = results(call, call.run(triton.attention)), results(exact, exact.run(blocks))
    close(ours, results(plain, plain.run(blocks)), law)


@pytest.mark.parametrize("case", SINGLE, ids=lambda case: case.name)
def test_one_token_without_gradient(case: Case, device) -> None:
    """Decoding has kernels of its own, out of place and in place."""
    exact = draw(case).to(torch.float64, device)
    call = exact.to(torch.float32)
    with torch.no_grad():
        law = exact.run(blocks)
        ours = call.run(triton.attention)
        same_choices(ours, law)
        found, theirs = results(call, ours, False), results(exact, law, False)
        close(found, found, theirs)
        before = [part.clone() for part in call.carry]
        with donate():
            again = call.run(triton.attention)
        same_choices(again, law)
        for part, once in zip(results(call, again, False), found, strict=True):
            assert torch.equal(part, once)
        assert again.carry.raw.data_ptr() == call.carry.raw.data_ptr()
        call.carry = type(call.carry)(*before)
        same_choices(call.run(triton.attention), law)


def test_the_definition_itself(device) -> None:
    exact = draw(CASES[1]).to(torch.float64, device)
    call = exact.to(torch.float32)
    ours, law = call.run(triton.attention), exact.run(reference)
    same_choices(ours._replace(kept=None), law)
    found = results(call, ours, False)
    close(found, found, results(exact, law, False))


def test_no_token_leaves_the_carry(device) -> None:
    call = draw(Case(spec(), steps=0, before=(3, 9))).to(torch.float32, device)
    out, carry, kept = call.run(triton.attention)
    assert out.shape == (2, 0, 2, 16)
    assert all(torch.equal(a, b) for a, b in zip(carry, call.carry, strict=True))
    assert kept is not None and torch.equal(kept[:, 0], call.carry.slot_time)


def test_a_cut_stream_is_the_whole(device) -> None:
    """Segments of many lengths, each row at a phase of its own, end where one call ends."""
    whole = draw(Case(spec(rope_theta=50.0), steps=19, before=(2, 9))).to(torch.float32, device)
    carry, outs = whole.carry, []
    for part in ((0, 7), (7, 8), (8, 18), (18, 19)):
        cut = slice(*part)
        assert whole.faded is not None and whole.eps is not None
        out, carry, _ = triton.attention(
            whole.q[:, cut], whole.kv[:, cut], whole.faded[:, cut], whole.eps[:, cut], carry,
            whole.case.spec,
        )  # fmt: skip
        outs.append(out)
    law = whole.run(triton.attention)
    assert worst(torch.cat(outs, 1), law.out.detach()) < 1e-6
    for name, part in law.carry._asdict().items():
        mine = getattr(carry, name)
        exact = part.isfinite() if part.is_floating_point() else part > -1
        assert torch.equal(mine[~exact], part[~exact]), name
        assert worst(mine[exact], part[exact]) < 1e-6, name
    cut_slopes = slopes([torch.cat(outs, 1)], whole.leaves)
    for mine, other in zip(cut_slopes, slopes([law.out], whole.leaves), strict=True):
        assert worst(mine, other) < 1e-5


def test_views_and_poisoned_padding(device) -> None:
    """Inputs that are contiguous nowhere, between NaNs, with NaN behind each row's end."""
    clean = draw(CASES[1]).to(torch.float32, device)
    dirty = clean.to(torch.float32)
    assert dirty.lengths is not None and dirty.faded is not None and dirty.eps is not None
    behind = torch.arange(13, device=device) >= dirty.lengths[:, None]
    with torch.no_grad():
        for part in (dirty.q, dirty.kv, dirty.faded, dirty.eps):
            part[behind] = torch.nan
    dirty.q, dirty.kv, dirty.faded = (
        scattered(x.detach()).requires_grad_() for x in (dirty.q, dirty.kv, dirty.faded)
    )
    ours, law = dirty.run(triton.attention), clean.run(triton.attention)
    same_choices(ours, law)
    for mine, other in zip(results(dirty, ours), results(clean, law), strict=True):
        assert torch.equal(mine, other)


def test_atomic_and_ordered_sums_agree(device) -> None:
    found = []
    for ordered in (True, False):
        torch.use_deterministic_algorithms(ordered)
        call = draw_seeded(CASES[1]).to(torch.float32, device)
        found.append(results(call, call.run(triton.attention)))
    for once, again in zip(*found, strict=True):
        assert worst(once, again) < 1e-6


def draw_seeded(case: Case) -> Call:
    torch.manual_seed(3)
    return draw(case)


def test_composes_with_torch_compile(device) -> None:
    call = draw(Case(spec(), steps=9)).to(torch.float32, device)

    def outputs(q: Tensor, kv: Tensor) -> Tensor:
        found = triton.attention(
            q, kv, call.faded, call.eps, call.carry, call.case.spec, None, True
        )
        return found.out.sin()

    compiled = torch.compile(outputs, backend="aot_eager", fullgraph=True)
    ours, plain = compiled(call.q, call.kv), outputs(call.q, call.kv)
    assert torch.equal(ours, plain)
    pair = [call.q, call.kv]
    for a, b in zip(slopes([ours], pair), slopes([plain], pair), strict=True):
        assert worst(a, b) < 1e-6


def test_the_registry_takes_it_and_says_what_it_refuses(device) -> None:
    call = draw(CASES[0]).to(torch.float32, device)
    given = (call.q, call.kv, call.faded, call.eps, call.carry, call.case.spec, None, True)
    assert kernels.resolve("attention", *given) is triton.attention
    wide = call.to(torch.float64)
    bad = (wide.q, wide.kv, wide.faded, wide.eps, wide.carry, wide.case.spec)
    assert "float64" in kernels.explain("attention", *bad)
    with kernels.use("triton"), pytest.raises(ConfigError, match=r"attention.*triton.*float64"):
        kernels.resolve("attention", *bad)
    large = call.q.new_zeros(2, 3, 4, 300)
    reason = triton.refuses(large, *given[1:])
    assert reason is not None and "300" in reason
