// The transducer loss: its lattice, one row a task, and the joiner and softmax around it, in cells.
#include <cmath>
#include <cstring>
#include <limits>

#include "common.h"
#include "solomonic.h"

namespace slm {
namespace train {
namespace {

constexpr int kCells = 64;  // cells of a task
constexpr int kUnits = 64;  // hidden units of a task when cells are added up
constexpr int64_t kNoCell = -2;
constexpr double kNothing = -std::numeric_limits<double>::infinity();
constexpr double kTiny = -87.0;  // below it e^x is not a normal float32

double add(double a, double b) {
  if (a == kNothing) return b;
  if (b == kNothing) return a;
  return (a > b ? a : b) + std::log1p(std::exp(-std::fabs(a - b)));
}

float occupancy(double x) { return x < kTiny ? 0.0f : float(std::exp(x)); }

void check(const slm_transducer& op) {
  const char* name = "transducer";
  need(op.rows >= 1 && op.frames >= 1 && op.labels >= 0, name, "there must be a row and a frame");
  need(op.blank, name, "blank");
  if (op.labels) need(op.label, name, "label"), need(op.said, name, "said");
  need(op.frame_lengths, name, "frame_lengths"), need(op.target_lengths, name, "target_lengths");
  need(op.nll, name, "nll"), need(op.gone, name, "gone");
  need(!op.blank.half && !op.label.half, name, "log-probabilities must be float32");
  for (int row = 0; row < op.rows; row++) {
    const int64_t frames = op.frame_lengths[row], labels = op.target_lengths[row];
    need(frames >= 1 && frames <= op.frames, name, "a row's frames are out of range");
    need(labels >= 0 && labels <= op.labels, name, "a row's labels are out of range");
  }
}

// The planes of one row; `labels` and `frames` are its own.
struct Row {
  int frames, labels;
  Tokens blank, label;

  double stay(int t, int u) const { return reinterpret_cast<const float*>(blank.at(t))[u]; }
  double move(int t, int u) const { return reinterpret_cast<const float*>(label.at(t))[u]; }
};

// before (frames, labels + 1): log-probability of coming to each cell. Returns that of the end.
double forward(const Row& row, double* before) {
  const int width = row.labels + 1;
  for (int t = 0; t < row.frames; t++) {
    double* now = before + int64_t(t) * width;
    for (int u = 0; u < width; u++) {
      const double waited = t ? now[u - width] + row.stay(t - 1, u) : u ? kNothing : 0.0;
      now[u] = u ? add(waited, now[u - 1] + row.move(t, u - 1)) : waited;
    }
  }
  const int t = row.frames - 1, u = row.labels;
  return before[int64_t(t) * width + u] + row.stay(t, u);
}

// Occupancies of all arcs; after (labels + 1) is scratch, gone and said rows of the whole batch.
void backward(const Row& row, const double* before, double total, double* after, float* gone,
              float* said, int64_t labels) {
  const int width = row.labels + 1;
  for (int u = 0; u < width; u++) after[u] = kNothing;
  after[row.labels] = 0.0;  // behind the last frame
  for (int t = row.frames - 1; t >= 0; t--) {
    const double* here = before + int64_t(t) * width;
    float *stays = gone + t * (labels + 1), *moves = said + t * labels;
    for (int u = row.labels; u >= 0; u--) {
      const double waited = row.stay(t, u) + after[u];
      stays[u] = occupancy(here[u] + waited - total);
      after[u] = waited;
      if (u == row.labels) continue;
      const double moved = row.move(t, u) + after[u + 1];
      moves[u] = occupancy(here[u] + moved - total);
      after[u] = add(waited, moved);
    }
  }
}

void row(const slm_transducer& op, int index, double* scratch) {
  const int64_t width = op.labels + 1, cells = int64_t(op.frames) * width;
  const Row row{int(op.frame_lengths[index]), int(op.target_lengths[index]),
                row_of(op.blank, index), row_of(op.label, index)};
  float* gone = op.gone + index * cells;
  float* said = op.said + index * int64_t(op.frames) * op.labels;
  std::memset(gone, 0, size_t(cells) * sizeof(float));
  if (op.labels) std::memset(said, 0, size_t(op.frames) * op.labels * sizeof(float));
  double* after = scratch + int64_t(row.frames) * (row.labels + 1);
  const double total = forward(row, scratch);
  op.nll[index] = float(-total);
  if (total != kNothing) backward(row, scratch, total, after, gone, said, op.labels);
}

void check(const slm_transducer_cells& op, int size, const char* name) {
  need(op.count >= 0 && op.count < (int64_t(1) << 31) * kCells && size >= 1, name,
       "sizes must be at least 1");
  need(op.blank >= 0 && (!op.outputs || op.blank < op.outputs), name, "the blank is no output");
}

void check_inside(const slm_transducer_cells& op, const char* name) {
  need(op.labels, name, "labels");
  for (int64_t i = 0; i < op.count; i++)
    need(op.labels[i] >= kNoCell && op.labels[i] < op.outputs, name, "a label is no output");
}

// body(cell) for all cells, some at a time on each thread.
template <class Body>
void each(const slm_transducer_cells& op, int threads, const Body& body) {
  Crew crew(threads);
  crew.run(int((op.count + kCells - 1) / kCells), 0, [&](int task, float*) {
    const int64_t first = int64_t(task) * kCells, last = first + kCells;
    for (int64_t i = first; i < last && i < op.count; i++) body(i);
  });
}

}  // namespace
}  // namespace train
}  // namespace slm

using namespace slm;
using namespace slm::train;

slm_status slm_transducer_lattice(const slm_transducer* op, int32_t threads) {
  return guarded([&] {
    check(*op);
    Crew crew(threads);
    const int64_t doubles = (int64_t(op->frames) + 1) * (op->labels + 1);
    crew.run(op->rows, 2 * doubles,
             [&](int index, float* floats) { row(*op, index, reinterpret_cast<double*>(floats)); });
  });
}

slm_status slm_transducer_hidden(const slm_transducer_cells* op, int32_t threads) {
  return guarded([&] {
    const char* name = "transducer_hidden";
    check(*op, op->width, name);
    need(op->acoustic, name, "acoustic"), need(op->label, name, "label");
    need(op->units, name, "units");
    need(op->rows, name, "rows"), need(op->columns, name, "columns");
    const TrainKernels& kernel = *kernels().train;
    const int64_t n = op->width;
    each(*op, threads, [&](int64_t i) {
      kernel.hidden_row(op->acoustic + op->rows[i] * n, op->label + op->columns[i] * n, int(n),
                        op->units + i * n);
    });
  });
}

slm_status slm_transducer_spread(const slm_transducer_cells* op, int32_t threads) {
  return guarded([&] {
    const char* name = "transducer_spread";
    check(*op, op->width, name);
    need(op->to_acoustic, name, "to_acoustic"), need(op->to_label, name, "to_label");
    need(op->units, name, "units"), need(op->slope, name, "slope");
    need(op->rows, name, "rows"), need(op->columns, name, "columns");
    const TrainKernels& kernel = *kernels().train;
    const int64_t n = op->width;
    Crew crew(threads);
    // Tasks share out units and not cells: many cells add to the same frame, always in their order.
    crew.run(int((n + kUnits - 1) / kUnits), 0, [&](int task, float*) {
      const int64_t first = int64_t(task) * kUnits, some = n - first < kUnits ? n - first : kUnits;
      for (int64_t i = 0; i < op->count; i++)
        kernel.spread_row(op->units + i * n + first, op->slope + i * n + first, int(some),
                          op->to_acoustic + op->rows[i] * n + first,
                          op->to_label + op->columns[i] * n + first);
    });
  });
}

slm_status slm_transducer_scores(const slm_transducer_cells* op, int32_t threads) {
  return guarded([&] {
    const char* name = "transducer_scores";
    check(*op, op->outputs, name);
    need(op->logits, name, "logits"), need(op->stay, name, "stay"), need(op->move, name, "move");
    need(op->total, name, "total");
    check_inside(*op, name);
    const TrainKernels& kernel = *kernels().train;
    each(*op, threads, [&](int64_t i) {
      const float* logits = op->logits + i * op->outputs;
      const int64_t label = op->labels[i];
      op->stay[i] = op->move[i] = -std::numeric_limits<float>::infinity(), op->total[i] = 0.0f;
      if (label == kNoCell) return;
      const float total = kernel.log_sum(logits, op->outputs);
      op->total[i] = total, op->stay[i] = logits[op->blank] - total;
      if (label >= 0) op->move[i] = logits[label] - total;
    });
  });
}

slm_status slm_transducer_slopes(const slm_transducer_cells* op, int32_t threads) {
  return guarded([&] {
    const char* name = "transducer_slopes";
    check(*op, op->outputs, name);
    need(op->logits, name, "logits"), need(op->stay, name, "stay"), need(op->move, name, "move");
    need(op->total, name, "total");
    check_inside(*op, name);
    const TrainKernels& kernel = *kernels().train;
    each(*op, threads, [&](int64_t i) {
      float* logits = op->logits + i * op->outputs;
      const float gone = op->stay[i], said = op->move[i];
      if (gone == 0.0f && said == 0.0f) {
        std::memset(logits, 0, size_t(op->outputs) * sizeof(float));
        return;
      }
      kernel.softmax_slope(logits, op->outputs, op->total[i], gone + said);
      logits[op->blank] -= gone;
      if (op->labels[i] >= 0) logits[op->labels[i]] -= said;
    });
  });
}
