"""The transducer's ops: every form against brute force, invariants and the definition."""

# pyright: reportCallIssue=false, reportArgumentType=false

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from needs import needs_core
from solomonic import kernels
from solomonic.kernels import native
from solomonic.kernels.transducer.pruning import ranges
from solomonic.kernels.transducer.reference import NO_LABEL, PADDING
from solomonic.kernels.transducer.slope import earliness

CORE = native.load()
FORMS = ["reference", "torch", *(CORE.isa_list().split() if CORE else [])]
FAST = FORMS[1:]
LENGTHS = torch.tensor([5, 3, 1, 5]), torch.tensor([4, 2, 3, 0])


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """The backend to insist on; native ones under each instruction set."""
    with insisted(request.param) as backend:
        yield backend


@pytest.fixture(params=FAST)
def fast(request: pytest.FixtureRequest) -> Iterator[str]:
    """The same without the definition."""
    with insisted(request.param) as backend:
        yield backend


class insisted:
    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> str:
        if self.name in ("reference", "torch"):
            return self.name
        assert CORE is not None
        self.before = CORE.isa()
        CORE.isa_use(self.name)
        return "native"

    def __exit__(self, *_: object) -> None:
        if self.name not in ("reference", "torch"):
            assert CORE is not None
            CORE.isa_use(self.before)


def planes(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Log-probabilities of LENGTHS; what lies in the padding would spoil every sum."""
    torch.manual_seed(4)
    logs = torch.randn(4, 5, 5, 3, dtype=torch.float64).log_softmax(-1)
    blank, label = logs[..., 0], logs[:, :, :4, 1].clone()
    t, u = torch.arange(5)[:, None], torch.arange(5)
    frames, labels = (x[:, None, None] for x in LENGTHS)
    blank = blank.masked_fill((t >= frames) | (u > labels), torch.nan)
    label = label.masked_fill((t >= frames) | (u[:4] >= labels), torch.nan)
    return blank.to(dtype), label.to(dtype)


def alignments(blank: Tensor, label: Tensor) -> Iterator[float]:
    """Log-probability of every path of one row: where among T + U - 1 steps do the labels stand?"""
    frames, labels = blank.shape[0], label.shape[1]
    for places in itertools.combinations(range(frames + labels - 1), labels):
        t = u = 0
        score = 0.0
        for step in range(frames + labels - 1):
            score += float(label[t, u] if step in places else blank[t, u])
            t, u = (t, u + 1) if step in places else (t + 1, u)
        yield score + float(blank[t, u])


def run(backend: str, op: str, *args: object) -> Any:
    with kernels.use(backend):
        return kernels.run(op, *args)


def working(backend: str) -> torch.dtype:
    return torch.float32 if backend == "native" else torch.float64


def tolerance(backend: str) -> dict[str, Any]:
    return {"rtol": 2e-6, "atol": 2e-6} if backend == "native" else {"rtol": 1e-12, "atol": 1e-12}


def test_the_sum_is_over_all_alignments(form: str) -> None:
    blank, label = planes()
    nll, _, _ = run(form, "transducer", *(x.to(working(form)) for x in (blank, label)), *LENGTHS)
    for row, (frames, labels) in enumerate(zip(*(x.tolist() for x in LENGTHS), strict=True)):
        part = blank[row, :frames, : labels + 1], label[row, :frames, :labels]
        scores = list(alignments(*part))
        assert len(scores) == math.comb(frames - 1 + labels, labels)
        wanted = -torch.tensor(scores, dtype=torch.float64).logsumexp(0)
        torch.testing.assert_close(nll[row].double(), wanted, **tolerance(form))


def test_occupancies_are_slopes_and_sum_to_frames_and_labels(form: str) -> None:
    blank, label = (x.to(working(form)).requires_grad_() for x in planes())
    nll, gone, said = run(form, "transducer", blank, label, *LENGTHS)
    assert nll.requires_grad and not gone.requires_grad and not said.requires_grad
    weight = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=nll.dtype)
    slopes = torch.autograd.grad(nll @ weight, (blank, label))
    for slope, taken in zip(slopes, (gone, said), strict=True):
        wanted = -weight[:, None, None] * taken
        torch.testing.assert_close(slope, wanted, **tolerance(form))
    for taken, wanted in ((gone, LENGTHS[0]), (said, LENGTHS[1])):
        total = taken.double().sum((1, 2))
        torch.testing.assert_close(total, wanted.double(), rtol=1e-6, atol=1e-6)
    t, u = torch.arange(5)[:, None], torch.arange(5)
    frames, labels = (x[:, None, None] for x in LENGTHS)
    assert torch.equal(gone == 0, (t >= frames) | (u > labels) | _hopeless(t, u))
    assert torch.equal(said == 0, (t >= frames) | (u[:4] >= labels))


def _hopeless(t: Tensor, u: Tensor) -> Tensor:
    """Cells inside from which a blank leads nowhere: the last frame before the last label."""
    frames, labels = (x[:, None, None] for x in LENGTHS)
    return (t == frames - 1) & (u < labels)


def test_both_penalties_are_what_their_definitions_say(form: str) -> None:
    """FastEmit: the slope of nll - f sum(said ly), said constant. Delay: d ((T - 1) / 2 - t)."""
    fastemit, delay = 0.3, 0.2
    given = [x.to(working(form)).requires_grad_() for x in planes()]
    nll, gone, said = run(form, "transducer", *given, *LENGTHS, fastemit, delay)
    slopes = torch.autograd.grad(nll.sum(), given)

    blank, label = (x.requires_grad_() for x in planes())
    t = torch.arange(5)[:, None]
    moved = label + delay * ((LENGTHS[0].double()[:, None, None] - 1) / 2 - t)
    plain, gone_, said_ = kernels.TABLE["transducer"]["reference"].function(blank, moved, *LENGTHS)
    torch.testing.assert_close(nll.double(), plain, **tolerance(form))
    torch.testing.assert_close(gone.double(), gone_, **tolerance(form))
    torch.testing.assert_close(said.double(), said_, **tolerance(form))
    objective = plain.sum() - fastemit * (said_ * moved.nan_to_num(0.0)).sum()
    for slope, wanted in zip(slopes, torch.autograd.grad(objective, (blank, label)), strict=True):
        torch.testing.assert_close(slope.double(), wanted.nan_to_num(0.0), **tolerance(form))


def test_arcs_of_probability_zero(form: str) -> None:
    """One path left: it is the sum; none left: infinite, and no occupancy or slope at all."""
    blank, label = (x.nan_to_num(0.0).to(working(form)) for x in planes())
    blank[0, :4, :4], label[0] = -torch.inf, -torch.inf
    label[0, 0, :4] = -0.5  # all labels at the first frame, then blanks
    blank[0, :, 4] = -0.25
    label[1, :3, 0] = -torch.inf  # row 1 can never say its first label
    blank.requires_grad_(), label.requires_grad_()
    nll, gone, said = run(form, "transducer", blank, label, *LENGTHS)
    assert nll[0].item() == pytest.approx(4 * 0.5 + 5 * 0.25)
    torch.testing.assert_close(gone[0, :, 4], torch.ones_like(gone[0, :, 4]), rtol=1e-6, atol=0)
    torch.testing.assert_close(said[0, 0], torch.ones_like(said[0, 0]), rtol=1e-6, atol=0)
    assert gone[0].sum().item() == pytest.approx(5) and said[0].sum().item() == pytest.approx(4)
    assert nll[1].item() == math.inf and gone[1].abs().max() == 0 and said[1].abs().max() == 0
    slopes = torch.autograd.grad(nll[[0, 2, 3]].sum(), (blank, label))
    assert all(bool(x.isfinite().all()) for x in slopes)


def test_what_is_not_a_number_shows(fast: str) -> None:
    blank, label = (x.nan_to_num(0.0).to(working(fast)) for x in planes())
    blank[1, 1, 1] = torch.nan
    nll, _, _ = run(fast, "transducer", blank, label, *LENGTHS)
    assert nll.isnan().tolist() == [False, True, False, False]


def test_long_rows_in_float32(fast: str) -> None:
    """T = 1000 and U = 150: within a millionth of float64."""
    torch.manual_seed(1)
    logs = torch.randn(1, 1000, 151, 2).log_softmax(-1) - 4
    blank, label = logs[..., 0], logs[:, :, :-1, 1]
    lengths = torch.tensor([1000]), torch.tensor([150])
    exact = run("torch", "transducer", blank.double(), label.double(), *lengths)
    found = run(fast, "transducer", blank, label, *lengths)
    assert all(x.dtype == torch.float32 for x in found)
    assert found[0].item() == pytest.approx(exact[0].item(), rel=1e-6)
    for ours, truth in zip(found[1:], exact[1:], strict=True):
        torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=1e-6)


def cells(dtype: torch.dtype, outputs: int = 37) -> dict[str, Tensor]:
    torch.manual_seed(2)
    count = 70
    labels = torch.randint(1, outputs, (count,))
    labels[3], labels[69], labels[5] = PADDING, PADDING, NO_LABEL
    logits = 3 * torch.randn(count, outputs, dtype=torch.float64)
    logits[3] = torch.nan  # padding
    logits[6, 1:4] = -torch.inf
    labels[6] = 7
    gone, said = torch.rand(2, count, dtype=torch.float64)
    gone[labels == PADDING] = said[labels < 0] = 0.0
    gone[10] = said[10] = 0.0
    return {
        "logits": logits.to(dtype), "labels": labels, "gone": gone.to(dtype), "said": said.to(dtype)
    }  # fmt: skip


@pytest.mark.parametrize("blank", [0, 36])
def test_scores_and_slopes_are_those_of_the_log_softmax(form: str, blank: int) -> None:
    given, exact = cells(working(form)), cells(torch.float64)
    labels = given["labels"].clone()
    labels[labels == blank] = 5
    stay, move, total = run(form, "transducer_scores", given["logits"], labels, blank)
    real, named = labels != PADDING, labels >= 0
    logs = exact["logits"][real].log_softmax(-1)
    torch.testing.assert_close(stay[real].double(), logs[:, blank], **tolerance(form))
    wanted = exact["logits"].log_softmax(-1)[named, labels[named]]
    torch.testing.assert_close(move[named].double(), wanted, **tolerance(form))
    assert stay[~real].eq(-torch.inf).all() and move[~named].eq(-torch.inf).all()
    assert total[~real].eq(0).all()

    leaf = exact["logits"].nan_to_num(0.0, neginf=-torch.inf).requires_grad_()
    logs = leaf.log_softmax(-1)
    value = (exact["gone"] * logs[:, blank]).sum()
    value = (
        value + (exact["said"] * logs.gather(1, labels.clamp(min=0)[:, None])[:, 0])[named].sum()
    )
    (truth,) = torch.autograd.grad(-value, leaf)
    args = labels, blank, total, given["gone"], given["said"]
    slope = run(form, "transducer_slopes", given["logits"], *args)
    assert slope is given["logits"], "it was not written in place"
    torch.testing.assert_close(slope.double(), truth, **tolerance(form))
    assert slope[[3, 10, 69]].eq(0).all(), "cells that no path takes are exactly zero"
    torch.testing.assert_close(slope.double().sum(1), torch.zeros(70).double(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("width", [1, 16, 37, 200])
def test_hidden_units_and_their_slopes(form: str, width: int) -> None:
    torch.manual_seed(3)
    kind = working(form)
    acoustic, label = torch.randn(9, width, dtype=kind), torch.randn(5, width, dtype=kind)
    acoustic[0], label[0] = 1e-4 * acoustic[0], 1e-4 * label[0]
    acoustic[1, 0] = 90.0
    rows, columns = torch.arange(40) // 5, torch.arange(40) % 5
    units = run(form, "transducer_hidden", acoustic, label, rows, columns)
    inner = acoustic.double()[rows] + label.double()[columns]
    torch.testing.assert_close(units.double(), inner.tanh(), **tolerance(form))
    small = units[0].double() / inner[0].tanh() - 1
    assert small.abs().max() < 1e-6, "small units keep their digits"
    slope = torch.randn(40, width, dtype=kind)
    back = slope.double() * (1 - inner.tanh() ** 2)
    to = torch.ones_like(acoustic), torch.ones_like(label)
    run(form, "transducer_spread", units, slope.clone(), rows, columns, *to)
    wanted = torch.ones(9, width).double().index_add(0, rows, back)
    torch.testing.assert_close(to[0].double(), wanted, rtol=1e-5, atol=1e-5)
    wanted = torch.ones(5, width).double().index_add(0, columns, back)
    torch.testing.assert_close(to[1].double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_cells_hide_no_fault(fast: str, bad: float) -> None:
    for at in (0, 20, 36):
        logits, labels = torch.zeros(1, 37), torch.tensor([4])
        logits[0, at] = bad
        stay, move, _ = run(fast, "transducer_scores", logits, labels, 1)
        assert not stay.isfinite().any() or not move.isfinite().any()
        units = torch.zeros(1, 37)
        units[0, at] = torch.nan
        index = torch.zeros(1, dtype=torch.int64)
        found = run(fast, "transducer_hidden", units, torch.zeros(1, 37), index, index)
        assert found.isnan().sum() == 1 and found[0, at].isnan()


@needs_core
def test_the_number_of_threads_changes_no_bit() -> None:
    def everything() -> list[Tensor]:
        given = cells(torch.float32)
        found = [*run("native", "transducer", *planes(torch.float32), *LENGTHS)]
        found += run("native", "transducer_scores", given["logits"], given["labels"], 0)
        args = given["labels"], 0, found[-1], given["gone"], given["said"]
        found.append(run("native", "transducer_slopes", given["logits"], *args).nan_to_num())
        torch.manual_seed(0)
        index, to = torch.arange(300) % 7, (torch.zeros(7, 130), torch.zeros(7, 130))
        slope = torch.randn(300, 130)
        run("native", "transducer_spread", slope.tanh(), slope, index, index.flip(0), *to)
        return [*found, *to]

    torch.set_num_threads(2)
    try:
        two = everything()
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(two, everything(), strict=True))


@needs_core
def test_the_registry_says_what_runs() -> None:
    narrow, wide = planes(torch.float32), planes(torch.float64)
    assert kernels.explain("transducer", *narrow, *LENGTHS).startswith("transducer: native (")
    sentence = kernels.explain("transducer", *wide, *LENGTHS)
    assert sentence.startswith("transducer: torch (") and "these tensors are float64" in sentence
    gaps = torch.zeros(4, 6)[:, :3]
    ones = torch.ones(4, dtype=torch.int64), 0, *torch.zeros(3, 4)
    assert "these have gaps" in kernels.explain("transducer_slopes", gaps, *ones)
    half = torch.zeros(4, 6, dtype=torch.bfloat16)
    assert "these tensors are bfloat16" in kernels.explain("transducer_scores", half, *ones[:2])


def test_earliness_is_around_the_middle_of_each_row() -> None:
    found = earliness(torch.zeros(2, 4, 3), torch.tensor([4, 3]))
    assert found[..., 0].tolist() == [[1.5, 0.5, -0.5, -1.5], [1.0, 0.0, -1.0, -2.0]]


@pytest.mark.parametrize("size", [2, 3, 5, 9])
def test_ranges_keep_a_path_inside(size: int) -> None:
    """Begin at 0, end at U, never go back, overlap; chosen by what is taken most."""
    torch.manual_seed(6)
    for frames, labels in (([7, 5, 1], [6, 2, 3]), ([7, 4, 2], [0, 0, 0]), ([7, 2, 7], [8, 1, 8])):
        lengths = torch.tensor(frames), torch.tensor(labels)
        width = max(labels) + 1
        gone, said = torch.rand(3, 7, width), torch.rand(3, 7, max(labels))
        found = ranges(gone, said, *lengths, size)
        needed = max(-(-u // t) + 1 for t, u in zip(frames, labels, strict=True))
        assert found.shape == (3, 7, min(max(size, needed), width))
        assert found.min() >= 0 and found.max() < width
        for row, (t, u) in enumerate(zip(frames, labels, strict=True)):
            run_ = found[row, :t]
            assert run_[0, 0] == 0 and run_[-1, 0] <= u <= run_[-1, -1]
            steps = run_[1:, 0] - run_[:-1, 0]
            assert ((steps >= 0) & (steps < max(found.shape[2], 2))).all()
            assert (run_[:, 1:] - run_[:, :-1] == 1).all()


def test_ranges_follow_the_occupancy() -> None:
    gone, said = torch.zeros(1, 6, 7), torch.zeros(1, 6, 6)
    for t, u in enumerate((0, 1, 2, 3, 4, 6)):
        gone[0, t, u] = 1.0
    said[0, torch.arange(5), torch.arange(5)] = 1.0
    found = ranges(gone, said, torch.tensor([6]), torch.tensor([6]), 2)
    assert found[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_ranges_count_the_labels_said_inside() -> None:
    """Blanks are even; only the arc from 2 to 3 is ever taken, so both of its ends are wanted."""
    gone, said = torch.full((1, 9, 6), 0.1), torch.zeros(1, 9, 5)
    said[0, :, 2] = 0.5
    found = ranges(gone, said, torch.tensor([9]), torch.tensor([5]), 2)
    assert found[0, :, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 3, 4]
