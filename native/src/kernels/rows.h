// Operations on rows: norms, activations, rounding to the types of the products, softmax.
#pragma once

#include "../simd/dot.h"
#include "table.h"

namespace slm {
namespace SLM_ISA {

// Apply body(i, count) to whole vectors, then once to the rest.
template <class Body>
SLM_INLINE void over(int n, Body body) {
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}
SLM_INLINE vf get(const float* p, int n) { return n == kLanes ? load(p) : load_n(p, n); }
SLM_INLINE void set(float* p, vf v, int n) {
  if (n == kLanes) store(p, v);
  else store_n(p, v, n);
}

void rms_norm(const float* x, const float* gate, const float* weight, float eps, int n,
              float* out) {
  vf squares = {};
  over(n, [&](int i, int m) {
    vf v = get(x + i, m);
    if (gate) {
      v *= silu(get(gate + i, m));
      set(out + i, v, m);
    }
    squares += v * v;
  });
  const float scale = 1.0f / __builtin_sqrtf(sum(squares) / float(n) + eps);
  const float* from = gate ? out : x;
  over(n, [&](int i, int m) {
    set(out + i, get(from + i, m) * scale * get(weight + i, m), m);
  });
}

void silu_product(const float* a, const float* b, int n, float* out) {
  over(n, [&](int i, int m) { set(out + i, silu(get(a + i, m)) * get(b + i, m), m); });
}

void exp_n(const float* x, int n, float* out) {
  over(n, [&](int i, int m) { set(out + i, exp(get(x + i, m)), m); });
}

void convolve(const float* const* window, const float* weight, const float* bias, int taps, int n,
              bool activate, const float* skip, float* out) {
  over(n, [&](int i, int m) {
    vf y = bias ? get(bias + i, m) : vf{};
    for (int j = 0; j < taps; j++)
      y += get(weight + (int64_t)j * n + i, m) * get(window[j] + i, m);
    if (activate) y = silu(y);
    if (skip) y += get(skip + i, m);
    set(out + i, y, m);
  });
}

void round_bf16(const float* x, int n, uint16_t* out) {
  int i = 0;
#if defined(__AVX512BF16__)
  for (; i + 16 <= n; i += 16) {
    const __m256bh h = _mm512_cvtneps_pbh((__m512)load(x + i));
    __builtin_memcpy(out + i, &h, 32);
  }
#endif
  for (; i < n; i++) out[i] = to_bf16(x[i]);
  if (n % 2) out[n] = 0;
}

SLM_INLINE float peak(const float* x, int n) {
  vf best = {};
  const vi magnitude = splat_i(0x7fffffff);
  over(n, [&](int i, int m) { best = maximum(best, (vf)((vi)get(x + i, m) & magnitude)); });
  return largest(best);
}

// Levels -127..127 of a vector, rounded to nearest even by the same trick as in exp.
SLM_INLINE vi levels_of(vf x, float inverse) {
  const vf magic = splat(12582912.0f);
  return (vi)(rounded(x * inverse) + magic) - 0x4B400000;
}

template <class Out>
SLM_INLINE void quantise(const float* x, int n, int padded, Out* out, float* scale, int offset) {
  const float top = peak(x, n), inverse = top > 0 ? 127.0f / top : 0.0f;
  *scale = top / 127.0f;
  over(n, [&](int i, int m) {
    const vi level = levels_of(get(x + i, m), inverse) + offset;
#if defined(__AVX512F__)
    if (m == kLanes) {
      const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)level);
      __builtin_memcpy(out + i, &bytes, 16);
      return;
    }
#endif
    for (int j = 0; j < m; j++) out[i + j] = Out(level[j]);
  });
  for (int i = n; i < padded; i++) out[i] = Out(offset);
}

void quantise_s8(const float* x, int n, int padded, uint8_t* out, float* scale) {
  quantise(x, n, padded, out, scale, kOffset8);
}

void quantise_u4(const float* x, int n, int padded, int8_t* out, float* scale, int32_t* sums) {
  quantise(x, n, padded, out, scale, 0);
  for (int g = 0; g * kGroup < padded; g++) {
    int32_t total = 0;
    for (int i = 0; i < kGroup; i++) total += out[g * kGroup + i];
    sums[g] = total;
  }
}

float maximum_of(const float* s, int n) {
  float top = -__builtin_inff();
  int i = 0;
  if (n >= kLanes) {
    vf best = load(s);
    for (i = kLanes; i + kLanes <= n; i += kLanes) best = maximum(best, load(s + i));
    top = largest(best);
  }
  for (; i < n; i++) top = s[i] > top ? s[i] : top;
  return top;
}

float softmax_at(float* s, int n, float top) {
  vf total = {};
  float rest = 0;
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const vf e = exp(load(s + i) - top);
    store(s + i, e);
    total += e;
  }
  if (i < n) {
    store_n(s + i, exp(load_n(s + i, n - i) - top), n - i);
    for (; i < n; i++) rest += s[i];
  }
  return sum(total) + rest;
}

float softmax(float* s, int n) {
  const float top = maximum_of(s, n);
  if (top == -__builtin_inff()) {
    for (int i = 0; i < n; i++) s[i] = 0;
    return 0;
  }
  const float all = softmax_at(s, n, top), inverse = 1.0f / all;
  over(n, [&](int i, int m) { set(s + i, get(s + i, m) * inverse, m); });
  return all;
}

float squared_norm(const float* a, int n) {
  vf s = {};
  over(n, [&](int i, int m) {
    const vf v = get(a + i, m);
    s += v * v;
  });
  return sum(s);
}

float squared_distance(const float* a, const float* b, int n) {
  vf s = {};
  over(n, [&](int i, int m) {
    const vf v = get(a + i, m) - get(b + i, m);
    s += v * v;
  });
  return sum(s);
}

void axpy(float a, const float* x, int n, float* y) {
  over(n, [&](int i, int m) { set(y + i, get(y + i, m) + a * get(x + i, m), m); });
}

void scale_copy(float a, const float* x, int n, float* y) {
  over(n, [&](int i, int m) { set(y + i, a * get(x + i, m), m); });
}

void decay_row(const float* g, const float* total, const float* dt, float at, int n, float* out) {
  over(n, [&](int i, int m) {
    vf v = get(g + i, m) * exp(at - get(total + i, m));
    if (dt) v *= get(dt + i, m);
    set(out + i, v, m);
  });
}

void multiply(const float* a, const float* b, int n, float* out) {
  over(n, [&](int i, int m) { set(out + i, get(a + i, m) * get(b + i, m), m); });
}

}  // namespace SLM_ISA
}  // namespace slm
