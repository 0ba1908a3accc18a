// The gated delta rule in chunks, forward and backward (Yang et al., arXiv 2412.06464, section 3.3).
//
// What the tokens of a chunk write, given the state S before it, solves a unit triangular system:
//   (I + A) new = beta (v - grow (k S)),   A_ts = beta_t (k_t . k_s) exp(total_t - total_s), s < t
// with total the cumulated log decays and grow = exp(total). Everything else is a product.
#pragma once

#include "train_ssd.h"

namespace slm {
namespace SLM_ISA {

struct DeltaTiles {
  int ldn, ldp, ldq;
  float *q, *k, *kt, *v, *state, *read, *fresh, *y, *a, *w, *gaps, *overlap;
  float *total, *grow, *keep, *beta;

  DeltaTiles(const DeltaTask& t, Scratch& s) {
    ldn = t.size + kPad, ldp = t.head + kPad, ldq = t.chunk + kPad;
    const int64_t square = (int64_t)t.chunk * ldq;
    q = s.take((int64_t)t.chunk * ldn), k = s.take((int64_t)t.chunk * ldn);
    kt = s.take((int64_t)t.size * ldq), v = s.take((int64_t)t.chunk * ldp);
    state = s.take((int64_t)t.size * ldp), read = s.take((int64_t)t.chunk * ldp);
    fresh = s.take((int64_t)t.chunk * ldp), y = s.take((int64_t)t.chunk * (ldp + ldn));
    a = s.take(square), w = s.take(square), gaps = s.take(square), overlap = s.take(square);
    total = s.take(ldq), grow = s.take(ldq), keep = s.take(ldq), beta = s.take(ldq);
  }

  // The inputs of a chunk, a (strictly lower), w = q k^T with decay (lower), and what is new.
  void read_chunk(const DeltaTask& t, int first, int n, vi lane) const {
    widen(t.q, first, 0, n, t.size, q, ldn);
    widen(t.k, first, 0, n, t.size, k, ldn);
    widen(t.v, first, 0, n, t.head, v, ldp);
    float sum = 0;
    for (int r = 0; r < n; r++) {
      sum += fetch(t.log_decay.at(first + r), t.log_decay.half, 0, 1)[0];
      total[r] = sum;
      beta[r] = fetch(t.beta.at(first + r), t.beta.half, 0, 1)[0];
    }
    decays(total, ldq, 1, n, false, grow);
    decays(total, ldq, 1, n, true, keep);
    transpose(k, ldn, n, t.size, kt, ldq);
    product_small({n, n, t.size, k, ldn, 1, kt, ldq, overlap, ldq, false});
    product_small({n, n, t.size, q, ldn, 1, kt, ldq, w, ldq, false});
    for (int r = 0; r < n; r++)
      for (int i = 0; i < n; i += kLanes) {
        const int at = r * ldq + i;
        const vf gap = lane + i <= r ? exp(total[r] - load(total + i)) : vf{};
        store(gaps + at, gap);
        store(w + at, lane + i <= r ? gap * load(w + at) : vf{});
        store(a + at, lane + i < r ? gap * load(overlap + at) * beta[r] : vf{});
      }
    product_small({n, t.head, t.size, k, ldn, 1, state, ldp, read, ldp, false});
    for (int r = 0; r < n; r++)
      over(t.head, [&](int i, int m) {
        const int at = r * ldp + i;
        set(fresh + at, beta[r] * (get(v + at, m) - grow[r] * get(read + at, m)), m);
      });
    solve(fresh, n, t.head);
  }

  // x = (I + a)^-1 x, and with the transpose of a from below.
  void solve(float* x, int n, int width) const {
    for (int first = 0; first < n; first += kSolve) {
      const int last = first + kSolve < n ? first + kSolve : n;
      reduce(x, first, last - first, 0, first, width, false);
      for (int r = first + 1; r < last; r++) reduce(x, r, 1, first, r - first, width, false);
    }
  }
  void solve_turned(float* x, int n, int width) const {
    for (int first = (n - 1) / kSolve * kSolve; first >= 0; first -= kSolve) {
      const int last = first + kSolve < n ? first + kSolve : n;
      reduce(x, first, last - first, last, n - last, width, true);
      for (int r = last - 2; r >= first; r--) reduce(x, r, 1, r + 1, last - r - 1, width, true);
    }
  }

 private:
  static constexpr int kSolve = 16;

  // Rows [row, row + rows) of x lose a times the rows [from, from + count). product_small only adds,
  // so the rows are negated around it.
  void reduce(float* x, int row, int rows, int from, int count, int width, bool turned) const {
    if (count <= 0) return;
    float* mine = x + (int64_t)row * ldp;
    const float* factor = turned ? a + from * ldq + row : a + row * ldq + from;
    scale_heads(mine, mine, ldp, rows, 1, width, [](int, int) { return -1.0f; });
    product_small({rows, width, count, factor, turned ? 1 : ldq, turned ? ldq : 1,
                   x + (int64_t)from * ldp, ldp, mine, ldp, true});
    scale_heads(mine, mine, ldp, rows, 1, width, [](int, int) { return -1.0f; });
  }
};

SLM_INLINE void scale_rows(const float* from, const float* factor, int rows, int n, int ld,
                           float* to) {
  scale_heads(from, to, ld, rows, 1, n, [&](int, int r) { return factor[r]; });
}

static void delta_forward(const DeltaTask& t, float* scratch) {
  Scratch s{scratch, 0};
  const DeltaTiles f(t, s);
  const vi lane = lane_numbers();
  for (int n = 0; n < t.size; n++)
    __builtin_memcpy(f.state + n * f.ldp, t.s0 + (int64_t)n * t.head, t.head * sizeof(float));
  for (int first = 0, chunk = 0; first < t.steps; first += t.chunk, chunk++) {
    const int n = t.steps - first < t.chunk ? t.steps - first : t.chunk;
    if (t.states)
      for (int i = 0; i < t.size; i++)
        __builtin_memcpy(t.states + ((int64_t)chunk * t.size + i) * t.head, f.state + i * f.ldp,
                         t.head * sizeof(float));
    f.read_chunk(t, first, n, lane);
    product_small({n, t.head, t.size, f.q, f.ldn, 1, f.state, f.ldp, f.y, f.ldp, false});
    scale_rows(f.y, f.grow, n, t.head, f.ldp, f.y);
    product_small({n, t.head, n, f.w, f.ldq, 1, f.fresh, f.ldp, f.y, f.ldp, true});
    narrow(f.y, f.ldp, n, t.head, t.y, first, 0);
    const float fade = f.grow[n - 1];
    scale_heads(f.state, f.state, f.ldp, t.size, 1, t.head, [&](int, int) { return fade; });
    scale_rows(f.k, f.keep, n, t.size, f.ldn, f.k);
    product_small({t.size, t.head, n, f.k, 1, f.ldn, f.fresh, f.ldp, f.state, f.ldp, true});
  }
  for (int n = 0; n < t.size; n++)
    __builtin_memcpy(t.s1 + (int64_t)n * t.head, f.state + n * f.ldp, t.head * sizeof(float));
}

struct DeltaBackward {
  const DeltaTask& t;
  DeltaTiles f;
  float *after, *turned, *start, *dy, *dnew, *dq, *dk, *square, *slope, *written;
  float *columns, *flow, *dbeta;

  DeltaBackward(const DeltaTask& task, Scratch& s) : t(task), f(task, s) {
    const int64_t wide = (int64_t)t.chunk * f.ldn;
    after = s.take((int64_t)t.size * f.ldp);
    turned = s.take((int64_t)t.head * f.ldn), start = s.take((int64_t)t.head * f.ldn);
    dy = s.take((int64_t)t.chunk * f.ldp), dnew = s.take((int64_t)t.chunk * f.ldp);
    dq = s.take(wide), dk = s.take(wide);
    square = s.take((int64_t)t.chunk * f.ldq), slope = s.take((int64_t)t.chunk * f.ldq);
    written = s.take((int64_t)t.head * f.ldq), columns = s.take(f.ldq);
    flow = s.take(f.ldq), dbeta = s.take(f.ldq);
  }

  void chunk(int first, int n, int index, vi lane) const {
    const float* before = t.states + (int64_t)index * t.size * t.head;
    for (int i = 0; i < t.size; i++)
      __builtin_memcpy(f.state + i * f.ldp, before + (int64_t)i * t.head, t.head * sizeof(float));
    f.read_chunk(t, first, n, lane);
    widen(t.dy, first, 0, n, t.head, dy, f.ldp);
    transpose(f.state, f.ldp, t.size, t.head, start, f.ldn);
    transpose(after, f.ldp, t.size, t.head, turned, f.ldn);
    zero(flow, f.ldq);
    product_small({n, t.head, t.size, f.k, f.ldn, 1, after, f.ldp, dnew, f.ldp, false});
    scale_rows(dnew, f.keep, n, t.head, f.ldp, dnew);
    product_small({n, t.head, n, f.w, 1, f.ldq, dy, f.ldp, dnew, f.ldp, true});
    f.solve_turned(dnew, n, t.head);
    between(n);
    within(n, lane);
    write(first, n);
  }

  // Through the state: dq, dk so far, the gradients of the decays, and of the state before.
  void between(int n) const {
    product_small({n, t.size, t.head, dy, f.ldp, 1, start, f.ldn, dq, f.ldn, false});
    scale_rows(dq, f.grow, n, t.size, f.ldn, dq);
    product_small({n, t.size, t.head, f.fresh, f.ldp, 1, turned, f.ldn, dk, f.ldn, false});
    scale_rows(dk, f.keep, n, t.size, f.ldn, dk);
    float later = 0;
    for (int r = 0; r < n; r++) {
      const float added = dot(f.k + r * f.ldn, dk + r * f.ldn, t.size);
      flow[r] += dot(f.q + r * f.ldn, dq + r * f.ldn, t.size) - added;
      later += added;
    }
    const float fade = f.grow[n - 1];
    for (int p = 0; p < t.head; p++)
      later += fade * dot(start + p * f.ldn, turned + p * f.ldn, t.size);
    flow[n - 1] += later;
    // dv = beta dnew; the state was read as grow (k S).
    float* read = f.y;
    for (int r = 0; r < n; r++) {
      vf of_beta = {}, of_decay = {};
      const float both = f.beta[r] * f.grow[r];
      over(t.head, [&](int i, int m) {
        const int at = r * f.ldp + i;
        const vf d = get(dnew + at, m), held = get(f.read + at, m);
        of_beta += d * (get(f.v + at, m) - f.grow[r] * held);
        of_decay -= d * held * both;
        set(read + at, d * -both, m);
      });
      dbeta[r] = sum(of_beta);
      flow[r] += sum(of_decay);
    }
    product_small({n, t.size, t.head, read, f.ldp, 1, start, f.ldn, dk, f.ldn, true});
    scale_heads(after, after, f.ldp, t.size, 1, t.head, [&](int, int) { return fade; });
    product_small({t.size, t.head, n, f.k, 1, f.ldn, read, f.ldp, after, f.ldp, true});
    float* grown = f.y + (int64_t)t.chunk * f.ldp;
    scale_rows(f.q, f.grow, n, t.size, f.ldn, grown);
    product_small({t.size, t.head, n, grown, 1, f.ldn, dy, f.ldp, after, f.ldp, true});
  }

  // Inside the chunk: `square` becomes the gradient of q k^T, `slope` that of k k^T.
  void within(int n, vi lane) const {
    transpose(f.fresh, f.ldp, n, t.head, written, f.ldq);
    product_small({n, n, t.head, dy, f.ldp, 1, written, f.ldq, square, f.ldq, false});
    product_small({n, n, t.head, dnew, f.ldp, 1, written, f.ldq, slope, f.ldq, false});
    zero(columns, f.ldq);
    for (int r = 0; r < n; r++) {
      vf row = {}, of_beta = {};
      for (int i = 0; i < n; i += kLanes) {
        const int at = r * f.ldq + i;
        const vi seen = lane + i <= r, before = lane + i < r;
        const vf gap = load(f.gaps + at);
        const vf dw = seen ? load(square + at) : vf{}, da = before ? -load(slope + at) : vf{};
        // On the diagonal there is no decay; leaving it out keeps large numbers from cancelling.
        const vf flows = before ? dw * load(f.w + at) + da * load(f.a + at) : vf{};
        row += flows;
        store(columns + i, load(columns + i) + flows);
        of_beta += before ? da * load(f.overlap + at) * gap : vf{};
        store(square + at, dw * gap);
        store(slope + at, da * gap * f.beta[r]);
      }
      flow[r] += sum(row);
      dbeta[r] += sum(of_beta);
    }
    for (int r = 0; r < n; r++) flow[r] -= columns[r];
    product_small({n, t.size, n, square, f.ldq, 1, f.k, f.ldn, dq, f.ldn, true});
    product_small({n, t.size, n, square, 1, f.ldq, f.q, f.ldn, dk, f.ldn, true});
    product_small({n, t.size, n, slope, f.ldq, 1, f.k, f.ldn, dk, f.ldn, true});
    product_small({n, t.size, n, slope, 1, f.ldq, f.k, f.ldn, dk, f.ldn, true});
  }

  void write(int first, int n) const {
    float later = 0;
    for (int r = n - 1; r >= 0; r--) {
      later += flow[r];
      put_back(t.dlog_decay.at(first + r), t.dlog_decay.half, 0, splat(later), 1);
      put_back(t.dbeta.at(first + r), t.dbeta.half, 0, splat(dbeta[r]), 1);
    }
    scale_rows(dnew, f.beta, n, t.head, f.ldp, dnew);
    narrow(dnew, f.ldp, n, t.head, t.dv, first, 0);
    narrow(dq, f.ldn, n, t.size, t.dq, first, 0);
    narrow(dk, f.ldn, n, t.size, t.dk, first, 0);
  }
};

static void delta_backward(const DeltaTask& t, float* scratch) {
  Scratch s{scratch, 0};
  const DeltaBackward back(t, s);
  const int ldp = back.f.ldp;
  for (int n = 0; n < t.size; n++)
    if (t.ds1)
      __builtin_memcpy(back.after + n * ldp, t.ds1 + (int64_t)n * t.head, t.head * sizeof(float));
    else zero(back.after + n * ldp, t.head);
  for (int index = (t.steps - 1) / t.chunk; index >= 0; index--) {
    const int first = index * t.chunk;
    const int n = t.steps - first < t.chunk ? t.steps - first : t.chunk;
    back.chunk(first, n, index, lane_numbers());
  }
  for (int n = 0; n < t.size; n++)
    __builtin_memcpy(t.ds0 + (int64_t)n * t.head, back.after + n * ldp, t.head * sizeof(float));
}

static int64_t delta_scratch(const DeltaTask& t, bool backward) {
  Scratch s{nullptr, 0};
  if (backward) {
    DeltaBackward all(t, s);
    return s.used;
  }
  DeltaTiles all(t, s);
  return s.used;
}

}  // namespace SLM_ISA
}  // namespace slm
