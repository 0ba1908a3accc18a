// The transducer's ops through the C interface: slopes against differences, threads, refusals.
//
// Values are compared with the definitions from Python (tests/kernels/test_transducer.py); here the
// ops run under the sanitizers, on buffers of exactly the size they may touch.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "solomonic.h"

namespace {

using Floats = std::vector<float>;
using Whole = std::vector<int64_t>;

Floats random_floats(size_t count, uint32_t seed) {
  Floats out(count);
  for (float& x : out) {
    seed = seed * 1664525u + 1013904223u;
    x = float(seed >> 8) / float(1 << 23) - 1.0f;
  }
  return out;
}
Floats poisoned(size_t count) { return Floats(count, std::numeric_limits<float>::quiet_NaN()); }

struct Lattice {
  static constexpr int B = 3, T = 7, U = 4;
  Floats blank = random_floats(B * T * (U + 1), 1), label = random_floats(B * T * U, 2);
  Whole frames{T, 3, 1}, labels{U, 0, 2};
  Floats nll = poisoned(B), gone = poisoned(blank.size()), said = poisoned(label.size());
  slm_transducer op = {};

  Lattice() {
    op.rows = B, op.frames = T, op.labels = U;
    op.blank = {blank.data(), T * (U + 1), U + 1, 0}, op.label = {label.data(), T * U, U, 0};
    op.frame_lengths = frames.data(), op.target_lengths = labels.data();
    op.nll = nll.data(), op.gone = gone.data(), op.said = said.data();
  }
  double value() {
    CHECK_EQUAL(slm_transducer_lattice(&op, 2), SLM_OK);
    return double(nll[0]) + nll[1] + nll[2];
  }
};

struct Joiner {
  static constexpr int N = 150, J = 70, V = 37, M = 9, K = 5;
  Whole rows = Whole(N), columns = Whole(N), labels = Whole(N);
  Floats acoustic = random_floats(M * J, 1), label = random_floats(K * J, 2);
  Floats units = poisoned(N * J), slope = random_floats(N * J, 3);
  Floats logits = random_floats(N * V, 4), stay = poisoned(N), move = stay, total = stay;
  Floats to_acoustic = Floats(M * J), to_label = Floats(K * J);
  slm_transducer_cells op = {};

  Joiner() {
    for (int i = 0; i < N; i++) rows[i] = i % M, columns[i] = i % K, labels[i] = i % (V + 2) - 2;
    op.count = N, op.width = J, op.outputs = V, op.blank = 0;
    op.rows = rows.data(), op.columns = columns.data(), op.labels = labels.data();
    op.acoustic = acoustic.data(), op.label = label.data(), op.units = units.data();
    op.slope = slope.data(), op.logits = logits.data(), op.stay = stay.data();
    op.move = move.data(), op.total = total.data();
    op.to_acoustic = to_acoustic.data(), op.to_label = to_label.data();
  }
};

}  // namespace

TEST(transducer_lattice) {
  Lattice lattice;
  lattice.value();
  const Floats gone = lattice.gone, said = lattice.said;
  double passed = 0, spoken = 0;
  for (float x : gone) passed += x;
  for (float x : said) spoken += x;
  CHECK(std::fabs(passed - 11) < 1e-5 && std::fabs(spoken - 6) < 1e-5);
  for (int part = 0; part < 2; part++) {
    Floats& plane = part ? lattice.label : lattice.blank;
    const Floats start = plane, way = random_floats(plane.size(), 9), &taken = part ? said : gone;
    double claimed = 0;
    for (size_t i = 0; i < plane.size(); i++) claimed -= double(taken[i]) * way[i];
    for (size_t i = 0; i < plane.size(); i++) plane[i] = start[i] + 1e-2f * way[i];
    const double above = lattice.value();
    for (size_t i = 0; i < plane.size(); i++) plane[i] = start[i] - 1e-2f * way[i];
    const double below = lattice.value();
    plane = start;
    CHECK(std::fabs(claimed - (above - below) / 2e-2) < 1e-2);
  }
  lattice.blank[0] = -std::numeric_limits<float>::infinity();
  lattice.label[0] = -std::numeric_limits<float>::infinity();
  lattice.value();
  CHECK(std::isinf(lattice.nll[0]) && std::isfinite(lattice.nll[1]));
  CHECK_EQUAL(lattice.gone[0], 0.0f);
}

TEST(transducer_cells) {
  Joiner one, two;
  int threads = 1;
  for (Joiner* joiner : {&one, &two}) {
    CHECK_EQUAL(slm_transducer_hidden(&joiner->op, threads), SLM_OK);
    CHECK_EQUAL(slm_transducer_spread(&joiner->op, threads), SLM_OK);
    CHECK_EQUAL(slm_transducer_scores(&joiner->op, threads), SLM_OK);
    joiner->stay = random_floats(Joiner::N, 5), joiner->move = random_floats(Joiner::N, 6);
    joiner->op.stay = joiner->stay.data(), joiner->op.move = joiner->move.data();
    CHECK_EQUAL(slm_transducer_slopes(&joiner->op, threads++), SLM_OK);
  }
  CHECK_SAME(one.units, two.units), CHECK_SAME(one.to_label, two.to_label);
  CHECK_SAME(one.to_acoustic, two.to_acoustic), CHECK_SAME(one.logits, two.logits);
  for (int i = 0; i < Joiner::N; i++) {
    const float inner = one.acoustic[size_t(one.rows[i]) * Joiner::J] +
                        one.label[size_t(one.columns[i]) * Joiner::J];
    CHECK(std::fabs(one.units[size_t(i) * Joiner::J] - std::tanh(inner)) < 1e-6f);
    if (one.labels[i] < 0) continue;
    double sum = 0;
    for (int k = 0; k < Joiner::V; k++) sum += one.logits[size_t(i) * Joiner::V + k];
    CHECK(std::fabs(sum) < 1e-5);
  }
}

TEST(transducer_refuses) {
  Lattice lattice;
  lattice.frames[1] = Lattice::T + 1;
  CHECK_EQUAL(slm_transducer_lattice(&lattice.op, 1), SLM_BAD_ARGUMENT);
  CHECK_EQUAL(std::string(slm_error()), "transducer: a row's frames are out of range.");
  lattice.frames[1] = 1, lattice.labels[2] = -1;
  CHECK_EQUAL(slm_transducer_lattice(&lattice.op, 1), SLM_BAD_ARGUMENT);
  lattice.labels[2] = 0, lattice.op.blank.data = nullptr;
  CHECK_EQUAL(slm_transducer_lattice(&lattice.op, 1), SLM_BAD_ARGUMENT);
  Joiner joiner;
  joiner.labels[7] = Joiner::V;
  CHECK_EQUAL(slm_transducer_scores(&joiner.op, 1), SLM_BAD_ARGUMENT);
  CHECK_EQUAL(std::string(slm_error()), "transducer_scores: a label is no output.");
  joiner.op.blank = Joiner::V;
  CHECK_EQUAL(slm_transducer_slopes(&joiner.op, 1), SLM_BAD_ARGUMENT);
  joiner.op.units = nullptr;
  CHECK_EQUAL(slm_transducer_hidden(&joiner.op, 1), SLM_BAD_ARGUMENT);
}
