// Moving tiles of a matrix: widening, rounding, transposing.
#pragma once

#include "rows.h"
#include "small.h"
#include "train_types.h"

namespace slm {
namespace SLM_ISA {

constexpr int kPad = 16;  // floats behind a tile's rows, so that rows do not fall on one cache set

SLM_INLINE vf fetch(const char* p, bool half, int i, int m) {
  if (!half) return get((const float*)p + i, m);
  const uint16_t* h = (const uint16_t*)p + i;
  if (m == kLanes) return load_bf16(h);
  uint16_t rest[kLanes] = {};
  __builtin_memcpy(rest, h, 2 * m);
  return load_bf16(rest);
}

SLM_INLINE void put_back(char* p, bool half, int i, vf v, int m) {
  if (!half) return set((float*)p + i, v, m);
  const vu bits = (vu)v;
  const vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const vu quiet = (bits >> 16) | 0x40;
  const vh h = __builtin_convertvector((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded, vh);
  __builtin_memcpy((uint16_t*)p + i, &h, 2 * m);
}

// Tile (rows, n) from tokens [first, first + rows); and back.
SLM_INLINE void widen(const Tokens& from, int first, int column, int rows, int n, float* to, int ld) {
  for (int r = 0; r < rows; r++) {
    const char* p = from.at(first + r, column);
    over(n, [&](int i, int m) { set(to + (int64_t)r * ld + i, fetch(p, from.half, i, m), m); });
  }
}
SLM_INLINE void narrow(const float* from, int ld, int rows, int n, const Tokens& to, int first,
                       int column) {
  for (int r = 0; r < rows; r++) {
    char* p = to.at(first + r, column);
    over(n, [&](int i, int m) { put_back(p, to.half, i, get(from + (int64_t)r * ld + i, m), m); });
  }
}

#if SLM_LANES == 16
#define SLM_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SLM_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif SLM_LANES == 8
#define SLM_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define SLM_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define SLM_ZIP_LOW 0, 4, 1, 5
#define SLM_ZIP_HIGH 2, 6, 3, 7
#endif

// A square of lanes x lanes: interleaving its halves log2(lanes) times turns rows into columns.
SLM_INLINE void turn(vf* r) {
#pragma GCC unroll 4
  for (int stage = 1; stage < kLanes; stage *= 2) {
    vf s[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; i++) {
      s[2 * i] = __builtin_shufflevector(r[i], r[i + kLanes / 2], SLM_ZIP_LOW);
      s[2 * i + 1] = __builtin_shufflevector(r[i], r[i + kLanes / 2], SLM_ZIP_HIGH);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i++) r[i] = s[i];
  }
}
SLM_INLINE void turn_square(const float* a, int64_t lda, float* b, int64_t ldb) {
  vf r[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++) r[i] = load(a + i * lda);
  turn(r);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i++) store(b + i * ldb, r[i]);
}

// b (n, m) = a (m, n) turned.
static void transpose(const float* a, int64_t lda, int m, int n, float* b, int64_t ldb) {
  int i = 0;
  for (; i + kLanes <= m; i += kLanes) {
    int j = 0;
    for (; j + kLanes <= n; j += kLanes) turn_square(a + i * lda + j, lda, b + j * ldb + i, ldb);
    for (; j < n; j++)
      for (int r = 0; r < kLanes; r++) b[j * ldb + i + r] = a[(i + r) * lda + j];
  }
  for (; i < m; i++)
    for (int j = 0; j < n; j++) b[j * ldb + i] = a[i * lda + j];
}

// to = from * factor(head, row), tiles of heads * head columns.
template <class Factor>
SLM_INLINE void scale_heads(const float* from, float* to, int ld, int rows, int heads, int head,
                            Factor factor) {
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < heads; h++) {
      const float f = factor(h, r);
      const int64_t at = (int64_t)r * ld + h * head;
      over(head, [&](int i, int m) { set(to + at + i, get(from + at + i, m) * f, m); });
    }
}

SLM_INLINE float dot(const float* a, const float* b, int n) {
  vf s = {};
  over(n, [&](int i, int m) { s += get(a + i, m) * get(b + i, m); });
  return sum(s);
}
SLM_INLINE void zero(float* p, int64_t n) { __builtin_memset(p, 0, n * sizeof(float)); }

}  // namespace SLM_ISA
}  // namespace slm
