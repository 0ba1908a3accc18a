// Laying matrices out for large float32 products, and sums of partial results.
#pragma once

#include "tiles.h"

namespace slm {
namespace SLM_ISA {

static void pack_panels(const float* b, int64_t ldb, int k, int n, bool turned, float* panels) {
  for (int column = 0; column < n; column += kPanel) {
    const int width = n - column < kPanel ? n - column : kPanel;
    float* to = panels + (int64_t)column * k;
    if (width < kPanel) zero(to, (int64_t)kPanel * k);
    if (turned) transpose(b + column * ldb, ldb, width, k, to, kPanel);
    else
      for (int i = 0; i < k; i++)
        __builtin_memcpy(to + (int64_t)i * kPanel, b + i * ldb + column, width * sizeof(float));
  }
}

static void sum_rows(const float* from, int64_t apart, int count, int n, const Tokens& to, int row) {
  char* p = to.at(row);
  over(n, [&](int i, int m) {
    vf total = {};
    for (int j = 0; j < count; j++) total += get(from + j * apart + i, m);
    put_back(p, to.half, i, total, m);
  });
}

static void round_rows(const float* from, int64_t ld, int rows, int n, const Tokens& to, int first) {
  narrow(from, int(ld), rows, n, to, first, 0);
}

}  // namespace SLM_ISA
}  // namespace slm
