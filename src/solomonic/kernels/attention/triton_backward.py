"""The backward pass of B'MOJO attention on a GPU: which kernels run, and where gradients meet.

A token's gradient comes from the window and, once it is kept, from every later refresh block. Both
are summed in float32 in one pool [carried slots | carried tokens | new tokens]: the window writes,
then the slots add, atomically or, where torch asks for determinism, in a fixed order.
"""

from typing import Any

import torch
from torch import Tensor

from solomonic.kernels import triton as device
from solomonic.kernels.attention import triton as forward
from solomonic.kernels.attention.triton import Plan


def gradients(
    parts: list[Tensor], book: list[Tensor], results: list[Tensor], plan: Plan, theta: float
) -> list[Tensor]:
    """Gradients of parts = (q, kv, raw, slots, faded, faded carried).

    Args:
        results: outputs, their log-sum-exp and the gradient of the outputs.
    """
    out, lse, dout = results
    product, dq = torch.empty_like(lse), parts[0].new_empty(parts[0].shape)
    query, source, faded = forward.sources(parts)
    rest = (tuple(book), forward.view_of(dout), forward.view_of(out), lse, product)

    def launch(config: dict[str, int]) -> None:
        C = forward.settings(parts, plan, theta, config)._replace(BACK=True)
        grads = (*rest[1:], forward.view_of(dq))
        _kernels().queries[forward.grid_of(parts[0], C, plan)](
            query, source, faded, rest[0], grads, forward.table(parts[0], C, theta),
            forward.size_of(parts[0], plan), C, **device.launching(config),
        )  # fmt: skip

    launch(forward.tuned("attention.queries", parts, plan, launch))
    passed = (forward.view_of(dout), lse, product)
    dkv, draw, dslots = _raw(parts, book, passed, plan, theta)
    dfaded, dfaded_old = (part.new_zeros(part.shape) for part in parts[4:])
    if plan.fading:
        kind = "chunk" if plan.chunked else "band"
        _tokens(parts, (book[0], *passed), (dfaded, dfaded_old), kind, plan, theta)
    return [dq, dkv, draw, dslots, dfaded, dfaded_old]


def _raw(parts, book, passed, plan: Plan, theta: float) -> list[Tensor]:
    """Gradients of new tokens, carried tokens and carried slots."""
    kv, old, carried = parts[1:4]
    slots, extra = plan.slots, plan.before
    exact = torch.float32 if slots else kv.dtype
    pool = kv.new_empty(len(kv), extra + kv.shape[1], *kv.shape[2:], dtype=exact)
    deterministic = torch.are_deterministic_algorithms_enabled()
    add = _slots(parts, book, passed, plan, theta) if slots else None
    config = None
    if add and not deterministic:
        config = forward.tuned("attention.slots", parts, plan, lambda c: add(c, pool, True))
    pool.zero_()
    new, before = pool[:, extra:], pool[:, min(slots, extra) : extra]
    if plan.window:
        _tokens(parts, (book[0], *passed), (new, before), "window", plan, theta)
    if add and config:
        add(config, pool, True)
    elif add:
        _add_in_order(add, parts, book[1], pool, plan)
    new = new.to(kv.dtype).contiguous()
    if not plan.past:
        return [new, old.new_empty(0), carried.new_empty(0)]
    return [new, before.to(kv.dtype).clone(), pool[:, :slots].to(kv.dtype).clone()]


def _slots(parts, book, passed, plan: Plan, theta: float):
    """A function that launches the kernel of the slots with one set of tile sizes."""
    query, source, _ = forward.sources(parts)
    q, group = parts[0], parts[1].shape[3]

    def add(config: dict[str, int], target: Tensor, atomic: bool) -> None:
        C = forward.settings(parts, plan, theta, config)._replace(ATOMIC=atomic)
        tiles = -(-plan.slots // C.BN) * plan.blocks(q.shape[1])
        _kernels().slots[(tiles, group, len(q))](
            query, source, tuple(book), passed, forward.pairs_of(target),
            forward.table(q, C, theta), forward.size_of(q, plan), C, **device.launching(config),
        )  # fmt: skip

    return add


def _add_in_order(add, parts, ref: Tensor, pool: Tensor, plan: Plan) -> None:
    """Add the slots' gradients to the pool by a sort instead of atomically."""
    kv, blocks = parts[1], plan.blocks(parts[1].shape[1])
    shares = pool.new_empty(len(kv), blocks * plan.slots, *kv.shape[2:])
    add(
        forward.tuned("attention.slots", parts, plan, lambda c: add(c, shares, False)),
        shares,
        False,
    )
    place = (ref[:, :-1].flatten(1).long() + plan.before).clamp(min=0)  # empty slots add zeros
    row = torch.arange(len(kv), device=kv.device)[:, None].expand_as(place)
    pool.index_put_((row, place), shares, accumulate=True)


def _tokens(parts, passed, targets, kind: str, plan: Plan, theta: float) -> None:
    """Gradients of the tokens that a window or a fading memory shows; passed = (rows, *grads)."""
    query, source, faded = forward.sources(parts)
    q, shown = parts[0], source if kind == "window" else faded
    grads = tuple(forward.pairs_of(part) for part in targets)

    def launch(config: dict[str, int]) -> None:
        C = forward.settings(parts, plan, theta, config, keys=True)._replace(KIND=kind)
        ring = C.RING if kind == "window" else C.FRING
        tiles = -(-q.shape[1] // C.BN) + (-(-ring // C.BN) if C.PAST else 0)
        _kernels().tokens[(tiles, shown[0].p.shape[3], len(q))](
            query, shown[:2], passed[0], passed[1:], grads, forward.table(q, C, theta),
            (q.shape[1], q.shape[2]), C, **device.launching(config),
        )  # fmt: skip

    launch(forward.tuned(f"attention.{kind}", parts, plan, launch))


def _kernels() -> Any:
    """The device functions; loading them imports Triton."""
    from solomonic.kernels.attention import triton_gradients

    return triton_gradients
