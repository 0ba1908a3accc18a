"""The branching encoder against its definition, one frame after the other."""

import random

import pytest
import torch
from torch import Tensor

from solomonic.core import ConfigError, ShapeError
from solomonic.speech.branching import gate
from solomonic.speech.branching.cost import backlog, encoder_cost
from solomonic.speech.branching.encoder import BranchingEncoder, BranchingState
from solomonic.speech.config import TransducerConfig
from solomonic.speech.encoder import Encoder
from solomonic.state import concatenate, gather, reset

# The large branch's front and pattern, and the small one's.
PATTERNS = [("L", "L", "", "L"), ("M", "W", "", "L"), ("B", "B", "M", "W"), ("", "MW", "L", "M")]
BINS = 6
STEP = 6


def made(patterns: tuple[str, str, str, str], **changes: object) -> BranchingEncoder:
    """A small one in float64 that decides for either branch about as often."""
    front, pattern, small_front, small_pattern = patterns
    settings = {
        "bins": BINS, "front": front, "pattern": pattern, "hidden_size": 16,
        "num_attention_heads": 2, "intermediate_size": 12, "window_size": 4, "refresh_period": 3,
        "eidetic_slots": 4, "ssm_state_size": 4, "ssm_head_dim": 4, "dropout": 0.0,
        "small_front": small_front, "small_pattern": small_pattern, "small_size": 8,
        "arbitrator_size": 6,
    }  # fmt: skip
    torch.manual_seed(3)
    encoder = BranchingEncoder(TransducerConfig.from_json({**settings, **changes})).double()
    torch.nn.init.normal_(encoder.arbitrator.outside.weight, std=3.0)
    encoder.arbitrator.outside.bias.data.fill_(-1.6)
    encoder.mean.fill_(-3.0)
    encoder.deviation.fill_(2.0)
    return encoder.eval()


def frames(rows: int, steps: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(rows, steps * STEP, BINS, generator=generator, dtype=torch.float64) - 3


def defined(
    encoder: BranchingEncoder, x: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, BranchingState, Tensor]:
    """Outputs (1, T, D), the state and the weights (1, T) of one row, step by step.

    Args:
        weights: (1, T) of the large branch; None: the arbitrator decides.
    """
    x = (x - encoder.mean) / encoder.deviation
    small, large = encoder.small.init_state(1), encoder.large.init_state(1)
    outs, used = [], []
    for t in range(x.shape[1] // STEP):
        step = x[:, t * STEP : (t + 1) * STEP]
        heard, small, _ = encoder.small(step, small)
        logit = encoder.arbitrator(heard)[0, 0]
        opened = float(gate.open_probability(logit).detach()) > 0.5
        weight = logit.new_tensor(float(opened)) if weights is None else weights[0, t]
        low = encoder.up(heard)
        if float(weight.detach()) > 0:
            high, large, _ = encoder.large(step, large)
            low = weight * high + (1 - weight) * low
        outs.append(low)
        used.append(weight)
    return torch.cat(outs, 1), BranchingState(small, large), torch.stack(used)[None]


def same_states(a: BranchingState, b: BranchingState) -> None:
    for (name, x), (_, y) in zip(a.leaves(), b.leaves(), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("patterns", PATTERNS)
@pytest.mark.parametrize("steps", [0, 1, 2, 15])
def test_it_is_its_definition(patterns: tuple, steps: int) -> None:
    encoder, x = made(patterns), frames(3, steps)
    trace: list[dict] = []
    out, state, lengths = encoder(x, trace=trace)
    assert out.shape == (3, steps, 16) and lengths is None
    if not steps:
        return same_states(state, encoder.init_state(3))
    for row in range(3):
        expected, end, used = defined(encoder, x[row : row + 1])
        assert torch.equal(trace[0]["large"][row : row + 1].double(), used)
        torch.testing.assert_close(out[row : row + 1], expected, rtol=0, atol=1e-11)
        same_states(gather(state, torch.tensor([row])), end)
    share = float(trace[0]["large"].mean())
    assert steps < 15 or 0.15 < share < 0.85  # a guard: both branches were needed


@pytest.mark.parametrize("patterns", PATTERNS)
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_gradients_are_those_of_the_definition(patterns: tuple, kind: str) -> None:
    encoder, x = made(patterns).train(), frames(2, 11)
    generator = torch.Generator().manual_seed(2)
    given = 1.6 * torch.rand(2, 11, generator=generator, dtype=torch.float64) - 0.3
    weights = given.clamp(0, 1) if kind == "soft" else (given > 0.5).double()
    assert (weights == 0).any() and (weights == 1).any()
    probe = torch.randn(2, 11, 16, generator=generator, dtype=torch.float64)
    found, expected = [], []
    for into, slow in ((found, False), (expected, True)):
        encoder.zero_grad()
        leaf, w = x.clone().requires_grad_(), weights.clone().requires_grad_()
        if slow:
            parts = [defined(encoder, leaf[r : r + 1], w[r : r + 1])[0] for r in (0, 1)]
            out = torch.cat(parts)
        else:
            plain = (leaf - encoder.mean) / encoder.deviation
            heard, _, _ = encoder.small(plain)
            out, _ = encoder.mix(plain, encoder.up(heard), w, encoder.large.init_state(2))
        (out * probe).sum().backward()
        named = {n: p.grad for n, p in encoder.named_parameters() if "arbitrator" not in n}
        assert all(g is not None for g in named.values())
        into += [out, leaf.grad, w.grad, *named.values()]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("patterns", PATTERNS)
def test_hard_decisions_are_soft_ones_at_0_and_1_bit_for_bit(patterns: tuple) -> None:
    encoder, x = made(patterns), frames(3, 20)
    trace: list[dict] = []
    hard, end, _ = encoder(x, trace=trace)
    plain = (x - encoder.mean) / encoder.deviation
    heard, _, _ = encoder.small(plain)
    weights = trace[0]["large"].double()
    encoder.train()  # without dropout only the mixing differs
    soft, state = encoder.mix(plain, encoder.up(heard), weights, encoder.large.init_state(3))
    assert torch.equal(hard, soft)
    for (name, a), (_, b) in zip(end.large.leaves(), state.leaves(), strict=True):
        assert torch.equal(a, b), name
    between = encoder.mix(plain, encoder.up(heard), 0.9 * weights, encoder.large.init_state(3))[0]
    assert not torch.allclose(hard, between)


@pytest.mark.parametrize("patterns", PATTERNS)
def test_cutting_changes_nothing(patterns: tuple) -> None:
    encoder, x = made(patterns).requires_grad_(False), frames(2, 24)
    whole, end, _ = encoder(x)
    draw = random.Random(0)
    for _ in range(4):
        state, parts, at = encoder.init_state(2), [], 0
        while at < 24:
            cut = min(draw.choice([0, 1, 1, 2, 5, 9]), 24 - at)
            out, state, _ = encoder(x[:, at * STEP : (at + cut) * STEP], state)
            parts.append(out)
            at += cut
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-11)
        same_states(state, end)


@pytest.mark.parametrize("patterns", PATTERNS)
@pytest.mark.parametrize("lengths", [[61, 96, 7, 0], [96, 1, 54, 36]])
def test_padding_is_not_heard(patterns: tuple, lengths: list[int]) -> None:
    encoder, x = made(patterns).requires_grad_(False), frames(4, 16)
    for row, length in enumerate(lengths):
        x[row, length:] = 0.0
    trace: list[dict] = []
    out, state, steps = encoder(x, None, torch.tensor(lengths), trace)
    assert steps is not None and steps.tolist() == [-(-n // STEP) for n in lengths]
    for row, count in enumerate(steps.tolist()):
        assert not trace[0]["large"][row, count:].any()
        mine = gather(state, torch.tensor([row]))
        if not count:
            same_states(mine, encoder.init_state(1))
            continue
        alone, reals = x[row : row + 1, : count * STEP], torch.tensor([lengths[row]])
        expected, end, _ = encoder(alone, None, reals)
        torch.testing.assert_close(out[row : row + 1, :count], expected, rtol=0, atol=1e-11)
        same_states(mine, end)


@pytest.mark.parametrize("patterns", PATTERNS)
def test_streams_begin_and_end_apart(patterns: tuple) -> None:
    encoder, x = made(patterns).requires_grad_(False), frames(3, 20)
    _, state, _ = encoder(x[:, :60])
    rest = x[:, 60:]
    on, fresh = encoder(rest, state)[0], encoder(rest)[0]
    cleared = encoder(rest, reset(state, torch.tensor([False, True, False])))[0]
    torch.testing.assert_close(cleared, torch.stack([on[0], fresh[1], on[2]]), rtol=0, atol=1e-11)
    late = encoder(x[:1, 24:60])[1]
    joined = concatenate([gather(state, torch.tensor([1])), late])
    both = encoder(rest[[1, 0]], joined)[0]
    torch.testing.assert_close(both[0], on[1], rtol=0, atol=1e-11)
    torch.testing.assert_close(both[1:], encoder(rest[:1], late)[0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("patterns", PATTERNS)
def test_always_the_large_branch_is_the_large_branch(patterns: tuple) -> None:
    encoder, x = made(patterns), frames(2, 12)
    torch.nn.init.zeros_(encoder.arbitrator.outside.weight)
    encoder.arbitrator.outside.bias.data.fill_(1.0)
    plain = (x - encoder.mean) / encoder.deviation
    assert torch.equal(encoder(x)[0], encoder.large(plain)[0])
    lengths = torch.tensor([72, 45])  # of a started step it hears what is real
    found, state, _ = encoder(x, None, lengths)
    expected, end, _ = encoder.large(plain, None, lengths)
    torch.testing.assert_close(found[1, :8], expected[1, :8], rtol=0, atol=1e-11)
    same_states(BranchingState(state.small, end), state)
    encoder.arbitrator.outside.bias.data.fill_(-3.0)
    out, state, _ = encoder(x)
    assert torch.equal(out, encoder.up(encoder.small(plain)[0]))
    for (name, a), (_, b) in zip(
        state.large.leaves(), encoder.init_state(2).large.leaves(), strict=True
    ):
        assert torch.equal(a, b), name


def test_what_is_not_chosen_is_not_computed() -> None:
    """The multiplications made, counted where they are made, are those that the share says."""
    encoder, x = made(("M", "W", "L", "L")).requires_grad_(False), frames(1, 30)
    made_here = [0]

    def linear(module: torch.nn.Linear, given: tuple, _: Tensor) -> None:
        made_here[0] += given[0].numel() // given[0].shape[-1] * module.weight.numel()

    def cell(module: torch.nn.Module, given: tuple, _: object) -> None:
        rows = given[0].shape[0] * given[0].shape[1]
        made_here[0] += rows * sum(p.numel() for p in module.parameters() if p.dim() == 2)

    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(linear)
        elif type(module).__name__ == "LSTM":
            module.register_forward_hook(cell)
    trace: list[dict] = []
    encoder(x, trace=trace)
    ran = int(trace[0]["large"].sum())
    cost = encoder_cost(encoder)
    assert 0 < ran < 30 and made_here[0] == 30 * cost.always + ran * cost.chosen
    assert cost.per_second(ran / 30) == pytest.approx(made_here[0] / (30 * 0.06))
    plain = encoder_cost(encoder.large)
    assert (plain.always, plain.chosen) == (cost.chosen, 0)


def test_the_gate_is_often_exactly_0_or_1() -> None:
    torch.manual_seed(0)
    logits = torch.linspace(-6, 6, 13, dtype=torch.float64).expand(20000, -1)
    weights = gate.soft(logits, gate.logistic_noise(logits))
    assert weights.min() == 0 and weights.max() == 1
    found = (weights > 0).double().mean(0)
    torch.testing.assert_close(found, gate.open_probability(logits[0]), rtol=0, atol=0.015)
    assert ((weights > 0) & (weights < 1)).double().mean() > 0.1
    # At inference the large branch is run where training runs it more often than not.
    assert torch.equal(gate.hard(logits[0]), (found > 0.5).double())
    assert 0 < gate.hard(logits[0]).sum() < 13


@pytest.mark.parametrize("gating", ["soft", "hard"])
def test_the_arbitrator_learns_from_soft_decisions(gating: str) -> None:
    encoder = made(PATTERNS[0]).train()
    encoder.gating = gating  # type: ignore[assignment]
    torch.manual_seed(0)
    trace: list[dict] = []
    out, _, _ = encoder(frames(2, 12), trace=trace)
    out.square().sum().backward()
    gradient = encoder.arbitrator.inside.weight.grad
    assert (gradient is not None and bool(gradient.abs().sum() > 0)) == (gating == "soft")
    exact = (trace[0]["large"] == 0) | (trace[0]["large"] == 1)
    assert exact.all() == (gating == "hard")


def test_work_piles_up_as_the_loop_says() -> None:
    torch.manual_seed(1)
    work = (0.12 * torch.rand(4, 17, dtype=torch.float64)).requires_grad_()
    lengths = torch.tensor([17, 5, 1, 0])
    rows = []
    for row, length in enumerate(lengths.tolist()):
        behind, seen = work.new_zeros(()), []
        for t in range(17):
            if t < length:
                behind = (behind + work[row, t] - 0.06).clamp(min=0)
            seen.append(behind)
        rows.append(torch.stack(seen))
    expected, found = torch.stack(rows), backlog(work, lengths, 0.06)
    torch.testing.assert_close(found, expected)
    probe = torch.randn(4, 17, dtype=torch.float64)
    wanted = torch.autograd.grad((expected * probe).sum(), work)[0]
    torch.testing.assert_close(torch.autograd.grad((found * probe).sum(), work)[0], wanted)
    assert (expected > 0).any() and (expected[0] == 0).any()
    assert backlog(work[:, :0]).shape == (4, 0)
    with pytest.raises(ShapeError, match=r"work must be \(batch, time\)"):
        backlog(work[0])


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="full attention"):
        TransducerConfig(small_pattern="T")
    with pytest.raises(ConfigError, match="small_size must be at least 1"):
        TransducerConfig(small_pattern="L", small_size=0)
    with pytest.raises(ShapeError, match="7 feature frames are no multiple of 6"):
        made(PATTERNS[0])(torch.zeros(1, 7, BINS))


def test_plain_models_are_recorded_as_they_were() -> None:
    assert not [name for name in TransducerConfig().to_json() if name.startswith(("small", "arb"))]
    config = TransducerConfig(small_pattern="LL", small_size=96)
    assert TransducerConfig.from_json(config.to_json()) == config
    assert config.branch("large") == TransducerConfig(small_size=96)
    small = config.branch("small")
    assert (small.pattern, small.front, small.hidden_size, small.intermediate_size) == (
        "LL", "", 96, 0,
    )  # fmt: skip
    assert isinstance(Encoder(small), Encoder)
