// Products with packed weights: the same loops for float32, bfloat16, 8 and 4 bits.
//
// A tile holds R rows of x times V vectors of outputs in registers and walks down the inputs; the
// weights of a panel stream past once per tile, the rows of x are broadcast from cache.
#pragma once

#include "../simd/dot.h"
#include "table.h"

namespace slm {
namespace SLM_ISA {

// Write a tile's vectors [column, column + V * lanes) of `valid` outputs.
template <int V>
SLM_INLINE void put(float* y, const vf* acc, int valid, bool add) {
  if (valid >= V * kLanes) {
#pragma GCC unroll 16
    for (int v = 0; v < V; v++)
      store(y + v * kLanes, add ? load(y + v * kLanes) + acc[v] : acc[v]);
    return;
  }
  for (int v = 0; v < V; v++) {
    const int n = valid - v * kLanes;
    if (n <= 0) return;
    store_n(y + v * kLanes, add ? load_n(y + v * kLanes, n) + acc[v] : acc[v], n);
  }
}

// Asks for weights of few bits that one row of x will meet a page from here: the processor's own
// prefetching ends with each page. Asking past the last weights is harmless. In 8 bits it gains
// nothing.
SLM_INLINE void fetch(const char* w) { __builtin_prefetch((const char*)((uintptr_t)w + 4096)); }

// kStep: inputs of a 32-bit lane; kX: bytes of x they take; kShift: levels come 2^kShift too large.
struct F32 {
  static constexpr int kStep = 1, kBlock = 512, kX = 4, kShift = 0;
  typedef vf Acc;
  SLM_INLINE vf dot(vf acc, const char* x, const char* w) {
    float value;
    __builtin_memcpy(&value, x, 4);
    return acc + splat(value) * load((const float*)w);
  }
};
struct Bf16 {
  static constexpr int kStep = 2, kBlock = 1024, kX = 4, kShift = 0;
  typedef vf Acc;
  SLM_INLINE vf dot(vf acc, const char* x, const char* w) {
    return dot_bf16(acc, splat_bytes(x), load_i(w));
  }
};
struct S8 {
  static constexpr int kStep = 4, kBlock = 1 << 30, kX = 4, kShift = 0;
  typedef vi Acc;
  SLM_INLINE vi dot(vi acc, const char* x, const char* w) {
    return dot_s8(acc, splat_bytes(x), load_i(w));
  }
};
// Nibbles in two's complement. Where they stand in a byte they are 16 times the level, which costs
// nothing to make and is taken out of the sum.
SLM_INLINE vi low_nibbles(vi both) { return (both << 4) & splat_i(int32_t(0xf0f0f0f0)); }
SLM_INLINE vi high_nibbles(vi both) { return both & splat_i(int32_t(0xf0f0f0f0)); }
struct R4 {
  static constexpr int kStep = 8, kBlock = 1 << 30, kX = 8, kShift = 4;
  typedef vi Acc;
  SLM_INLINE vi dot(vi acc, const char* x, const char* w) {
    const vi both = load_i(w);
    acc = dot_s8(acc, splat_bytes(x), low_nibbles(both));
    return dot_s8(acc, splat_bytes(x + 4), high_nibbles(both));
  }
};

// Integer sums of a row's V vectors of outputs, made real and written.
template <int V, int Shift>
SLM_INLINE void finish(const Product& p, int row, int column, const vi* acc) {
  vf real[V];
  const vf scale = splat(p.x_scale[row]);
#pragma GCC unroll 16
  for (int v = 0; v < V; v++) {
    vi level = acc[v] >> Shift;
    if (kOffset8) level -= kOffset8 * load_i(p.w_sum + column + v * kLanes);
    real[v] = rounded(__builtin_convertvector(level, vf) *
                      (scale * load(p.w_scale + column + v * kLanes)));
  }
  put<V>(p.y + row * p.ldy + column, real, p.last - column, p.add);
}

// Sum over `lanes32` 32-bit steps; w points at the panel's column, x at the first row.
template <class T, int R, int V>
SLM_INLINE void sweep(typename T::Acc (&acc)[R][V], const char* x, int64_t ldx, const char* w,
                      int lanes32) {
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) acc[r][v] = typename T::Acc{};
  if constexpr (R == 1 && V <= 4) {  // one row: a second set of sums hides the latency of the first
    typename T::Acc odd[V] = {};
    int k = 0;
    for (; k + 2 <= lanes32; k += 2) {
      if (T::kX == 8)
#pragma GCC unroll 8
        for (int at = 0; at < 8 * kPanel; at += 64) fetch(w + (int64_t)k * 4 * kPanel + at);
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) {
        acc[0][v] = T::dot(acc[0][v], x + T::kX * k, w + (int64_t)k * 4 * kPanel + v * 4 * kLanes);
        odd[v] = T::dot(odd[v], x + T::kX * (k + 1), w + (int64_t)(k + 1) * 4 * kPanel + v * 4 * kLanes);
      }
    }
    if (k < lanes32)
#pragma GCC unroll 16
      for (int v = 0; v < V; v++)
        acc[0][v] = T::dot(acc[0][v], x + T::kX * k, w + (int64_t)k * 4 * kPanel + v * 4 * kLanes);
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) acc[0][v] += odd[v];
  } else {
    for (int k = 0; k < lanes32; k++) {
#pragma GCC unroll 6
      for (int r = 0; r < R; r++)
#pragma GCC unroll 16
        for (int v = 0; v < V; v++)
          acc[r][v] = T::dot(acc[r][v], x + r * ldx + T::kX * k,
                             w + (int64_t)k * 4 * kPanel + v * 4 * kLanes);
    }
  }
}

template <class T, int R, int V>
SLM_INLINE void tile(const Product& p, int row, int column, int from, int count) {
  typename T::Acc acc[R][V];
  const int panel = column / kPanel;
  const int total = (p.inputs + T::kStep - 1) / T::kStep;
  const char* w = (const char*)p.w + ((int64_t)panel * total + from) * 4 * kPanel +
                  (column % kPanel) * 4;
  const char* x = (const char*)p.x + row * p.ldx + (int64_t)from * 4;
  sweep<T, R, V>(acc, x, p.ldx, w, count);
  const int valid = p.last - column;
#pragma GCC unroll 6
  for (int r = 0; r < R; r++) {
    if constexpr (T::kStep >= 4) finish<V, T::kShift>(p, row + r, column, acc[r]);
    else put<V>(p.y + (row + r) * p.ldy + column, acc[r], valid, p.add || from > 0);
  }
}

template <class T, int V>
SLM_INLINE void rows_of(const Product& p, int column, int from, int count) {
  int row = 0;
  for (; row + kTileRows <= p.rows; row += kTileRows)
    tile<T, kTileRows, V>(p, row, column, from, count);
  switch (p.rows - row) {
    case 5: if constexpr (kTileRows > 5) tile<T, 5, V>(p, row, column, from, count); break;
    case 4: if constexpr (kTileRows > 4) tile<T, 4, V>(p, row, column, from, count); break;
    case 3: tile<T, 3, V>(p, row, column, from, count); break;
    case 2: tile<T, 2, V>(p, row, column, from, count); break;
    case 1: tile<T, 1, V>(p, row, column, from, count); break;
    default: break;
  }
}

// Outputs of the panels that are walked through.
SLM_INLINE int64_t whole_panels(const Product& p) {
  return (p.last - p.first + kPanel - 1) / kPanel * kPanel;
}

template <class T>
void product(const Product& p) {
  const int total = (p.inputs + T::kStep - 1) / T::kStep;
  if (p.macs) *p.macs += whole_panels(p) * total * T::kStep * p.rows;
  if (p.rows == 1) {
    for (int column = p.first; column < p.last; column += kRowVectors * kLanes)
      tile<T, 1, kRowVectors>(p, 0, column, 0, total);
    return;
  }
  for (int from = 0; from < total; from += T::kBlock / T::kStep) {
    const int count = total - from < T::kBlock / T::kStep ? total - from : T::kBlock / T::kStep;
    for (int column = p.first; column < p.last; column += kTileVectors * kLanes)
      rows_of<T, kTileVectors>(p, column, from, count);
  }
}

// 4 bits: groups of 64 inputs share a scale, so sums become real numbers once per group. A lane
// holds eight inputs: the low halves of its four bytes are inputs 0..3, the high halves 4..7.
template <int R, int V>
SLM_INLINE void tile_u4(const Product& p, int row, int column) {
  const int groups = (p.inputs + kGroup - 1) / kGroup, steps = (p.inputs + 7) / 8;
  const int panel = column / kPanel;
  const char* w = (const char*)p.w + (int64_t)panel * steps * 4 * kPanel + (column % kPanel) * 4;
  const uint16_t* scale = p.w_group + (int64_t)panel * groups * kPanel + column % kPanel;
  const char* x = (const char*)p.x + row * p.ldx;
  const vi nibble = splat_i(0x0f0f0f0f);
  vf real[R][V] = {};
  for (int g = 0; g < groups; g++) {
    vi acc[R][V] = {}, odd[V] = {};  // one row: sums would wait for each other
    const int left = steps - g * (kGroup / 8);  // the last group may be shorter
    for (int k = 0; k < (left < kGroup / 8 ? left : kGroup / 8); k++) {
      if (R == 1)
#pragma GCC unroll 8
        for (int at = 0; at < 4 * V * kLanes; at += 64) fetch(w + at);
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) {
        const vi both = load_i(w + v * 4 * kLanes);
        const vi low = both & nibble, high = (vi)((vu)both >> 4) & nibble;
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
          const char* mine = x + r * p.ldx + g * kGroup + 8 * k;
          acc[r][v] = dot_u4(acc[r][v], splat_bytes(mine), low);
          vi& other = R == 1 ? odd[v] : acc[r][v];
          other = dot_u4(other, splat_bytes(mine + 4), high);
        }
      }
      w += 4 * kPanel;
    }
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) {
      const vf real_scale = load_bf16(scale + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) {
        const vi level = acc[r][v] + odd[v] - 8 * p.x_sum[(row + r) * groups + g];
        // 16 bits by 8: exact, so that it does not matter whether it is rounded before the sum.
        real[r][v] += __builtin_convertvector(level, vf) * real_scale;
      }
    }
    scale += kPanel;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) real[r][v] = rounded(real[r][v] * p.x_scale[row + r]);
    put<V>(p.y + (row + r) * p.ldy + column, real[r], p.last - column, p.add);
  }
}

// Integer sums and real sums both stay in registers.
constexpr int kU4Vectors = kRowVectors > 4 ? kRowVectors / 2 : kRowVectors;

void product_u4(const Product& p) {
  if (p.macs) *p.macs += whole_panels(p) * ((p.inputs + 7) / 8 * 8) * p.rows;
  if (p.rows == 1) {
    for (int column = p.first; column < p.last; column += kU4Vectors * kLanes)
      tile_u4<1, kU4Vectors>(p, 0, column);
    return;
  }
  constexpr int V = kTileVectors > 2 ? kTileVectors : 2;
  for (int column = p.first; column < p.last; column += V * kLanes) {
    int row = 0;
    for (; row + 2 <= p.rows; row += 2) tile_u4<2, V>(p, row, column);
    if (row < p.rows) tile_u4<1, V>(p, row, column);
  }
}

}  // namespace SLM_ISA
}  // namespace slm
