"""Triton kernels of the state-space recurrence: chunk states, the pass over chunks, outputs, and
their gradients. Importing this imports Triton; `triton.py` beside it launches.

Source: Dao and Gu, arXiv 2405.21060, section 6. With a_i the sum of log decays of a chunk up to and
including token i, A their total and u_j = dt_j x_j:
    y_i = sum_{j <= i} exp(a_i - a_j) (c_i.b_j) u_j  +  exp(a_i) H c_i       H: state before
    H'  = exp(A) H + sum_j exp(A - a_j) u_j b_j^T                            H': state after
b and c are shared by the heads, so one program takes one chunk and several heads and computes
c b^T once. Letters: Q tokens of a chunk, P head size, N state size (as powers of two BP, BN).
"""

# Compile-time settings are NamedTuples that Triton unwraps and pyright cannot follow.
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportCallIssue=false

import triton
import triton.language as tl

from solomonic.kernels.triton_math import dot, narrow


@triton.jit
def load_tile(m, row, head, t, D: tl.constexpr, BD: tl.constexpr, steps):
    """(Q, BD) entries of a tensor (B, T, [H,] D), zero outside; m = (p, stride b, t, h)."""
    d = tl.arange(0, BD)
    at = m.p + row * m.sb + head * m.sh + t.to(tl.int64)[:, None] * m.st + d[None, :]
    return tl.load(at, mask=(t < steps)[:, None] & (d < D)[None, :], other=0.0)


@triton.jit
def store_tile(m, x, at, t, D: tl.constexpr, BD: tl.constexpr, steps, C: tl.constexpr):
    """The inverse of `load_tile`; at = (row, head)."""
    d = tl.arange(0, BD)
    to = m.p + at[0] * m.sb + at[1] * m.sh + t.to(tl.int64)[:, None] * m.st + d[None, :]
    tl.store(to, narrow(x, m.p.dtype.element_ty, C), mask=(t < steps)[:, None] & (d < D)[None, :])


@triton.jit
def load_state(s, index, C: tl.constexpr):
    """(BP, BN) matrix number `index` of a contiguous (..., P, N) buffer."""
    p, n = tl.arange(0, C.BP), tl.arange(0, C.BN)
    at = s + index.to(tl.int64) * C.P * C.N + p[:, None] * C.N + n[None, :]
    return tl.load(at, mask=(p < C.P)[:, None] & (n < C.N)[None, :], other=0.0)


@triton.jit
def decays(dt, rate, row, head, t, steps):
    """dt (Q,) in float32, 0 behind the end, and the running sum of log decays."""
    step = tl.load(
        dt.p + row * dt.sb + head * dt.sh + t.to(tl.int64) * dt.st, mask=t < steps, other=0.0
    )
    step = step.to(tl.float32)
    log_decay = step * tl.load(rate + head).to(tl.float32)
    return step, log_decay


@triton.jit
def chunk_states(x, b, dt, rate, out, size, C: tl.constexpr):
    """What each chunk adds to the state, or (C.BACK) to the gradient of the state before it.

    Forward: sum_j dt_j exp(A - a_j) x_j b_j^T. Backward, with x = dy and b = c: sum_i exp(a_i) dy_i
    c_i^T. out = (states (B, n, H, P, N) float32, totals (B, n, H)); size = (T, n, H).
    """
    chunk, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    t = chunk * C.Q + tl.arange(0, C.Q)
    step, log_decay = decays(dt, rate, row, head, t, size[0])
    a, total = tl.cumsum(log_decay, 0), tl.sum(log_decay, 0)
    weight = tl.exp(a) if C.BACK else step * tl.exp(total - a)
    left = load_tile(x, row, head, t, C.P, C.BP, size[0])
    right = load_tile(b, row, 0, t, C.N, C.BN, size[0])
    wide = left.to(tl.float32) * weight[:, None]
    high = narrow(wide, left.dtype, C)
    state = dot(tl.trans(high), right, C)
    if C.SPLIT:  # the state is float32: what bfloat16 rounds away is a second product
        low = narrow(wide - high.to(tl.float32), left.dtype, C)
        state += dot(tl.trans(low), right, C)
    p, n = tl.arange(0, C.BP), tl.arange(0, C.BN)
    index = (row * size[1] + chunk) * size[2] + head
    to = out[0] + index * C.P * C.N + p[:, None] * C.N + n[None, :]
    tl.store(to, state, mask=(p < C.P)[:, None] & (n < C.N)[None, :])
    tl.store(out[1] + index, total)


@triton.jit
def pass_states(first, added, totals, before, last, size, C: tl.constexpr):
    """Run the recurrence over the chunks, one element of the state a lane.

    before[n] = the state before chunk n (C.BACK: the gradient of the state after it), last = the
    state after all (C.BACK: the gradient of the first). `before` may be `added`.
    size = (n, H, P N).
    """
    head, row = tl.program_id(1), tl.program_id(2).to(tl.int64)
    e = tl.program_id(0) * C.BLOCK + tl.arange(0, C.BLOCK)
    inside = e < size[2]
    state = tl.load(first + (row * size[1] + head) * size[2] + e, mask=inside, other=0.0)
    for i in range(size[0]):
        chunk = size[0] - 1 - i if C.BACK else i
        index = (row * size[0] + chunk) * size[1] + head
        fade = tl.exp(tl.load(totals + index))
        new = tl.load(added + index * size[2] + e, mask=inside, other=0.0)
        tl.store(
            before + index * size[2] + e, narrow(state, before.dtype.element_ty, C), mask=inside
        )
        state = fade * state + new
    tl.store(last + (row * size[1] + head) * size[2] + e, state, mask=inside)


@triton.jit
def outputs(x, dt, rate, bc, before, y, size, C: tl.constexpr):
    """y of one chunk and C.HEADS heads; bc = (b, c); before (B, n, H, P, N); size = (T, n, H)."""
    chunk, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    i = tl.arange(0, C.Q)
    t = chunk * C.Q + i
    b = load_tile(bc[0], row, 0, t, C.N, C.BN, size[0])
    c = load_tile(bc[1], row, 0, t, C.N, C.BN, size[0])
    similar = dot(c, tl.trans(b), C)
    for k in range(C.HEADS):
        head = tl.program_id(1) * C.HEADS + k
        step, log_decay = decays(dt, rate, row, head, t, size[0])
        a = tl.cumsum(log_decay, 0)
        gap = tl.where(i[:, None] >= i[None, :], a[:, None] - a[None, :], -float("inf"))
        values = load_tile(x, row, head, t, C.P, C.BP, size[0])
        weight = similar * tl.exp(gap) * step[None, :]
        state = load_state(before, (row * size[1] + chunk) * size[2] + head, C)
        carried = dot(c.to(state.dtype), tl.trans(state), C)
        result = dot(narrow(weight, values.dtype, C), values, C) + carried * tl.exp(a)[:, None]
        store_tile(y, result, (row, head), t, C.P, C.BP, size[0], C)


@triton.jit
def gradients(x, dt, rate, bc, states, grads, size, C: tl.constexpr):
    """Every gradient of one chunk and C.HEADS heads.

    bc = (b, c, dy); states = (before, after): H and the gradient of H', (B, n, H, P, N); grads =
    (dx, ddt, db, dc, drate): db and dc (groups, B, T, N) and drate (B, n, H) are summed outside.
    """
    chunk, group, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    t = chunk * C.Q + tl.arange(0, C.Q)
    b = load_tile(bc[0], row, 0, t, C.N, C.BN, size[0])
    c = load_tile(bc[1], row, 0, t, C.N, C.BN, size[0])
    similar = dot(c, tl.trans(b), C)
    db = tl.zeros((C.Q, C.BN), tl.float32)
    dc = tl.zeros((C.Q, C.BN), tl.float32)
    for k in range(C.HEADS):
        head = group * C.HEADS + k
        index = (row * size[1] + chunk) * size[2] + head
        step, log_decay = decays(dt, rate, row, head, t, size[0])
        values = load_tile(x, row, head, t, C.P, C.BP, size[0])
        dy = load_tile(bc[2], row, head, t, C.P, C.BP, size[0])
        local = within(similar, values, dy, (step, log_decay), b, c, C)
        h, dh = load_state(states[0], index, C), load_state(states[1], index, C)
        far = across(h, dh, values, dy, (step, log_decay), b, c, C)
        du = local[0] + far[0]
        db += local[1] + far[1]
        dc += local[2] + far[2]
        # A log decay is felt by what enters before it and is read at or after it.
        read, wrote = local[3] + far[3], local[4]
        slope = tl.cumsum(read - wrote, 0, reverse=True) + tl.cumsum(far[4], 0) - far[4] + far[5]
        own = tl.sum(du * values.to(tl.float32), 1)
        store_tile(grads[0], du * step[:, None], (row, head), t, C.P, C.BP, size[0], C)
        to = grads[1].p + row * grads[1].sb + head * grads[1].sh + t.to(tl.int64) * grads[1].st
        tl.store(to, own + slope * tl.load(rate + head).to(tl.float32), mask=t < size[0])
        tl.store(grads[4] + index, tl.sum(slope * step, 0))
    store_tile(grads[2], db, (row, group), t, C.N, C.BN, size[0], C)
    store_tile(grads[3], dc, (row, group), t, C.N, C.BN, size[0], C)


@triton.jit
def within(similar, x, dy, pace, b, c, C: tl.constexpr):
    """Gradients through the pairs of one chunk: (du, db, dc, read (Q,), wrote (Q,))."""
    i = tl.arange(0, C.Q)
    step, log_decay = pace
    a = tl.cumsum(log_decay, 0)
    gap = tl.where(i[:, None] >= i[None, :], a[:, None] - a[None, :], -float("inf"))
    decay = tl.exp(gap)
    slope = dot(dy, tl.trans(x), C) * decay * step[None, :]
    weight = similar * decay
    du = dot(tl.trans(narrow(weight, dy.dtype, C)), dy, C)
    sloped = narrow(slope, b.dtype, C)
    pairs = tl.where(i[:, None] > i[None, :], similar * slope, 0.0)
    db, dc = dot(tl.trans(sloped), c, C), dot(sloped, b, C)
    return du, db, dc, tl.sum(pairs, 1), tl.sum(pairs, 0)


@triton.jit
def across(h, dh, x, dy, pace, b, c, C: tl.constexpr):
    """Gradients through the states: (du, db, dc, read (Q,), entered (Q,), kept ())."""
    step, log_decay = pace
    a, total = tl.cumsum(log_decay, 0), tl.sum(log_decay, 0)
    rise, fall = tl.exp(a), tl.exp(total - a)
    du = dot(b.to(dh.dtype), tl.trans(dh), C) * fall[:, None]
    db = dot(x.to(dh.dtype), dh, C) * (fall * step)[:, None]
    dc = dot(dy.to(h.dtype), h, C) * rise[:, None]
    read = tl.sum(dc * c.to(tl.float32), 1)
    entered = tl.sum(db * b.to(tl.float32), 1)
    kept = tl.exp(total) * tl.sum(tl.sum(h.to(tl.float32) * dh.to(tl.float32), 1), 0)
    return du, db, dc, read, entered, kept


@triton.jit
def step(x, dt, rate, bc, states, y, heads, C: tl.constexpr):
    """One token: states = (h, h') (B, H, P, N), the same buffer when the caller gave it away."""
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    p = tl.program_id(2) * C.BP + tl.arange(0, C.BP)
    n = tl.arange(0, C.BN)
    size = tl.load(dt.p + row * dt.sb + head * dt.sh).to(tl.float32)
    decay = tl.exp(size * tl.load(rate + head).to(tl.float32))
    value = tl.load(x.p + row * x.sb + head * x.sh + p, mask=p < C.P, other=0.0).to(tl.float32)
    b = tl.load(bc[0].p + row * bc[0].sb + n, mask=n < C.N, other=0.0).to(tl.float32)
    c = tl.load(bc[1].p + row * bc[1].sb + n, mask=n < C.N, other=0.0).to(tl.float32)
    at = (row * heads + head) * C.P * C.N + p[:, None] * C.N + n[None, :]
    inside = (p < C.P)[:, None] & (n < C.N)[None, :]
    h = tl.load(states[0] + at, mask=inside, other=0.0)
    h = decay * h + (size * value)[:, None] * b[None, :]
    tl.store(states[1] + at, h, mask=inside)
    result = tl.sum(h * c[None, :], 1)
    tl.store(
        y + (row * heads + head) * C.P + p, narrow(result, y.dtype.element_ty, C), mask=p < C.P
    )
