"""One code path: a text read whole, token by token or in any segments is one function."""

import pytest
import torch
from torch import Tensor

from contracts.support import (
    KINDS,
    STACKS,
    build,
    cuts_of,
    draw,
    feed,
    gap,
    identical,
    kept,
    law,
    name,
    sampled,
    small,
    state_gap,
)  # fmt: skip
from solomonic import kernels
from solomonic.core import ConfigError
from solomonic.kernels import AttentionSpec, empty_carry
from solomonic.layers import ModelConfig
from solomonic.state import nbytes

GRID = [small(pattern=p) for p in KINDS + STACKS] + sampled(40, seed=3)
TOLERANCE = 1e-12


@pytest.mark.parametrize("config", GRID, ids=name)
@torch.no_grad()
def test_whole_is_token_by_token_is_any_cut(config: ModelConfig) -> None:
    """Outputs, final states and the very slots chosen."""
    model, tokens = build(config), draw(config, 2, 37)
    whole, end = feed(model, tokens, [37])
    for cuts in ([1] * 37, cuts_of(37, 0), cuts_of(37, 1), [36, 1], [1, 0, 36]):
        out, state = feed(model, tokens, cuts)
        assert gap(out, whole) <= TOLERANCE, cuts
        assert kept(state) == kept(end), cuts
        assert state_gap(state, end) <= TOLERANCE, cuts


@pytest.mark.parametrize("config", GRID[::3], ids=name)
@torch.no_grad()
def test_the_future_does_not_reach_back(config: ModelConfig) -> None:
    """Another future leaves the past bit-identical; without one it is the same to 1e-12."""
    model, tokens = build(config), draw(config, 2, 23)
    whole, _ = model(tokens)
    for t in (0, 1, 7, 8, 15, 21):
        changed = tokens.clone()
        changed[:, t + 1 :] = draw(config, 2, 22 - t, seed=50 + t)
        assert torch.equal(model(changed)[0][:, : t + 1], whole[:, : t + 1]), t
        assert gap(model(tokens[:, : t + 1])[0], whole[:, : t + 1]) <= TOLERANCE, t


@pytest.mark.parametrize("cuts", [[37], [1] * 37, [5, 1, 31], [8] * 4 + [5]], ids=str)
@torch.no_grad()
def test_the_trace_tells_the_same_in_every_mode(cuts: list[int]) -> None:
    """Every call of a 'B' layer says what it found and kept, calls of one token too."""
    config = small(pattern="WBB", refresh_period=3)
    model, tokens = build(config), draw(config, 2, 37)
    whole: list[dict] = []
    model(tokens, trace=whole)
    parts: dict[int, list[Tensor]] = {1: [], 2: []}
    state = None
    for part in tokens.split(cuts, dim=1):
        trace: list[dict] = []
        _, state = model(part, state, trace=trace)
        assert [entry["layer"] for entry in trace] == [1, 2]
        for entry in trace:
            parts[entry["layer"]].append(entry["innovation"])
            last = [[i for i in line if i >= 0] for line in entry["kept"][:, -1].tolist()]
    for entry in whole:
        assert gap(torch.cat(parts[entry["layer"]], dim=1), entry["innovation"]) <= TOLERANCE
    assert state is not None and kept(state)[1] == last


@torch.no_grad()
def test_reading_nothing_changes_nothing() -> None:
    for pattern in KINDS:
        config = small(pattern=pattern)
        model = build(config)
        _, before = model(draw(config, 2, 11))
        logits, after = model(torch.zeros(2, 0, dtype=torch.int64), before)
        assert logits.shape == (2, 0, 31)
        assert identical(before, after), pattern
        _, first = model(torch.zeros(2, 0, dtype=torch.int64))
        assert state_gap(first, model.init_state(2)) == 0


# --- float32 and bfloat16 -----------------------------------------------------------------------


PRECISE = [small(pattern=p, eidetic_slots=0) for p in KINDS] + [
    small(eidetic_slots=37, fading_slots=3, fading_lag=2),  # memory, and no choice to flip
    small(eidetic_slots=37, fading_slots=3, transition="delta", position="rope"),
    small(pattern="MFT", intermediate_size=24),
    small(),  # with a choice: what flips is bounded by the margin, in the next test
]


def rounded(config: ModelConfig, seed: int, dtype: torch.dtype):
    """A model in `dtype` and its float64 twin with the same, already rounded, weights."""
    model = build(config, seed, dtype)
    return model, build(config, seed, dtype).double()


def rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


@pytest.mark.parametrize("config", PRECISE, ids=name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_low_precision_loses_at_most_twice_what_plain_torch_loses(
    config: ModelConfig, dtype: torch.dtype
) -> None:
    plain, modes = [], {"whole": [37], "tokens": [1] * 37, "cuts": cuts_of(37, 0)}
    lost: dict[str, list[Tensor]] = {mode: [] for mode in modes}
    for seed in range(2):
        model, exact = rounded(config, seed, dtype)
        tokens = draw(config, 2, 37, seed)
        want = law(exact, tokens)
        plain.append(law(model, tokens).double() - want)
        for mode, cuts in modes.items():
            out, _ = feed(model, tokens, cuts)
            assert out.dtype == dtype
            lost[mode].append(out.double() - want)
    allowed = 2 * rms(torch.cat(plain))
    for mode, errors in lost.items():
        assert rms(torch.cat(errors)) <= allowed, mode


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_low_precision_flips_slots_only_at_the_margin(dtype: torch.dtype) -> None:
    """A slot may differ from float64 only where two innovations are as close as their errors.

    The number of differing slots, the errors and the margins are printed (pytest -rP).
    """
    config, differing = small(refresh_period=4, eidetic_slots=40), 0
    model, exact = rounded(config, 0, dtype)
    tokens = draw(config, 16, 120)
    trace: list[dict] = []
    _, want = exact(tokens, trace=trace)
    model(tokens, trace=trace)
    eps, error = trace[0]["innovation"], trace[1]["innovation"].double() - trace[0]["innovation"]
    for cuts in ([120], [1] * 120, cuts_of(120, 0)):
        _, state = feed(model, tokens, cuts)
        for i, (mine, best) in enumerate(zip(kept(state)[0], kept(want)[0], strict=True)):
            cut, off = eps[i, best[-1]].item(), error[i].abs().max().item()
            flipped = set(mine) ^ set(best)
            assert all(abs(eps[i, j].item() - cut) <= 3 * off for j in flipped), i
            differing += len(flipped) // 2
            if flipped:
                margin = cut - eps[i, [j for j in range(120) if j not in best]].max().item()
                print(f"row {i}: {len(flipped) // 2} differ; margin {margin:.1e}, off {off:.1e}")
    print(f"{dtype}: {differing} of {3 * 16 * 40} slots differ from float64")
    if dtype == torch.float32:
        assert differing == 0


# --- ties ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("refresh", [1, 3, 6])
@pytest.mark.parametrize("slots", [1, 4, 40])
@torch.no_grad()
def test_ties_go_to_the_earlier_token_in_every_mode(backend: str, refresh: int, slots: int) -> None:
    """Innovations of three values only, so that nearly every choice is a tie."""
    spec = AttentionSpec(window=6, refresh=refresh, slots=slots)
    q, kv = torch.randn(2, 37, 4, 4).double(), torch.randn(2, 37, 2, 2, 4).double()
    eps = torch.randint(0, 3, (2, 37)).double()
    attend = kernels.TABLE["attention"][backend].function
    read = 37 - 37 % refresh
    want = [sorted(range(read), key=lambda i: (-line[i], i))[:slots] for line in eps.tolist()]
    outs = []
    for cuts in ([37], [1] * 37, cuts_of(37, 0), [2, 35]):
        carry, out = empty_carry(spec, 2, 2, 4, q), []
        parts = zip(*(x.split(list(cuts), dim=1) for x in (q, kv, eps)), strict=True)
        for q_part, kv_part, eps_part in parts:
            step = attend(q_part, kv_part, None, eps_part, carry, spec)
            out.append(step.out)
            carry = step.carry
        assert [[i for i in line if i >= 0] for line in carry.slot_time.tolist()] == want, cuts
        outs.append(torch.cat(out, dim=1))
    assert max(gap(out, outs[0]) for out in outs) <= TOLERANCE


@pytest.mark.parametrize("cuts", [[37], [1] * 37, [5, 32]], ids=len)
@torch.no_grad()
def test_a_silent_state_space_model_keeps_the_first_tokens(cuts: list[int]) -> None:
    """y = 0 makes every innovation but the first zero: the whole model meets nothing but ties."""
    config = small(refresh_period=4)
    model = build(config)
    model.blocks[0].mixer.ssm.out_proj.weight.zero_()
    tokens = draw(config, 2, 37)
    out, state = feed(model, tokens, cuts)
    assert kept(state) == [[[0, 1, 2, 3, 4]] * 2]
    assert gap(out, law(model, tokens)) <= TOLERANCE


# --- faults seen in public hybrids --------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["M", "D", "F", "B"])
@torch.no_grad()
def test_fault_state_of_the_ssm_dropped_when_decoding_one_token_at_a_time(pattern: str) -> None:
    """Visible only after w tokens, so decoding goes on for several windows after the prompt."""
    config = small(pattern=pattern, window_size=3, fading_lag=3)
    model, tokens = build(config), draw(config, 1, 40)
    out, state = feed(model, tokens, [5] + [1] * 35)
    whole, end = model(tokens)
    assert gap(out, whole) <= TOLERANCE
    recurrent = [key for key, _ in state.leaves() if key.endswith(".h")]
    assert recurrent and state_gap(state, end) <= TOLERANCE
    # The comparison can fail: with the recurrent state emptied on the way the end is another one.
    _, middle = feed(model, tokens[:, :30], [30])
    for key, h in middle.leaves():
        if key.endswith(".h"):
            h.zero_()
    assert gap(model(tokens[:, 30:], middle)[0], whole[:, 30:]) > 1e-3


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 7, 9, 13])
@torch.no_grad()
def test_fault_prefill_and_decode_disagree_after_an_uneven_chunk(chunk: int) -> None:
    """Prefills that end off every grid: of the scan's chunks, the window and the refresh."""
    config = small(pattern="BFMD", refresh_period=3, fading_mode="chunk")
    model, tokens = build(config), draw(config, 2, 30)
    out, state = feed(model, tokens, [chunk] * (20 // chunk) + [1] * (30 - 20 // chunk * chunk))
    whole, end = model(tokens)
    assert gap(out, whole) <= TOLERANCE
    assert state_gap(state, end) <= TOLERANCE


@pytest.mark.parametrize("pattern", ["W", "M", "D", "F", "B"])
@torch.no_grad()
def test_fault_caches_that_grow_to_the_maximal_length(pattern: str) -> None:
    config = small(pattern=pattern)
    model = build(config)
    empty, state, sizes = nbytes(model.init_state(1)), None, set()
    for length in (1, 6, 1, 200, 1, 1000):
        _, state = model(draw(config, 1, length), state)
        sizes.add(nbytes(state))
    assert sizes == {empty}


@torch.no_grad()
def test_the_cache_of_full_attention_grows_and_says_so() -> None:
    model = build(small(pattern="T"))
    _, ten = model(draw(small(), 1, 10))
    _, twenty = model(draw(small(), 1, 20))
    per_token = 2 * 2 * 4 * 8 + 8  # key and value of 2 heads of size 4 in float64, and a time
    assert nbytes(twenty) - nbytes(ten) == 10 * per_token


def test_fault_fading_path_silent_and_untrained_below_the_window() -> None:
    """With a lag or a refresh below w the fading memory speaks and learns on short texts too."""
    for changes in ({"fading_lag": 1}, {"fading_mode": "chunk", "refresh_period": 2}):
        config = small(pattern="F", window_size=16, **changes)
        model, tokens = build(config), draw(config, 1, 7)
        logits, _ = model(tokens)
        logits.square().sum().backward()
        inner = model.blocks[0].mixer.ssm
        assert all(p.grad is not None and p.grad.abs().max() > 1e-6 for p in inner.parameters())
        with torch.no_grad():
            inner.out_proj.weight.mul_(-1)
            assert gap(model(tokens)[0], logits) > 1e-3


def test_fault_a_slow_path_chosen_in_silence() -> None:
    """Which form of an op runs is asked for, can be read, and a wrong name is an error."""
    for op, forms in kernels.TABLE.items():
        assert "torch" in forms and "reference" in forms
        assert kernels.explain(op).startswith(f"{op}: torch (")
        with kernels.use("reference"):
            assert kernels.explain(op).startswith(f"{op}: reference (")
        assert kernels.resolve(op) is forms["torch"].function
    unknown = pytest.raises(ConfigError, match="backend 'fastest' is unknown; use one of")
    with unknown, kernels.use("fastest"):
        pass
    with pytest.raises(ConfigError, match="op 'scan' is unknown; use one of"):
        kernels.resolve("scan")
