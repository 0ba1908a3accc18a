"""B'MOJO attention on a GPU: flash-style Triton kernels over window, eidetic and fading tokens.

Same function as `reference.py`. Nothing is concatenated, no mask is stored, and no tensor is read
back by the host, whatever the phases and lengths of the rows: the number of refresh blocks is
bounded from above instead. `torch.compile` sees two opaque operators. The log-sum-exp is kept for
the backward pass; memory is linear in T.
"""

import functools
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op

from solomonic.kernels import triton as device
from solomonic.kernels.attention.recalled import Recalled
from solomonic.kernels.attention.spec import AttentionOutput, AttentionSpec, Carry
from solomonic.kernels.segments import padding_mask, take
from solomonic.kernels.selection import triton as selection

LARGEST_HEAD, MOST_HEADS_A_GROUP = 256, 64
NEVER = 1 << 30
MARGIN = 512
"""Places beyond the window for which rotations are tabulated: more than two tiles."""


class View(NamedTuple):
    """A tensor (B, T, H, D): data, and strides of b, t and h."""

    p: Tensor
    sb: int
    st: int
    sh: int


class Pairs(NamedTuple):
    """Keys and values (B, L, 2, G, D): data, and strides of b, l, key/value and group."""

    p: Tensor
    sb: int
    st: int
    sv: int
    sg: int


def refuses(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
    recalled: Recalled | None = None,
) -> str | None:  # fmt: skip
    """One sentence why the kernels cannot take these arguments, or None."""
    if recalled is not None:
        return "its kernels do not read recalled slots."
    if reason := device.why_not(q):
        return reason
    if kv.dtype == torch.float64 or carry.slot_eps.dtype == torch.float64:
        return device.WIDE
    if q.shape[3] > LARGEST_HEAD:
        return f"heads of {q.shape[3]} are larger than its tiles ({LARGEST_HEAD})."
    if q.shape[2] // kv.shape[3] > MOST_HEADS_A_GROUP:
        return f"more than {MOST_HEADS_A_GROUP} query heads share a key; its tiles hold no more."
    return None


class Settings(NamedTuple):
    """What the kernels are compiled for; see `triton_kernels`."""

    BM: int
    BN: int
    BQ: int
    TPB: int
    D: int
    BD: int
    H: int
    BH: int
    HPG: int
    W: int
    R: int
    M: int
    F: int
    LAG: int
    KIND: str
    DUP: bool
    PAST: bool
    RING: int
    FRING: int
    ROPE: bool
    BACK: bool
    ATOMIC: bool
    MARGIN: int
    SCALE: float
    PREC: str
    UPCAST: bool


class Plan(NamedTuple):
    """The sets as integers, which is what a torch operator can be given; `past`: not fresh."""

    window: int
    refresh: int
    slots: int
    fading: int
    lag: int
    chunked: int
    duplicates: int
    past: int

    @property
    def aligned(self) -> bool:
        """Whether tiles of queries must keep to refresh blocks."""
        return bool(self.slots or (self.chunked and self.fading))

    @property
    def before(self) -> int:
        """Slots and tokens carried from before."""
        return self.slots + max(self.window - 1, 0) if self.past else 0

    def blocks(self, steps: int) -> int:
        """Refresh blocks that a row of any phase may touch with `steps` tokens."""
        return -(-(steps + (self.refresh - 1 if self.past else 0)) // self.refresh)


def attention(
    q: Tensor, kv: Tensor, faded: Tensor | None, eps: Tensor | None,
    carry: Carry, spec: AttentionSpec, lengths: Tensor | None = None, fresh: bool = False,
) -> AttentionOutput:  # fmt: skip
    """Same function as `reference.attention`; `fresh` promises that `carry` is empty.

    `kept` may repeat its last entry: the number of blocks is not read from the device.
    """
    steps = q.shape[1]
    if steps == 0:
        return AttentionOutput(q, carry, carry.slot_time[:, None] if spec.slots else None)
    carry = carry._replace(
        raw=carry.raw.to(kv.dtype), slots=carry.slots.to(kv.dtype), faded=carry.faded.to(kv.dtype)
    )
    tensors = (q, kv, faded, *carry)
    learns = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if steps == 1 and not learns and not torch.compiler.is_compiling():
        from solomonic.kernels.attention.triton_decode import decode

        return decode(q, kv, faded, eps, carry, spec, lengths)
    read = torch.full_like(carry.time, steps) if lengths is None else lengths
    plan = Plan(
        spec.window, spec.refresh, spec.slots if eps is not None else 0,
        spec.fading if faded is not None else 0, spec.lag, int(spec.chunked_fading),
        int(spec.keep_duplicates), int(not fresh),
    )  # fmt: skip
    rows, history, slots = _choose(kv, eps, carry, plan, read)
    none = kv.new_empty(0)
    parts = [q, kv, none, none, none if faded is None else faded, none]
    if plan.past:
        parts[2], parts[3], parts[5] = carry.raw, carry.slots, carry.faded
    out, _ = _attend(parts, [rows, *history], list(plan), spec.rope_theta or 0.0)
    following = Carry(
        time=carry.time + read,
        raw=recent(carry.raw, kv, lengths),
        raw_eps=carry.raw_eps if eps is None else recent(carry.raw_eps, eps, lengths),
        faded=carry.faded if faded is None else recent(carry.faded, faded, lengths),
        slots=slots[0],
        slot_eps=slots[1],
        slot_time=slots[2],
    )
    return AttentionOutput(out, following, slots[3])


def _choose(kv: Tensor, eps: Tensor | None, carry: Carry, plan: Plan, read: Tensor):
    """Where the rows are, which slots every block reads, and the slots each row is left with.

    Returns:
        rows (B, 3), (ref, rel) both (B, n + 1, m), and (pairs, eps, time, kept).
    """
    phase = carry.time % plan.refresh if plan.aligned else torch.zeros_like(carry.time)
    oldest = -carry.time.clamp(max=NEVER)
    rows = torch.stack((phase, oldest, read), dim=1).to(torch.int32)
    if eps is None or not plan.slots:
        nothing = rows.new_empty(0)
        return rows, (nothing, nothing), (carry.slots, carry.slot_eps, carry.slot_time, None)
    steps, ring, slots = kv.shape[1], carry.raw.shape[1], plan.slots
    blocks = plan.blocks(steps)
    with torch.no_grad():
        eps = eps.to(carry.raw_eps.dtype)
        eps = eps.masked_fill(~padding_mask(steps, read), -torch.inf)
        ref = torch.arange(blocks * plan.refresh, device=kv.device) - phase[:, None]
        buffer = torch.cat((carry.raw_eps, eps), dim=1)
        inside = (ref >= -ring) & (ref < steps)
        laid = take(buffer, (ref + ring).clamp(0, ring + steps - 1))
        names = torch.arange(slots, device=kv.device).expand(len(kv), -1) - ring - slots
        best, ref = selection.select(
            laid.masked_fill(~inside, -torch.inf).unflatten(1, (blocks, plan.refresh)),
            ref.unflatten(1, (blocks, plan.refresh)), carry.slot_eps, names,
        )  # fmt: skip
        before = take(carry.slot_time, (ref.flatten(1) + ring + slots).clamp(0, slots - 1))
        time = torch.where(ref >= -ring, ref + carry.time[:, None, None], before.view_as(ref))
        time = time.masked_fill(best == -torch.inf, -1)
        rel = (time - carry.time[:, None, None]).clamp(min=-NEVER).masked_fill(time < 0, NEVER)
        done = torch.div(phase + read, plan.refresh, rounding_mode="floor")
        known = torch.arange(blocks + 1, device=kv.device).minimum(done[:, None])
        last = take(ref, done[:, None])[:, 0]
    pairs = _gathered(last, kv, carry)
    left = (pairs, take(best, done[:, None])[:, 0], take(time, done[:, None])[:, 0])
    return rows, (ref.to(torch.int32), rel.to(torch.int32)), (*left, take(time, known))


def _gathered(ref: Tensor, kv: Tensor, carry: Carry) -> Tensor:
    """Keys and values (B, m, 2, G, D) of slots that lie in new tokens, the ring or the slots."""
    ring, slots = carry.raw.shape[1], carry.slots.shape[1]
    found = take(carry.slots, (ref + ring + slots).clamp(0, slots - 1))
    if ring:
        old = take(carry.raw, (ref + ring).clamp(0, ring - 1))
        found = torch.where((ref >= -ring)[..., None, None, None], old, found)
    new = take(kv, ref.clamp(0, kv.shape[1] - 1))
    return torch.where((ref >= 0)[..., None, None, None], new, found)


def recent(old: Tensor, new: Tensor, lengths: Tensor | None) -> Tensor:
    """The last entries of [old | new], as many as `old` holds, at each row's true length."""
    size, steps = old.shape[1], new.shape[1]
    new = new.to(old.dtype)
    if size == 0:
        return old
    if lengths is None:
        if steps >= size:
            return new[:, steps - size :].clone()  # a view would keep the whole segment alive
        return torch.cat((old[:, steps:], new), dim=1)
    index = lengths[:, None] - size + torch.arange(size, device=new.device)
    mine = (index >= 0).view(*index.shape, *[1] * (new.dim() - 2))
    kept = take(old, (index + size).clamp(0, size - 1))
    return torch.where(mine, take(new, index.clamp(0, steps - 1)), kept)


@custom_op("solomonic::attention_triton", mutates_args=())
@device.on_its_device
def _attend(
    parts: list[Tensor], book: list[Tensor], plan: list[int], theta: float
) -> tuple[Tensor, Tensor]:
    """parts = (q, kv, raw, slots, faded, faded carried), book = (rows, ref, rel)."""
    q, sets = parts[0], Plan(*plan)
    out = q.new_empty(q.shape)
    lse = q.new_empty(q.shape[0], q.shape[2], q.shape[1], dtype=torch.float32)
    query, source, faded = sources(parts)

    def launch(config: device.Config) -> None:
        C = settings(parts, sets, theta, config)
        _kernels().forward[grid_of(q, C, sets)](
            query, source, faded, tuple(book), (view_of(out), lse), table(q, C, theta),
            size_of(q, sets), C, **device.launching(config),
        )  # fmt: skip

    launch(tuned("attention.forward", parts, sets, launch))
    return out, lse


@_attend.register_fake
def _(parts, book, plan, theta):
    q = parts[0]
    lse = q.new_empty(q.shape[0], q.shape[2], q.shape[1], dtype=torch.float32)
    return q.new_empty(q.shape), lse


@custom_op("solomonic::attention_triton_backward", mutates_args=())
@device.on_its_device
def _attend_back(
    parts: list[Tensor], book: list[Tensor], results: list[Tensor], plan: list[int], theta: float
) -> list[Tensor]:
    """Gradients of parts; results = (out, lse, gradient of out)."""
    from solomonic.kernels.attention.triton_backward import gradients

    return gradients(parts, book, results, Plan(*plan), theta)


@_attend_back.register_fake
def _(parts, book, results, plan, theta):
    return [part.new_empty(part.shape) for part in parts]


def _keep(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    parts, book, ctx.plan, ctx.theta = inputs
    ctx.counts = len(parts), len(book)
    ctx.save_for_backward(*parts, *book, *output)


def _differentiate(ctx: Any, dout: Tensor, _dlse: Tensor) -> tuple:
    saved, (one, two) = list(ctx.saved_tensors), ctx.counts
    parts, book, results = saved[:one], saved[one : one + two], saved[one + two :]
    slopes = _attend_back(parts, book, [*results, dout.contiguous()], ctx.plan, ctx.theta)
    return slopes, [None] * two, None, None


_attend.register_autograd(_differentiate, setup_context=_keep)


def sources(parts: list[Tensor]):
    """Queries, (new, carried, slots) and fading (new, carried) as the kernels address them."""
    q, kv, old, slots, faded, faded_old = parts
    source = (pairs_of(kv), pairs_of(old), pairs_of(slots))
    return view_of(q), source, (pairs_of(faded), pairs_of(faded_old))


def view_of(x: Tensor) -> View:
    x = x if x.stride(3) == 1 else x.contiguous()
    return View(x, x.stride(0), x.stride(1), x.stride(2))


def pairs_of(x: Tensor) -> Pairs:
    """x (B, L, 2, G, D), or nothing."""
    if x.dim() != 5:
        return Pairs(x, 0, 0, 0, 0)
    x = x if x.stride(4) == 1 else x.contiguous()
    return Pairs(x, *x.stride()[:4])


def settings(
    parts: list[Tensor], plan: Plan, theta: float, config: device.Config, keys: bool = False
) -> Settings:
    """Compile-time settings of one launch, over tiles of queries or (keys) of keys."""
    q, kv = parts[0], parts[1]
    size, share = q.shape[3], q.shape[2] // kv.shape[3]
    half = size // 2 if theta else size
    tile = max(config["BM"], _power(share))
    aligned = plan.aligned and not keys
    if aligned:
        tile = max(16, min(tile, _power(plan.refresh * share)))
    queries = tile // share
    period = plan.refresh if aligned or keys else queries
    ring = max(plan.window - 1, 0)
    fading_ring = plan.fading + (plan.refresh if plan.chunked else plan.lag) - 1
    return Settings(
        tile, config["BN"], queries, -(-period // queries), size, _power(size), half,
        _power(half), share, plan.window, period, plan.slots, plan.fading, plan.lag,
        "chunk" if plan.chunked else "band", bool(plan.duplicates), bool(plan.past), ring,
        fading_ring if plan.fading else 0, bool(theta), False, True, plan.window + MARGIN,
        math.log2(math.e) / math.sqrt(size), device.product_precision(kv), device.interpreted(),
    )  # fmt: skip


def size_of(q: Tensor, plan: Plan) -> tuple[int, int, int]:
    """(T, n + 1, H)."""
    return q.shape[1], plan.blocks(q.shape[1]) + 1, q.shape[2]


def grid_of(q: Tensor, C: Settings, plan: Plan) -> tuple[int, int, int]:
    """(tiles of queries, groups, rows)."""
    blocks = plan.blocks(q.shape[1]) if plan.aligned else -(-q.shape[1] // C.BQ)
    return blocks * C.TPB, q.shape[2] // C.HPG, len(q)


def table(q: Tensor, C: Settings, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the places -MARGIN .. MARGIN of RoPE, or stand-ins."""
    if not theta:
        return q, q
    return _rotations(q.device, C.MARGIN, C.H, theta)


@functools.lru_cache(maxsize=16)
def _rotations(where: torch.device, reach: int, half: int, theta: float) -> tuple[Tensor, Tensor]:
    place = torch.arange(-reach, reach + 1, device=where, dtype=torch.float64)
    power = torch.arange(half, device=where, dtype=torch.float64) / half
    angle = place[:, None] * theta**-power
    return angle.cos().float(), angle.sin().float()


CONFIGS: list[device.Config] = [
    {"BM": rows, "BN": keys, "num_warps": warps, "num_stages": stages}
    for rows, keys, warps, stages in (
        (64, 64, 4, 3), (128, 64, 8, 3), (128, 128, 8, 2), (64, 32, 4, 4), (128, 64, 4, 2),
        (32, 64, 4, 3), (64, 128, 4, 2),
    )
]  # fmt: skip
INTERPRETED: list[device.Config] = [{"BM": 16, "BN": 16, "num_warps": 4, "num_stages": 1}]


def tuned(name: str, parts: list[Tensor], plan: Plan, launch, configs=CONFIGS) -> device.Config:
    """The tile sizes for these sets and heads."""
    q, kv = parts[0], parts[1]
    configs = INTERPRETED if device.interpreted() else configs
    key = (q.dtype, q.shape[2], kv.shape[3], q.shape[3], *plan)
    return device.tune(name, key, configs, launch)


def _power(size: int) -> int:
    """The least power of two that holds `size` and is a side of a tile."""
    return max(16, 1 << (size - 1).bit_length())


def _kernels() -> Any:
    """The device functions; loading them imports Triton."""
    from solomonic.kernels.attention import triton_kernels

    return triton_kernels
