// One token: the recurrent steps, and one query against keys that lie row by row.
#pragma once

#include "rows.h"

namespace slm {
namespace SLM_ISA {

// Vectors of the state's width that are kept in registers while walking over its rows.
template <int V>
SLM_INLINE void ssd_columns(float* state, const float* x, const float* b, const float* c,
                            float decay, float dt, float skip, int size, int width, float* y) {
  vf in[V], out[V] = {};
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) in[v] = load(x + v * kLanes) * dt;
  for (int n = 0; n < size; n++) {
    float* s = state + (int64_t)n * width;
    const vf write = splat(b[n]), read = splat(c[n]);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      const vf h = load(s + v * kLanes) * decay + write * in[v];
      store(s + v * kLanes, h);
      out[v] += read * h;
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; v++) store(y + v * kLanes, out[v] + skip * load(x + v * kLanes));
}

void ssd_step(float* state, const float* x, const float* b, const float* c, float decay, float dt,
              float skip, int size, int width, float* y) {
  int i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes)
    ssd_columns<4>(state + i, x + i, b, c, decay, dt, skip, size, width, y + i);
  for (; i + kLanes <= width; i += kLanes)
    ssd_columns<1>(state + i, x + i, b, c, decay, dt, skip, size, width, y + i);
  for (; i < width; i++) {
    float out = 0;
    for (int n = 0; n < size; n++) {
      float* s = state + (int64_t)n * width + i;
      *s = *s * decay + b[n] * (dt * x[i]);
      out += c[n] * *s;
    }
    y[i] = out + skip * x[i];
  }
}

// S = a (S - beta k (k^T S)) + beta k v^T, y = S^T q; scratch holds `width` floats.
void delta_step(float* state, const float* q, const float* k, const float* v, float decay,
                float beta, int size, int width, float* y, float* scratch) {
  over(width, [&](int i, int m) {
    vf held = {};
    for (int n = 0; n < size; n++) held += k[n] * get(state + (int64_t)n * width + i, m);
    set(scratch + i, beta * (get(v + i, m) - decay * held), m);
  });
  over(width, [&](int i, int m) {
    vf out = {};
    const vf write = get(scratch + i, m);
    for (int n = 0; n < size; n++) {
      float* s = state + (int64_t)n * width + i;
      const vf h = get(s, m) * decay + k[n] * write;
      set(s, h, m);
      out += q[n] * h;
    }
    set(y + i, out, m);
  });
}

template <int R>
SLM_INLINE void few_scores(const float* q, const float* k, int64_t ld, int d, float scale,
                           float* s) {
  vf acc[R] = {};
  over(d, [&](int i, int m) {
    const vf mine = get(q + i, m);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) acc[r] += mine * get(k + r * ld + i, m);
  });
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) s[r] = sum(acc[r]) * scale;
}

void scores(const float* q, const float* k, int64_t ld, int n, int d, float scale, float* s) {
  int j = 0;
  for (; j + 8 <= n; j += 8) few_scores<8>(q, k + j * ld, ld, d, scale, s + j);
  for (; j < n; j++) few_scores<1>(q, k + j * ld, ld, d, scale, s + j);
}

void mix(const float* p, const float* v, int64_t ld, int n, int d, float* out) {
  over(d, [&](int i, int m) {
    vf even = get(out + i, m), odd = {};
    int j = 0;
    for (; j + 2 <= n; j += 2) {
      even += p[j] * get(v + j * ld + i, m);
      odd += p[j + 1] * get(v + (j + 1) * ld + i, m);
    }
    if (j < n) even += p[j] * get(v + j * ld + i, m);
    set(out + i, even + odd, m);
  });
}

}  // namespace SLM_ISA
}  // namespace slm
