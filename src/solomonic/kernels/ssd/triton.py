"""State-space duality on a GPU: Triton kernels behind two torch operators, forward and backward.

`torch.compile` sees the operators as two opaque functions. Memory is linear in T, and only the
inputs are kept for the backward pass: the states of the chunks are computed again. A single token
without gradient takes a kernel of its own, which reads and writes the state once.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op

from solomonic.kernels import triton as device

LARGEST_HEAD, LARGEST_STATE = 128, 256
CONFIGS: list[device.Config] = [
    {"Q": size, "num_warps": warps} for size, warps in ((64, 4), (64, 8), (128, 8))
]
INTERPRETED: list[device.Config] = [{"Q": 16, "num_warps": 4}]


class View(NamedTuple):
    """A tensor (B, T, [H,] D) as kernels see it: data, and strides of b, t and h."""

    p: Tensor
    sb: int
    st: int
    sh: int


class Settings(NamedTuple):
    """What the kernels are compiled for; see `triton_kernels`."""

    Q: int
    P: int
    N: int
    BP: int
    BN: int
    HEADS: int
    BLOCK: int
    BACK: bool
    SPLIT: bool
    PREC: str
    UPCAST: bool


def refuses(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, h: Tensor, chunk: int = 64
) -> str | None:
    """One sentence why the kernels cannot take these arguments, or None."""
    if reason := device.why_not(x):
        return reason
    if any(part.dtype == torch.float64 for part in (dt, rate, b, c, h)):
        return device.WIDE
    if x.shape[3] > LARGEST_HEAD or b.shape[2] > LARGEST_STATE:
        return (
            f"heads of {x.shape[3]} or states of {b.shape[2]} are larger than its tiles "
            f"({LARGEST_HEAD} and {LARGEST_STATE})."
        )
    return None


def ssd(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, h: Tensor, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Same function as `reference.ssd`; the chunk size is the kernels' own."""
    b, c, h = b.to(x.dtype), c.to(x.dtype), h.to(torch.float32)
    if x.shape[1] == 0 or x.numel() == 0:
        return x, h
    learns = torch.is_grad_enabled() and any(p.requires_grad for p in (x, dt, rate, b, c, h))
    if x.shape[1] == 1 and not learns and not torch.compiler.is_compiling():
        return _step(x, dt, rate, b, c, h)
    return _forward(x, dt, rate, b, c, h)


@custom_op("solomonic::ssd_triton", mutates_args=())
@device.on_its_device
def _forward(
    x: Tensor, dt: Tensor, rate: Tensor, b: Tensor, c: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    y, last = _results(x, h)
    views = _views(x, dt, b, c)
    h = h.contiguous()

    def launch(config: device.Config) -> None:
        C, size, groups, warps = _settings(x, b, config)
        before = _states(views, rate, h, last, C, warps)
        grid = (size[1], groups, len(x))
        v = views
        _kernels().outputs[grid](
            v[0],
            v[1],
            rate,
            (v[2], v[3]),
            before,
            _view(y),
            size,
            C,
            num_warps=warps,
            **device.FUSED,
        )

    launch(_tuned("ssd.forward", x, b, launch))
    return y, last


@_forward.register_fake
def _(x, dt, rate, b, c, h):
    return _results(x, h)


def _results(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Unwritten y and last state, contiguous whatever the inputs are."""
    return x.new_empty(x.shape), h.new_empty(h.shape)


@custom_op("solomonic::ssd_triton_backward", mutates_args=())
@device.on_its_device
def _backward(
    inputs: list[Tensor], dy: Tensor, dlast: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, dt, rate, b, c, h = inputs
    h, dlast = h.contiguous(), dlast.contiguous()
    views, slope = _views(x, dt, b, c), _views(dy)[0]
    dx, ddt = torch.empty_like(dy), torch.empty(dt.shape, dtype=torch.float32, device=x.device)
    dh, last = torch.empty_like(h), torch.empty_like(h)
    sums: list[Tensor] = []

    def launch(config: device.Config) -> None:
        C, size, groups, warps = _settings(x, b, config)
        v = views
        before = _states(v, rate, h, last, C, warps)
        back = (slope, v[1], v[3], v[3])
        after = _states(back, rate, dlast, dh, C._replace(BACK=True), warps)
        shared = x.new_empty(2, groups, *b.shape, dtype=torch.float32)
        drate = x.new_empty(len(x), size[1], size[2], dtype=torch.float32)
        parts = [View(p, p.stride(1), p.stride(2), p.stride(0)) for p in shared]
        _kernels().gradients[(size[1], groups, len(x))](
            v[0], v[1], rate, (v[2], v[3], slope), (before, after),
            (_view(dx), _view(ddt[..., None]), *parts, drate), size, C,
            num_warps=warps, **device.FUSED,
        )  # fmt: skip
        sums[:] = [shared[0].sum(0), shared[1].sum(0), drate.sum((0, 1))]

    launch(_tuned("ssd.backward", x, b, launch))
    db, dc, drate = sums
    return dx, ddt.to(dt.dtype), drate.to(rate.dtype), db.to(b.dtype), dc.to(c.dtype), dh


@_backward.register_fake
def _(inputs, dy, dlast):
    return tuple(torch.empty(part.shape, dtype=part.dtype, device=part.device) for part in inputs)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: object) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor, ...]:
    return _backward(list(ctx.saved_tensors), dy.contiguous(), dlast)


_forward.register_autograd(_differentiate, setup_context=_keep)


@device.on_its_device
def _step(x, dt, rate, b, c, h) -> tuple[Tensor, Tensor]:
    """One token without gradient."""
    h = h.contiguous()
    new = h if device.donated() else torch.empty_like(h)
    y = x.new_empty(x.shape)
    C, size, _, _ = _settings(x, b, INTERPRETED[0])
    tile = min(C.BP, max(1, 4096 // C.BN))  # 32 KB of state in flight a program
    v = _views(x, dt, b, c)
    grid = (size[2], len(x), -(-C.P // tile))
    _kernels().step[grid](
        v[0],
        v[1],
        rate,
        (v[2], v[3]),
        (h, new),
        y,
        size[2],
        C._replace(BP=tile),
        num_warps=4,
        **device.FUSED,
    )
    return y, new


def _states(views, rate: Tensor, first: Tensor, last: Tensor, C: Settings, warps: int) -> Tensor:
    """The state before every chunk, or (C.BACK) the gradient of the state after it.

    Returns:
        (B, n, H, P, N), in bfloat16 when the products are; float16 would overflow.
    """
    x = views[0].p
    rows, steps, heads = x.shape[:3]
    count, area = -(-steps // C.Q), C.P * C.N
    added = x.new_empty(rows, count, heads, C.P, C.N, dtype=torch.float32)
    totals = x.new_empty(rows, count, heads, dtype=torch.float32)
    narrow = x.dtype == torch.bfloat16
    before = torch.empty_like(added, dtype=torch.bfloat16) if narrow else added
    _kernels().chunk_states[(count, heads, rows)](
        views[0], views[2], views[1], rate, (added, totals), (steps, count, heads), C,
        num_warps=warps, **device.FUSED,
    )  # fmt: skip
    _kernels().pass_states[(-(-area // C.BLOCK), heads, rows)](
        first, added, totals, before, last, (count, heads, area), C, num_warps=4, **device.FUSED
    )
    return before


def _settings(x: Tensor, b: Tensor, config: device.Config):
    """Compile-time settings, (T, chunks, H), groups of heads and warps."""
    rows, steps, heads, head = x.shape
    chunks = -(-steps // config["Q"])
    groups = _groups(heads, rows * chunks, device.processors(x.device))
    low = x.dtype != torch.float32
    C = Settings(
        config["Q"], head, b.shape[2], _power(head), _power(b.shape[2]), heads // groups, 1024,
        False, low, device.product_precision(x), device.interpreted(),
    )  # fmt: skip
    return C, (steps, chunks, heads), groups, config["num_warps"]


def _groups(heads: int, programs: int, processors: int) -> int:
    """Into how many programs the heads of a chunk are split: enough to fill the device twice."""
    wanted = -(-2 * processors // programs)
    return next(n for n in range(1, heads + 1) if heads % n == 0 and (n >= wanted or n == heads))


def _tuned(name: str, x: Tensor, b: Tensor, launch) -> device.Config:
    configs = INTERPRETED if device.interpreted() else CONFIGS
    return device.tune(name, (x.dtype, x.shape[2], x.shape[3], b.shape[2]), configs, launch)


def _views(x: Tensor, *others: Tensor) -> list[View]:
    """Views of x (B, T, H, P), dt (B, T, H) and b, c (B, T, N), rows made contiguous."""
    found = [_view(x)]
    for index, part in enumerate(others):
        found.append(_view(part[..., None]) if index == 0 else _view(part[:, :, None]))
    return found


def _view(x: Tensor) -> View:
    """x (B, T, H, D); copied only when its last dimension is not contiguous."""
    if x.stride(3) != 1 and x.shape[3] > 1:
        x = x.contiguous()
    return View(x, x.stride(0), x.stride(1), x.stride(2))


def _kernels() -> Any:
    """The device functions; loading them imports Triton."""
    from solomonic.kernels.ssd import triton_kernels

    return triton_kernels


def _power(size: int) -> int:
    """The least power of two that holds `size` and is a side of a tile."""
    return max(16, 1 << (size - 1).bit_length())
