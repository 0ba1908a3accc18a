// The state-space recurrence in chunks, forward and backward (Dao and Gu, arXiv 2405.21060).
//
// Input and output maps are shared by the heads, so the products with the state run over the columns
// of all heads of a task at once; only the (Q x Q) part inside a chunk is done head by head. States
// are kept as (N, heads * P) for that reason.
#pragma once

#include "tiles.h"

namespace slm {
namespace SLM_ISA {

constexpr int kBlockRows = 32;  // inside a chunk the causal half is skipped in blocks of rows

struct SsdTiles {
  int cols, ld, ldn, ldq;
  float *b, *c, *bt, *x, *dt, *total, *g, *w, *state;

  SsdTiles(const SsdTask& k, Scratch& s) {
    cols = k.heads * k.head, ld = cols + kPad, ldn = k.size + kPad, ldq = k.chunk + kPad;
    b = s.take((int64_t)k.chunk * ldn), c = s.take((int64_t)k.chunk * ldn);
    bt = s.take((int64_t)k.size * ldq), x = s.take((int64_t)k.chunk * ld);
    dt = s.take((int64_t)k.heads * ldq), total = s.take((int64_t)k.heads * ldq);
    g = s.take((int64_t)k.chunk * ldq), w = s.take((int64_t)k.chunk * ldq);
    state = s.take((int64_t)k.size * ld);
  }

  // Maps, step sizes (heads, Q), their cumulated log decays, and g = c b^T.
  void read(const SsdTask& k, int first, int q) const {
    widen(k.b, first, 0, q, k.size, b, ldn);
    widen(k.c, first, 0, q, k.size, c, ldn);
    widen(k.x, first, 0, q, cols, x, ld);
    transpose(b, ldn, q, k.size, bt, ldq);
    for (int r = 0; r < q; r++) {
      const char* p = k.dt.at(first + r);
      over(k.heads, [&](int i, int m) {
        const vf v = fetch(p, k.dt.half, i, m);
        for (int h = 0; h < m; h++) dt[(i + h) * ldq + r] = v[h];
      });
    }
    for (int h = 0; h < k.heads; h++) {
      float sum = 0;
      for (int r = 0; r < q; r++) total[h * ldq + r] = sum += dt[h * ldq + r] * k.rate[h];
    }
    for (int r = 0; r < q; r += kBlockRows) {
      const int rows = q - r < kBlockRows ? q - r : kBlockRows;
      product_small({rows, r + rows, k.size, c + r * ldn, ldn, 1, bt, ldq, g + r * ldq, ldq, false});
    }
  }
};

SLM_INLINE vi lane_numbers() {
  vi v;
  for (int i = 0; i < kLanes; i++) v[i] = i;
  return v;
}

// to (heads, ldq) = exp(a * total + b), per head; for a = 1, b = 0 and a = -1, b = last total.
SLM_INLINE void decays(const float* total, int ldq, int heads, int q, bool to_end, float* to) {
  for (int h = 0; h < heads; h++) {
    const float* line = total + h * ldq;
    const float last = line[q - 1];
    over(q, [&](int i, int m) {
      const vf v = get(line + i, m);
      set(to + h * ldq + i, exp(to_end ? last - v : v), m);
    });
  }
}

static void ssd_forward(const SsdTask& k, float* scratch) {
  Scratch s{scratch, 0};
  const SsdTiles f(k, s);
  const int ld = f.ld, ldq = f.ldq, cols = f.cols;
  float* y = s.take((int64_t)k.chunk * ld);
  float* factor = s.take((int64_t)k.heads * ldq);
  const vi lane = lane_numbers();
  zero(f.w, (int64_t)k.chunk * ldq);
  transpose(k.h0, k.size, cols, k.size, f.state, ld);
  for (int first = 0, chunk = 0; first < k.steps; first += k.chunk, chunk++) {
    const int q = k.steps - first < k.chunk ? k.steps - first : k.chunk;
    if (k.states)
      for (int n = 0; n < k.size; n++)
        __builtin_memcpy(k.states + ((int64_t)chunk * k.size + n) * cols, f.state + n * ld,
                         cols * sizeof(float));
    f.read(k, first, q);
    scale_heads(f.x, f.x, ld, q, k.heads, k.head, [&](int h, int r) { return f.dt[h * ldq + r]; });
    product_small({q, cols, k.size, f.c, f.ldn, 1, f.state, ld, y, ld, false});
    decays(f.total, ldq, k.heads, q, false, factor);
    scale_heads(y, y, ld, q, k.heads, k.head, [&](int h, int r) { return factor[h * ldq + r]; });
    for (int h = 0; h < k.heads; h++) {
      const float* total = f.total + h * ldq;
      for (int t = 0; t < q; t++)
        for (int i = 0; i <= t; i += kLanes) {
          const vf e = exp(total[t] - load(total + i)) * load(f.g + t * ldq + i);
          store(f.w + t * ldq + i, lane + i <= t ? e : vf{});
        }
      for (int r = 0; r < q; r += kBlockRows) {
        const int rows = q - r < kBlockRows ? q - r : kBlockRows;
        product_small({rows, k.head, r + rows, f.w + r * ldq, ldq, 1, f.x + h * k.head, ld,
                       y + (int64_t)r * ld + h * k.head, ld, true});
      }
    }
    narrow(y, ld, q, cols, k.y, first, 0);
    for (int h = 0; h < k.heads; h++) y[h] = factor[h * ldq + q - 1];
    scale_heads(f.state, f.state, ld, k.size, k.heads, k.head, [&](int h, int) { return y[h]; });
    decays(f.total, ldq, k.heads, q, true, factor);
    scale_heads(f.x, f.x, ld, q, k.heads, k.head, [&](int h, int r) { return factor[h * ldq + r]; });
    product_small({k.size, cols, q, f.bt, ldq, 1, f.x, ld, f.state, ld, true});
  }
  transpose(f.state, ld, k.size, cols, k.h1, k.size);
}

// The part of the backward pass that is inside a chunk, one head: w and its gradient.
struct SsdHead {
  const float *total, *g;
  float *w, *dw, *dg, *rows, *columns;  // dg is summed over heads; rows, columns: of dw w
  int q, ldq;

  void run(vi lane) const {
    zero(columns, ldq);
    for (int t = 0; t < q; t++) {
      vf row = {};
      for (int i = 0; i <= t; i += kLanes) {
        const vi seen = lane + i <= t;
        const int at = t * ldq + i;
        const vf gap = seen ? exp(total[t] - load(total + i)) : vf{};
        const vf product = seen ? load(g + at) : vf{};
        const vf slope = (seen ? load(dw + at) : vf{}) * gap;
        store(w + at, gap * product);
        store(dg + at, load(dg + at) + slope);
        // On the diagonal there is no decay; leaving it out also keeps large numbers from cancelling.
        const vf flow = lane + i < t ? slope * product : vf{};
        row += flow;
        store(columns + i, load(columns + i) + flow);
      }
      rows[t] = sum(row);
    }
  }
};

struct SsdBackward {
  const SsdTask& k;
  SsdTiles f;
  int ld, ldq, ldn;
  float *xd, *dy, *dx, *de, *xt, *start, *turned, *dg, *dw, *u, *db, *dc;
  float *grow, *keep, *flow, *added, *rows, *columns;

  SsdBackward(const SsdTask& task, Scratch& s) : k(task), f(task, s), ld(f.ld), ldq(f.ldq), ldn(f.ldn) {
    const int64_t tile = (int64_t)k.chunk * ld, square = (int64_t)k.chunk * ldq;
    xd = s.take(tile), dy = s.take(tile), dx = s.take(tile), de = s.take(tile);
    xt = s.take((int64_t)f.cols * ldq);
    start = s.take((int64_t)f.cols * ldn), turned = s.take((int64_t)f.cols * ldn);
    dg = s.take(square), dw = s.take(square);
    u = s.take((int64_t)k.chunk * ldn), db = s.take((int64_t)k.chunk * ldn);
    dc = s.take((int64_t)k.chunk * ldn);
    grow = s.take(k.heads * ldq), keep = s.take(k.heads * ldq), flow = s.take(k.heads * ldq);
    added = s.take(k.heads * ldq), rows = s.take(ldq), columns = s.take(ldq);
  }

  // What passes through the states: f.state is the gradient of the state after the chunk.
  void between(int chunk, int q) const {
    const int cols = f.cols;
    transpose(k.states + (int64_t)chunk * k.size * cols, cols, k.size, cols, start, ldn);
    transpose(f.state, ld, k.size, cols, turned, ldn);
    product_small({q, cols, k.size, f.b, ldn, 1, f.state, ld, dx, ld, false});
    scale_heads(dx, dx, ld, q, k.heads, k.head, [&](int h, int r) { return keep[h * ldq + r]; });
    for (int r = 0; r < q; r++)
      for (int h = 0; h < k.heads; h++) {
        const int64_t at = (int64_t)r * ld + h * k.head;
        added[h * ldq + r] = dot(xd + at, dx + at, k.head);
      }
    scale_heads(xd, de, ld, q, k.heads, k.head, [&](int h, int r) { return keep[h * ldq + r]; });
    product_small({q, k.size, cols, de, ld, 1, turned, ldn, db, ldn, false});
    scale_heads(dy, de, ld, q, k.heads, k.head, [&](int h, int r) { return grow[h * ldq + r]; });
    zero(dc, (int64_t)q * ldn);
    for (int h = 0; h < k.heads; h++) {
      product_small({q, k.size, k.head, de + h * k.head, ld, 1, start + (int64_t)h * k.head * ldn,
                     ldn, u, ldn, false});
      for (int r = 0; r < q; r++) {
        vf carried = {};
        over(k.size, [&](int i, int m) {
          const int at = r * ldn + i;
          const vf v = get(u + at, m);
          carried += v * get(f.c + at, m);
          set(dc + at, get(dc + at, m) + v, m);
        });
        flow[h * ldq + r] = sum(carried) - added[h * ldq + r];
      }
      float ended = 0;
      for (int p = 0; p < k.head; p++) {
        const int64_t at = (int64_t)(h * k.head + p) * ldn;
        ended += dot(start + at, turned + at, k.size);
      }
      float& last = flow[h * ldq + q - 1];
      last += ended * grow[h * ldq + q - 1];
      for (int r = 0; r < q; r++) last += added[h * ldq + r];
    }
    scale_heads(f.state, f.state, ld, k.size, k.heads, k.head,
                [&](int h, int) { return grow[h * ldq + q - 1]; });
    product_small({k.size, cols, q, f.c, 1, ldn, de, ld, f.state, ld, true});
  }

  void within(int q, vi lane) const {
    transpose(xd, ld, q, f.cols, xt, ldq);
    zero(dg, (int64_t)k.chunk * ldq);
    for (int h = 0; h < k.heads; h++) {
      const float* mine = dy + h * k.head;
      for (int r = 0; r < q; r += kBlockRows) {
        const int m = q - r < kBlockRows ? q - r : kBlockRows;
        product_small({m, r + m, k.head, mine + (int64_t)r * ld, ld, 1,
                       xt + (int64_t)h * k.head * ldq, ldq, dw + r * ldq, ldq, false});
      }
      SsdHead{f.total + h * ldq, f.g, f.w, dw, dg, rows, columns, q, ldq}.run(lane);
      for (int r = 0; r < q; r++) flow[h * ldq + r] += rows[r] - columns[r];
      for (int r = 0; r < q; r += kBlockRows) {
        const int m = q - r < kBlockRows ? q - r : kBlockRows;
        product_small({m, k.head, q - r, f.w + r * ldq + r, 1, ldq, mine + (int64_t)r * ld, ld,
                       dx + (int64_t)r * ld + h * k.head, ld, true});
      }
    }
    for (int r = 0; r < q; r += kBlockRows) {
      const int m = q - r < kBlockRows ? q - r : kBlockRows;
      product_small({m, k.size, r + m, dg + r * ldq, ldq, 1, f.b, ldn, dc + r * ldn, ldn, true});
      product_small({m, k.size, q - r, dg + r * ldq + r, 1, ldq, f.c + r * ldn, ldn, db + r * ldn,
                     ldn, true});
    }
  }

  void write(int first, int q) const {
    for (int h = 0; h < k.heads; h++) {
      float later = 0;  // the gradient of a log decay: of all cumulated sums it is part of
      for (int r = q - 1; r >= 0; r--) {
        later += flow[h * ldq + r];
        k.drate[h] += later * f.dt[h * ldq + r];
        const int64_t at = (int64_t)r * ld + h * k.head;
        flow[h * ldq + r] = later * k.rate[h] + dot(f.x + at, dx + at, k.head);
      }
    }
    for (int r = 0; r < q; r++) {
      char* p = k.ddt.at(first + r);
      over(k.heads, [&](int i, int m) {
        vf v = {};
        for (int h = 0; h < m; h++) v[h] = flow[(i + h) * ldq + r];
        put_back(p, k.ddt.half, i, v, m);
      });
      __builtin_memcpy(k.db + (int64_t)(first + r) * k.size, db + r * ldn, k.size * sizeof(float));
      __builtin_memcpy(k.dc + (int64_t)(first + r) * k.size, dc + r * ldn, k.size * sizeof(float));
    }
    scale_heads(dx, dx, ld, q, k.heads, k.head, [&](int h, int r) { return f.dt[h * ldq + r]; });
    narrow(dx, ld, q, f.cols, k.dx, first, 0);
  }
};

static void ssd_backward(const SsdTask& k, float* scratch) {
  Scratch s{scratch, 0};
  const SsdBackward back(k, s);
  const SsdTiles& f = back.f;
  const vi lane = lane_numbers();
  zero(f.w, (int64_t)k.chunk * f.ldq);
  zero(k.drate, k.heads);
  if (k.dh1) transpose(k.dh1, k.size, f.cols, k.size, f.state, f.ld);
  else zero(f.state, (int64_t)k.size * f.ld);
  for (int chunk = (k.steps - 1) / k.chunk; chunk >= 0; chunk--) {
    const int first = chunk * k.chunk;
    const int q = k.steps - first < k.chunk ? k.steps - first : k.chunk;
    f.read(k, first, q);
    widen(k.dy, first, 0, q, f.cols, back.dy, f.ld);
    scale_heads(f.x, back.xd, f.ld, q, k.heads, k.head,
                [&](int h, int r) { return f.dt[h * f.ldq + r]; });
    decays(f.total, f.ldq, k.heads, q, false, back.grow);
    decays(f.total, f.ldq, k.heads, q, true, back.keep);
    back.between(chunk, q);
    back.within(q, lane);
    back.write(first, q);
  }
  transpose(f.state, f.ld, k.size, f.cols, k.dh0, k.size);
}

static int64_t ssd_scratch(const SsdTask& k, bool backward) {
  Scratch s{nullptr, 0};
  if (backward) {
    SsdBackward all(k, s);
    return s.used;
  }
  SsdTiles all(k, s);
  s.take((int64_t)k.chunk * all.ld + (int64_t)k.heads * all.ldq + 32);
  return s.used;
}

}  // namespace SLM_ISA
}  // namespace slm
