// Products of small float32 matrices that lie as they are: chunks of a scan, tiles of attention.
#pragma once

#include "../simd/vec.h"
#include "table.h"

namespace slm {
namespace SLM_ISA {

template <int R, int V, bool Whole>
SLM_INLINE void small_tile(const SmallProduct& p, int row, int column) {
  vf acc[R][V];
  const int left = p.n - column;
  const float* a = p.a + row * p.a_row;
  float* c = p.c + row * p.ldc + column;
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      acc[r][v] = !p.add ? vf{}
                  : Whole ? load(c + r * p.ldc + v * kLanes)
                  : left > v * kLanes ? load_n(c + r * p.ldc + v * kLanes, left - v * kLanes)
                                      : vf{};
  const float* b = p.b + column;
  for (int k = 0; k < p.k; k++) {
    vf right[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      right[v] = Whole ? load(b + v * kLanes)
                 : left > v * kLanes ? load_n(b + v * kLanes, left - v * kLanes) : vf{};
#pragma GCC unroll 6
    for (int r = 0; r < R; r++) {
      const vf left_factor = splat(a[r * p.a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) acc[r][v] += left_factor * right[v];
    }
    a += p.a_column;
    b += p.ldb;
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      if (Whole) store(c + r * p.ldc + v * kLanes, acc[r][v]);
      else if (left > v * kLanes)
        store_n(c + r * p.ldc + v * kLanes, acc[r][v], left - v * kLanes);
    }
}

template <int V, bool Whole>
SLM_INLINE void small_rows(const SmallProduct& p, int column) {
  int row = 0;
  for (; row + kTileRows <= p.m; row += kTileRows)
    small_tile<kTileRows, V, Whole>(p, row, column);
  for (; row + 2 <= p.m; row += 2) small_tile<2, V, Whole>(p, row, column);
  if (row < p.m) small_tile<1, V, Whole>(p, row, column);
}

void product_small(const SmallProduct& p) {
  constexpr int wide = kTileVectors * kLanes;
  int column = 0;
  for (; column + wide <= p.n; column += wide) small_rows<kTileVectors, true>(p, column);
  if (kTileVectors > 2)
    for (; column + 2 * kLanes <= p.n; column += 2 * kLanes) small_rows<2, true>(p, column);
  for (; column + kLanes <= p.n; column += kLanes) small_rows<1, true>(p, column);
  if (column < p.n) small_rows<1, false>(p, column);
}

}  // namespace SLM_ISA
}  // namespace slm
