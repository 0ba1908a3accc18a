"""Inputs for the native forms: one function a kind of call, all seeded, in float64."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from solomonic import kernels
from solomonic.kernels import AttentionSpec, empty_carry

Arguments = list[Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of an op. inputs: names of what gets a gradient, in the order of the arguments."""

    op: str
    make: Callable[[], Arguments]
    name: str

    def arguments(self, dtype: torch.dtype) -> Arguments:
        """Fresh arguments whose real numbers have this type and want gradients."""
        torch.manual_seed(7)
        made = [cast(x, dtype) for x in self.make()]
        if self.op == "attention" and made[3] is not None:  # innovations carry no gradient
            made[3] = made[3].detach()
        return made


def cast(x: Any, dtype: torch.dtype) -> Any:
    """Tensors of real numbers, inside a carry too; what never carries a gradient stays wide."""
    if isinstance(x, kernels.Carry):
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        kinds = {"raw_eps": wide, "slot_eps": wide}
        parts = {k: cast(v, kinds.get(k, dtype)) for k, v in x._asdict().items()}
        return kernels.Carry(**{k: v.detach() if k in kinds else v for k, v in parts.items()})
    if isinstance(x, Tensor) and x.is_floating_point():
        return x.detach().to(dtype).requires_grad_()
    return x


def inputs(arguments: Sequence[Any]) -> list[Tensor]:
    """Everything a gradient can be asked of."""
    found = []
    for x in arguments:
        if isinstance(x, kernels.Carry):
            found += inputs(list(x))
        elif isinstance(x, Tensor) and x.requires_grad:
            found.append(x)
    return found


def outputs(result: Any, arguments: Arguments) -> list[Tensor]:
    """The real numbers of an op's result that are defined: nothing behind a row's length, nothing
    in an empty slot."""
    if isinstance(result, Tensor):
        return [result]
    if not isinstance(result, kernels.AttentionOutput):
        return list(result)
    out, carry, lengths = result.out, result.carry, arguments[6]
    if lengths is not None:
        out = out * (torch.arange(out.shape[1]) < lengths[:, None])[..., None, None]
    filled = (carry.slot_time >= 0)[..., None, None, None]
    return [out, carry.raw, carry.faded, carry.slots * filled]


def ssd(rows: int, steps: int, heads: int, sizes: tuple[int, int], chunk: int = 64) -> Arguments:
    width, state = sizes
    dt = torch.rand(rows, steps, heads) * 0.3
    dt[:, 2:4] = 0  # padding
    return [
        torch.randn(rows, steps, heads, width), dt, -8 * torch.rand(heads) - 0.5,
        torch.randn(rows, steps, state), torch.randn(rows, steps, state),
        torch.randn(rows, heads, width, state), chunk,
    ]  # fmt: skip


def conv(
    rows: int, steps: int, channels: int, taps: int, bias: bool = True, padded: bool = False
) -> Arguments:
    return [
        torch.randn(rows, steps, channels), torch.randn(channels, 1, taps),
        torch.randn(channels) if bias else None, torch.randn(rows, taps - 1, channels),
        torch.randint(0, steps + 1, (rows,)) if padded else None,
    ]  # fmt: skip


def delta(rows: int, steps: int, heads: int, sizes: tuple[int, int], chunk: int = 64) -> Arguments:
    width, state = sizes
    decay, beta = -torch.rand(rows, steps, heads), torch.rand(rows, steps, heads)
    decay[:, 2:4], beta[:, 2:4] = 0, 0  # padding
    key = torch.randn(rows, steps, heads, state)
    return [
        torch.randn(rows, steps, heads, state), torch.nn.functional.normalize(key, dim=-1),
        torch.randn(rows, steps, heads, width), decay, beta,
        torch.randn(rows, heads, state, width), chunk,
    ]  # fmt: skip


def linear(shape: tuple[int, ...], outs: int) -> Arguments:
    return [torch.randn(*shape), torch.randn(outs, shape[-1])]


def attention(
    spec: AttentionSpec, steps: int, before: int = 0, heads: tuple[int, int] = (4, 2),
    size: int = 6, padded: bool = False,
) -> Arguments:  # fmt: skip
    """Rows that have read `before`, before + 3 and before + 6 tokens (0: all fresh)."""
    rows = 3

    def segment(count: int) -> Arguments:
        faded = torch.randn(rows, count, 2, heads[1], size) if spec.fading else None
        # Few values of innovation, so that ties are met; all exact in every type.
        eps = torch.randint(0, 9, (rows, count)) / 8 if spec.slots else None
        return [
            torch.randn(rows, count, heads[0], size), torch.randn(rows, count, 2, heads[1], size),
            faded, None if eps is None else eps.double(),
        ]  # fmt: skip

    carry = empty_carry(spec, rows, heads[1], size, torch.zeros(0, dtype=torch.float64))
    if before:
        lengths = before + 3 * torch.arange(rows)
        past = [None if x is None else x.double() for x in segment(before + 6)]
        carry = kernels.attention.blocks(*past, carry, spec, lengths).carry
    lengths = torch.tensor([steps, steps // 2, 0]) if padded else None
    return [*segment(steps), carry, spec, lengths, not before]


def _specs() -> list[AttentionSpec]:
    make = AttentionSpec
    return [
        make(window=5, refresh=5),
        make(window=8, refresh=4, slots=5, fading=2, lag=3),
        make(window=8, refresh=8, slots=16, fading=3, lag=8, chunked_fading=True),
        make(window=9, refresh=3, slots=5, fading=1, lag=0, keep_duplicates=True),
        make(window=6, refresh=5, slots=4, fading=1, lag=6, rope_theta=50.0),
        make(window=0, refresh=1, fading=1, lag=0),
        make(window=1, refresh=1, slots=3, fading=2, lag=1, chunked_fading=True),
        make(window=140, refresh=100, slots=20, fading=1, lag=2, rope_theta=1e4),
    ]


def _all() -> list[Case]:
    found = []

    def add(op: str, name: str, make: Callable, *args: Any, **settings: Any) -> None:
        found.append(Case(op, partial(make, *args, **settings), f"{op}-{name}"))

    for rows, steps, heads, sizes, chunk in (
        (1, 1, 2, (5, 7), 64), (2, 37, 3, (8, 4), 4), (3, 130, 5, (20, 33), 64),
        (9, 65, 1, (4, 8), 64),
    ):  # fmt: skip
        add("ssd", f"{rows}x{steps}x{heads}", ssd, rows, steps, heads, sizes, chunk)
    for rows, steps, channels, taps in (
        (2, 1, 9, 4), (2, 37, 20, 4), (1, 70, 131, 2), (3, 9, 33, 1), (2, 11, 17, 6), (2, 20, 5, 3),
    ):  # fmt: skip
        for bias, padded in ((True, False), (False, True)):
            name = f"{steps}x{channels}x{taps}{'' if bias else '-padded'}"
            add("conv", name, conv, rows, steps, channels, taps, bias, padded)
    for rows, steps, heads, sizes, chunk in (
        (1, 1, 2, (5, 7), 64), (2, 37, 3, (8, 4), 4), (2, 130, 2, (20, 33), 64),
        (1, 65, 3, (40, 8), 64),
    ):  # fmt: skip
        add("delta", f"{rows}x{steps}x{heads}", delta, rows, steps, heads, sizes, chunk)
    for shape, outs in (((33, 5), 7), ((3, 67, 130), 65), ((1, 400, 40), 129)):
        add("linear", f"{shape[-1]}x{outs}", linear, shape, outs)
    for index, spec in enumerate(_specs()):
        add("attention", f"{index}-fresh", attention, spec, 37)
        add("attention", f"{index}-padded", attention, spec, 23, before=4, padded=True)
        add("attention", f"{index}-one", attention, spec, 1, before=2)
    add("attention", "long", attention, _specs()[-1], 230, before=30, heads=(2, 2), size=20)
    return found


CASES = _all()
EXACT = {
    "ssd": "reference", "delta": "reference", "conv": "reference", "attention": "reference",
    "linear": "torch",
}  # fmt: skip
