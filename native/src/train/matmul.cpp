// Large float32 products: one factor is packed into panels, the other is read row by row.
#include "common.h"
#include "solomonic.h"

namespace slm {
namespace train {
namespace {

constexpr int kRows = 192;   // rows of a task: a multiple of every tile's rows

}  // namespace

}  // namespace train
}  // namespace slm

using namespace slm;
using namespace slm::train;

slm_status slm_matmul_run(const slm_matmul* op, int32_t threads) {
  return guarded([&] {
    const int m = op->m, n = op->n, k = op->k;
    need(m >= 0 && n >= 1 && k >= 1, "matmul", "sizes must be at least 1");
    need(op->a, "matmul", "a"), need(op->b, "matmul", "b"), need(op->c, "matmul", "c");
    const Kernels& kernel = kernels();
    Crew crew(threads);
    const int panels = (n + kPanel - 1) / kPanel, blocks = (m + kRows - 1) / kRows;
    float* packed = crew.common(int64_t(panels) * kPanel * k);
    crew.run(panels, 0, [&](int panel, float*) {
      const int first = panel * kPanel, width = n - first < kPanel ? n - first : kPanel;
      const float* from = op->b + (op->b_turned ? first * op->ldb : first);
      kernel.train->pack_panels(from, op->ldb, k, width, op->b_turned,
                                packed + int64_t(first) * k);
    });
    const int64_t ld = k + 16;
    crew.run(blocks, op->a_turned ? kRows * ld : 0, [&](int block, float* scratch) {
      const int first = block * kRows, rows = m - first < kRows ? m - first : kRows;
      const float* a = op->a + first * op->lda;
      int64_t lda = op->lda;
      if (op->a_turned) {
        kernel.train->transpose(op->a + first, op->lda, k, rows, scratch, ld);
        a = scratch, lda = ld;
      }
      Product product = {};
      product.rows = rows, product.inputs = k, product.first = 0, product.last = n;
      product.x = a, product.ldx = lda * int64_t(sizeof(float)), product.w = packed;
      product.y = op->c + first * op->ldc, product.ldy = op->ldc;
      kernel.product[0](product);
    });
  });
}
