"""The transducer loss: published numbers, all alignments, float64, padding."""

# pyright: reportCallIssue=false, reportArgumentType=false

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from solomonic import kernels
from solomonic.speech import loss
from solomonic.speech.loss import (
    joint_transducer_loss,
    pruned_transducer_loss,
    transducer_loss,
)

# Rows of all kinds: full, shorter, one frame, no label.
FRAMES, LABELS = torch.tensor([6, 4, 1, 5]), torch.tensor([4, 2, 3, 0])
B, T, U, V, J = 4, 6, 4, 7, 5

# Test cases of warp-transducer (Apache 2.0), github.com/HawkAaron/warp-transducer,
# pytorch_binding/test/test.py: inputs, costs, and the gradient of the first cell.
SMALL = [
    [[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.6, 0.1, 0.1], [0.1, 0.1, 0.2, 0.8, 0.1]],
    [[0.1, 0.6, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.1, 0.1], [0.7, 0.1, 0.2, 0.1, 0.1]],
]
SMALL_SLOPE = [-0.13116688, -0.3999269, 0.17703125, 0.17703125, 0.17703125]
BIG = [
    0.06535690384862791, 0.7875301411923206, 0.08159176605666074,
    0.5297155426466327, 0.7506749639230854, 0.7541348379087998,
    0.6097641124736383, 0.8681404965673826, 0.6225318186056529,
    0.6685222872103057, 0.8580392805336061, 0.16453892311765583,
    0.989779515236694, 0.944298460961015, 0.6031678586829663,
    0.9467833543605416, 0.666202507295747, 0.28688179752461884,
    0.09418426230195986, 0.3666735970751962, 0.736168049462793,
    0.1666804425271342, 0.7141542198635192, 0.3993997272216727,
    0.5359823524146038, 0.29182076440286386, 0.6126422611507932,
    0.3242405528768486, 0.8007644367291621, 0.5241057606558068,
    0.779194617063042, 0.18331417220174862, 0.113745182072432,
    0.24022162381327106, 0.3394695622533106, 0.1341595066017014,
    0.5055615569388828, 0.051597282072282646, 0.6402903936686337,
    0.43073311517251, 0.8294731834714112, 0.1774668847323424,
    0.3207001991262245, 0.04288308912457006, 0.30280282975568984,
    0.6751777088333762, 0.569537369330242, 0.5584738347504452,
    0.08313242153985256, 0.06016544344162322, 0.10795752845152584,
    0.7486153608562472, 0.943918041459349, 0.4863558118797222,
    0.4181986264486809, 0.6524078485043804, 0.024242983423721887,
    0.13458171554507403, 0.3663418070512402, 0.2958297395361563,
    0.9236695822497084, 0.6899291482654177, 0.7418981733448822,
    0.25000547599982104, 0.6034295486281007, 0.9872887878887768,
    0.5926057265215715, 0.8846724004467684, 0.5434495396894328,
    0.6607698886038497, 0.3771277082495921, 0.3580209022231813,
]  # fmt: skip


def targets_of(rows: int, labels: int, outputs: int = V, blank: int = 0) -> Tensor:
    """Random labels, never the blank."""
    targets = torch.randint(0, outputs - 1, (rows, labels))
    return targets + (targets >= blank)


def joiner(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Any:
    """acoustic, label, weight and bias that want gradients."""
    shapes = (B, T, J), (B, U + 1, J), (V, J), (V,)
    return [
        (scale * torch.randn(*shape, dtype=torch.float64)).to(dtype).requires_grad_()
        for shape in shapes
    ]


def logits_of(acoustic: Tensor, label: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.tanh(acoustic[:, :, None] + label[:, None]) @ weight.T + bias


def defined(logits: Tensor, targets: Tensor, *options: float, blank: int = 0) -> Tensor:
    """The loss of each row as the slow definition and autograd have it."""
    logs = logits.log_softmax(-1)
    index = targets[:, None, :, None].expand(-1, logs.shape[1], -1, 1)
    move = logs[:, :, :-1].gather(-1, index)[..., 0]
    form = kernels.TABLE["transducer"]["reference"].function
    return form(logs[..., blank], move, FRAMES, LABELS, *options)[0]


def test_published_case_with_its_gradient() -> None:
    logits = torch.tensor([SMALL], requires_grad=True)
    lengths = torch.tensor([2]), torch.tensor([2])
    value = transducer_loss(logits, torch.tensor([[1, 2]]), *lengths)
    assert value.item() == pytest.approx(4.495666, abs=1e-6)
    value.backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0].tolist() == pytest.approx(SMALL_SLOPE, abs=2e-7)


def test_published_batch() -> None:
    logits = torch.tensor(BIG, dtype=torch.float64).view(2, 4, 3, 3)
    lengths = torch.tensor([4, 4]), torch.tensor([2, 2])
    costs = transducer_loss(logits, torch.tensor([[1, 2], [1, 1]]), *lengths, reduction="none")
    assert costs.tolist() == pytest.approx([4.2806528590890736, 3.9384369822503591], abs=1e-14)


@pytest.mark.parametrize("blank", [0, 3, V - 1])
def test_the_sum_is_over_all_alignments(blank: int) -> None:
    logits, targets = torch.randn(B, T, U + 1, V).double(), targets_of(B, U, blank=blank)
    found = transducer_loss(logits, targets, FRAMES, LABELS, blank=blank, reduction="none")
    logs = logits.log_softmax(-1)
    for row, (frames, labels) in enumerate(zip(FRAMES.tolist(), LABELS.tolist(), strict=True)):
        total = torch.tensor(0.0).double()
        for places in itertools.combinations(range(frames + labels - 1), labels):
            t, u, path = 0, 0, torch.tensor(0.0).double()
            for step in range(frames + labels):
                said = step in places
                path = path + logs[row, t, u, targets[row, u] if said else blank]
                t, u = (t, u + 1) if said else (t + 1, u)
            total = total + path.exp()
        assert found[row].item() == pytest.approx(-total.log().item(), rel=1e-13)


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("options", [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.01, 0.1)], ids=str)
def test_values_and_gradients_are_those_of_autograd_in_float64(
    options: tuple[float, float], blank: int
) -> None:
    """Ragged rows, U = 0, T = 1, any upstream gradient; both forms against the naive reference."""
    inputs, targets = joiner(), targets_of(B, U, blank=blank)
    names = {"blank": blank, "fastemit": options[0], "delay_penalty": options[1]}
    upstream = torch.randn(B).double()

    logits = logits_of(*inputs)
    wanted = defined(logits, targets, *options, blank=blank)
    slopes = torch.autograd.grad(wanted, (logits, *inputs), upstream)

    joint = joint_transducer_loss(*inputs, targets, FRAMES, LABELS, **names, reduction="none")
    assert (joint - wanted).abs().max() < 1e-10
    for ours, truth in zip(torch.autograd.grad(joint, inputs, upstream), slopes[1:], strict=True):
        assert (ours - truth).abs().max() < 1e-10

    leaf = logits.detach().requires_grad_()
    full = transducer_loss(leaf, targets, FRAMES, LABELS, **names, reduction="none")
    assert (full - wanted).abs().max() < 1e-10
    (ours,) = torch.autograd.grad(full, leaf, upstream)
    assert (ours - slopes[0]).abs().max() < 1e-10
    assert ours.sum(-1).abs().max() < 1e-12, "the slopes of a cell sum to zero"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_narrow_numbers(dtype: torch.dtype) -> None:
    """float32 to its last digits; bfloat16 inputs are read as they are and summed in float32."""
    inputs, targets = joiner(dtype), targets_of(B, U)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    wanted = defined(logits_of(*exact), targets, 0.1, 0.05)
    names = {"fastemit": 0.1, "delay_penalty": 0.05, "reduction": "none"}
    for whole in (False, True):
        ours = inputs
        if whole:
            kind = logits_of(*exact).detach().to(dtype)
            ours = [kind.requires_grad_()]
            wide = kind.detach().double().requires_grad_()
            wanted, exact = defined(wide, targets, 0.1, 0.05), [wide]
            found = transducer_loss(kind, targets, FRAMES, LABELS, **names)
        else:
            found = joint_transducer_loss(*inputs, targets, FRAMES, LABELS, **names)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted.detach(), rtol=1e-6, atol=1e-6)
        slopes = torch.autograd.grad(found.sum(), ours)
        truths = torch.autograd.grad(wanted.sum(), exact)
        near = 5e-6 if dtype == torch.float32 else 2e-2
        for slope, truth in zip(slopes, truths, strict=True):
            assert slope.dtype == dtype
            torch.testing.assert_close(slope.double(), truth, rtol=near, atol=near)


def test_blocks_cover_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same to the last digit when a block holds three cells, and when it holds all."""
    inputs, targets = joiner(), targets_of(B, U)

    def everything() -> list[Tensor]:
        found = joint_transducer_loss(*inputs, targets, FRAMES, LABELS)
        leaf = logits_of(*inputs).detach().requires_grad_()
        whole = transducer_loss(leaf, targets, FRAMES, LABELS)
        slopes = torch.autograd.grad(found, inputs)
        return [found, whole, *slopes, *torch.autograd.grad(whole, leaf)]

    wide = everything()
    monkeypatch.setattr(loss, "BLOCK", 3 * V)
    for ours, truth in zip(everything(), wide, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-13, atol=1e-13)


def test_padding_is_never_read_and_gets_no_gradient() -> None:
    inputs, targets = joiner(torch.float32), targets_of(B, U)
    simple = [torch.randn(B, T, V), torch.randn(B, U + 1, V)]
    t, u = torch.arange(T), torch.arange(U + 1)
    late, behind = t >= FRAMES[:, None], u > LABELS[:, None]

    def everything(spoil: float, label: int) -> list[Tensor]:
        acoustic, known, weight, bias = (x.detach().clone() for x in inputs)
        heard, said = (x.clone() for x in simple)
        for x, where in ((acoustic, late), (known, behind), (heard, late), (said, behind)):
            x[where] = spoil
        logits = logits_of(acoustic, known, weight, bias)
        marked = targets.masked_fill(u[:-1] >= LABELS[:, None], label)
        parts: Any = [
            x.requires_grad_() for x in (acoustic, known, weight, bias, heard, said, logits)
        ]
        rest = marked, FRAMES, LABELS
        pruned = pruned_transducer_loss(*parts[:6], *rest, prune_range=3, am_scale=0.1)
        values = [pruned.simple, pruned.pruned, joint_transducer_loss(*parts[:4], *rest)]
        values.append(transducer_loss(parts[6], *rest))
        slopes = torch.autograd.grad(sum(values), parts)
        for x, where in ((0, late), (1, behind), (4, late), (5, behind)):
            assert slopes[x][where].eq(0).all()
        assert slopes[6][late[:, :, None] | behind[:, None]].eq(0).all()
        assert all(bool(x.isfinite().all()) for x in slopes)
        return [*values, *slopes]

    clean = everything(0.0, 1)
    for spoil, label in ((torch.nan, -100), (torch.inf, 0), (1e30, 10**6)):
        for ours, truth in zip(everything(spoil, label), clean, strict=True):
            assert torch.equal(ours, truth)


def test_reductions_are_over_rows_alone() -> None:
    inputs, targets = joiner(), targets_of(B, U)
    rest = (*inputs, targets, FRAMES, LABELS)
    rows = joint_transducer_loss(*rest, reduction="none")
    assert rows.shape == (B,)
    assert torch.equal(joint_transducer_loss(*rest, reduction="sum"), rows.sum())
    assert torch.equal(joint_transducer_loss(*rest), rows.mean())


def test_a_long_utterance_in_float32() -> None:
    """T = 1000, U = 150: within a millionth of float64."""
    torch.manual_seed(1)
    acoustic, label = torch.randn(1, 1000, 8), torch.randn(1, 151, 8)
    weight, bias, targets = torch.randn(20, 8), torch.randn(20), targets_of(1, 150, 20)
    lengths = torch.tensor([1000]), torch.tensor([150])
    parts = acoustic, label, weight, bias
    exact = joint_transducer_loss(*(x.double() for x in parts), targets, *lengths)
    assert exact > 1000
    found = joint_transducer_loss(*parts, targets, *lengths)
    assert found.item() == pytest.approx(exact.item(), rel=1e-6)
    found = transducer_loss(logits_of(*parts), targets, *lengths)
    assert found.item() == pytest.approx(exact.item(), rel=1e-6)


def test_minus_infinity_logits() -> None:
    """Outputs that may not come get no gradient; a target that may not come makes it infinite."""
    logits, targets = torch.randn(B, T, U + 1, V).double(), targets_of(B, U, V - 1)
    logits[..., V - 1] = -torch.inf
    narrow = logits[..., : V - 1].clone().requires_grad_()
    wide = logits.requires_grad_()
    found = transducer_loss(wide, targets, FRAMES, LABELS, reduction="none")
    wanted = transducer_loss(narrow, targets, FRAMES, LABELS, reduction="none")
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)
    slopes = torch.autograd.grad(found.sum(), wide)[0], torch.autograd.grad(wanted.sum(), narrow)[0]
    torch.testing.assert_close(slopes[0][..., : V - 1], slopes[1], rtol=1e-12, atol=1e-14)
    assert slopes[0][..., V - 1].eq(0).all()
    targets[1, 0] = V - 1
    found = transducer_loss(wide, targets, FRAMES, LABELS, reduction="none")
    assert found.isinf().tolist() == [False, True, False, False]
    assert torch.autograd.grad(found.sum(), wide)[0].isfinite().all()


def simple_inputs(dtype: torch.dtype = torch.float64) -> Any:
    return [
        torch.randn(B, T, V, dtype=dtype, requires_grad=True),
        torch.randn(B, U + 1, V, dtype=dtype, requires_grad=True),
    ]


@pytest.mark.parametrize("options", [(0.0, 0.0), (0.2, 0.1)], ids=str)
def test_the_simple_loss_is_the_exact_one_of_a_joiner_that_adds(
    options: tuple[float, float],
) -> None:
    simple, targets, upstream = simple_inputs(), targets_of(B, U), torch.randn(B).double()
    names = {"fastemit": options[0], "delay_penalty": options[1], "reduction": "none"}
    rest = targets, FRAMES, LABELS
    found = pruned_transducer_loss(*joiner(), *simple, *rest, lm_scale=0.0, **names).simple
    wanted = transducer_loss(simple[0][:, :, None] + simple[1][:, None], *rest, **names)
    assert (found - wanted).abs().max() < 1e-12
    slopes = (torch.autograd.grad(x, simple, upstream) for x in (found, wanted))
    for ours, truth in zip(*slopes, strict=True):
        assert (ours - truth).abs().max() < 1e-12


def test_smoothing_mixes_in_each_part_alone() -> None:
    """(1 - l - a) both + l label part + a acoustic part times the mean label distribution."""
    (heard, known), targets = simple_inputs(), targets_of(B, U)
    real = torch.arange(U + 1) <= LABELS[:, None]
    mean = known.softmax(-1)[real].mean(0).log()
    logs = [
        (heard[:, :, None] + known[:, None]).log_softmax(-1),
        known.log_softmax(-1)[:, None].expand(-1, T, -1, -1),
        (heard + mean).log_softmax(-1)[:, :, None].expand(-1, -1, U + 1, -1),
    ]
    mixed = 0.6 * logs[0] + 0.3 * logs[1] + 0.1 * logs[2]
    index = targets[:, None, :, None].expand(-1, T, -1, 1)
    form = kernels.TABLE["transducer"]["reference"].function
    move = mixed[:, :, :-1].gather(-1, index)[..., 0]
    wanted, _, _ = form(mixed[..., 0], move, FRAMES, LABELS)
    rest = targets, FRAMES, LABELS
    found = pruned_transducer_loss(
        *joiner(), heard, known, *rest, lm_scale=0.3, am_scale=0.1, reduction="none"
    ).simple
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    slopes = (
        torch.autograd.grad(x.sum(), (heard, known), retain_graph=True) for x in (found, wanted)
    )
    for ours, truth in zip(*slopes, strict=True):
        assert (ours - truth).abs().max() < 1e-12


def test_the_pruned_loss_is_never_below_the_exact_one_and_meets_it() -> None:
    inputs, simple, targets = joiner(scale=2.0), simple_inputs(), targets_of(B, U)
    rest = targets, FRAMES, LABELS
    exact = joint_transducer_loss(*inputs, *rest, reduction="none")
    truths = torch.autograd.grad(exact.sum(), inputs)
    gaps = []
    for size in (2, 3, U + 1, U + 9):
        found = pruned_transducer_loss(*inputs, *simple, *rest, prune_range=size, reduction="none")
        assert found.ranges.shape == (B, T, min(max(size, 4), U + 1)), "row 2 says 3 in one frame"
        gap = (found.pruned - exact).detach()
        gaps.append(gap.sum().item())
        assert gap.min() > -1e-12
    assert gaps[0] > 1e-3 and gap.abs().max() < 1e-13
    for ours, truth in zip(torch.autograd.grad(found.pruned.sum(), inputs), truths, strict=True):
        assert (ours - truth).abs().max() < 1e-12


def test_the_pruned_loss_looks_only_at_its_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and slopes are those of the exact loss where everything else is minus infinity."""
    inputs, simple, targets = joiner(), simple_inputs(), targets_of(B, U)
    lengths = torch.tensor([6, 4, 3, 5]), LABELS
    seen = _count_cells(monkeypatch)
    found = pruned_transducer_loss(
        *inputs, *simple, targets, *lengths, prune_range=2, fastemit=0.1, reduction="none"
    )
    assert found.ranges.shape == (B, T, 2) and sum(seen) <= int(lengths[0].sum()) * 2
    logs = logits_of(*inputs).log_softmax(-1)
    inside = torch.zeros(B, T, U + 1, dtype=torch.bool).scatter_(2, found.ranges, True)
    index = targets[:, None, :, None].expand(-1, T, -1, 1)
    stay = logs[..., 0].masked_fill(~inside, -torch.inf)
    move = logs[:, :, :-1].gather(-1, index)[..., 0].masked_fill(~inside[..., :-1], -torch.inf)
    form = kernels.TABLE["transducer"]["reference"].function
    wanted, _, _ = form(stay, move, *lengths, 0.1)
    torch.testing.assert_close(found.pruned, wanted, rtol=1e-13, atol=0)
    slopes = (torch.autograd.grad(x.sum(), inputs) for x in (found.pruned, wanted))
    for ours, truth in zip(*slopes, strict=True):
        assert (ours - truth).abs().max() < 1e-12


def _count_cells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    for name, form in kernels.TABLE["transducer_hidden"].items():

        def watched(*args: Any, f: Callable = form.function) -> Tensor:
            seen.append(len(args[2]))
            return f(*args)

        changed = kernels.Form(watched, form.refuses)
        monkeypatch.setitem(kernels.TABLE["transducer_hidden"], name, changed)
    return seen


def test_whoever_else_needs_the_logits_is_told() -> None:
    base, targets = torch.randn(B, T, U + 1, V, requires_grad=True), targets_of(B, U)
    logits = base * 2.0
    other = logits.square().sum()
    transducer_loss(logits, targets, FRAMES, LABELS).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        other.backward()
    before = base.detach().clone()
    transducer_loss(base, targets, FRAMES, LABELS).backward()
    assert torch.equal(base, before), "a leaf keeps its numbers"


def test_logits_that_do_not_lie_in_order() -> None:
    inputs, targets = joiner(), targets_of(B, U)
    logits = logits_of(*inputs)
    turned = logits.transpose(1, 2).contiguous().transpose(1, 2)
    found = transducer_loss(turned, targets, FRAMES, LABELS)
    wanted = joint_transducer_loss(*inputs, targets, FRAMES, LABELS)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-14)
    slopes = (torch.autograd.grad(x, inputs) for x in (found, wanted))
    for ours, truth in zip(*slopes, strict=True):
        assert (ours - truth).abs().max() < 1e-12


def test_joiner_inputs_that_do_not_lie_in_order() -> None:
    inputs, targets = joiner(), targets_of(B, U)
    wanted = joint_transducer_loss(*inputs, targets, FRAMES, LABELS)
    turned = [x.mT.contiguous().mT if x.dim() > 1 else x for x in inputs]
    found = joint_transducer_loss(*turned, targets, FRAMES, LABELS)
    assert torch.equal(found, wanted)
    slopes = (torch.autograd.grad(x, inputs) for x in (found, wanted))
    assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))


def test_inputs_without_gradients_are_left_alone() -> None:
    inputs, targets = joiner(), targets_of(B, U)
    for x in (inputs[0], inputs[3]):
        x.requires_grad_(False)
    joint_transducer_loss(*inputs, targets, FRAMES, LABELS).backward()
    assert [x.grad is None for x in inputs] == [True, False, False, True]
    with torch.no_grad():
        assert not joint_transducer_loss(*inputs, targets, FRAMES, LABELS).requires_grad


def test_autocast_changes_nothing() -> None:
    inputs, targets = joiner(torch.float32), targets_of(B, U)
    plain = joint_transducer_loss(*inputs, targets, FRAMES, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        cast = joint_transducer_loss(*inputs, targets, FRAMES, LABELS)
    assert torch.equal(plain, cast)
    slopes = (torch.autograd.grad(x, inputs) for x in (plain, cast))
    assert all(torch.equal(a, b) for a, b in zip(*slopes, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same() -> None:
    inputs, simple, rest = joiner(), simple_inputs(), (targets_of(B, U), FRAMES, LABELS)

    def everything(device: str) -> list[Tensor]:
        parts: Any = [x.detach().to(device).requires_grad_() for x in (*inputs, *simple)]
        where = [x.to(device) for x in rest]
        pruned = pruned_transducer_loss(*parts, *where, prune_range=2, fastemit=0.1)
        values = [pruned.simple, pruned.pruned, joint_transducer_loss(*parts[:4], *where)]
        values.append(transducer_loss(logits_of(*parts[:4]), *where, delay_penalty=0.1))
        slopes = torch.autograd.grad(sum(values), parts)
        return [x.detach().cpu() for x in (*values, *slopes)]

    for ours, truth in zip(everything("cuda"), everything("cpu"), strict=True):
        assert (ours - truth).abs().max() < 1e-10


def test_torchaudio_agrees() -> None:
    """Where torchaudio is installed and loads."""
    try:
        functional = pytest.importorskip("torchaudio.functional")
    except OSError as error:
        pytest.skip(f"torchaudio does not load: {error}")
    logits, targets = torch.randn(B, T, U + 1, V), targets_of(B, U)
    ours = transducer_loss(logits, targets, FRAMES, LABELS)
    lengths = FRAMES.int(), LABELS.int()
    theirs = functional.rnnt_loss(logits, targets.int(), *lengths, blank=0, reduction="mean")
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
