// The short convolution over a batch: rows and runs of channels are shared out.
#include "common.h"
#include "solomonic.h"

namespace slm {
namespace train {
namespace {

constexpr int kTasks = 8;
constexpr int kLine = 64;  // channels of a task are whole cache lines, two to four of them

struct Plan {
  int parts;

  explicit Plan(const slm_conv& op) {
    const int most = (op.channels + kLine - 1) / kLine;
    parts = op.rows >= kTasks ? 1 : (kTasks + op.rows - 1) / op.rows;
    if (parts > most) parts = most;
  }
  int first(const slm_conv& op, int part) const {
    const int most = (op.channels + kLine - 1) / kLine;
    const int at = int(int64_t(most) * part / parts) * kLine;
    return at < op.channels ? at : op.channels;
  }
};

void check(const slm_conv& op) {
  need(op.rows >= 1 && op.steps >= 1, "conv", "there must be at least one row and one token");
  need(op.channels >= 1 && op.taps >= 1, "conv", "sizes must be at least 1");
  need(op.x, "conv", "x"), need(op.weight, "conv", "weight");
  if (op.taps > 1) need(op.tail, "conv", "tail");
}

ConvTask task_of(const slm_conv& op, const Plan& plan, int index) {
  const int row = index / plan.parts, part = index % plan.parts;
  const int first = plan.first(op, part);
  const auto part_of = [&](const slm_array& array) {
    return array.data ? row_of(array, row).moved(first) : Tokens{nullptr, 0, false};
  };
  ConvTask task = {};
  task.steps = op.steps, task.taps = op.taps;
  task.channels = plan.first(op, part + 1) - first;
  task.x = part_of(op.x), task.y = part_of(op.y), task.tail = part_of(op.tail);
  task.dy = part_of(op.dy), task.dx = part_of(op.dx), task.dtail = part_of(op.dtail);
  task.bias = op.bias ? op.bias + first : nullptr;
  return task;
}

// The task's channels of the weight (C, taps), turned to (taps, channels).
void weights(const slm_conv& op, int first, ConvTask& task, float* to) {
  for (int j = 0; j < op.taps; j++)
    for (int i = 0; i < task.channels; i++)
      to[int64_t(j) * task.channels + i] = op.weight[int64_t(first + i) * op.taps + j];
  task.weight = to;
}

}  // namespace
}  // namespace train
}  // namespace slm

using namespace slm;
using namespace slm::train;

slm_status slm_conv_forward(const slm_conv* op, int32_t threads) {
  return guarded([&] {
    check(*op);
    need(op->y, "conv", "y");
    const Plan plan(*op);
    const Kernels& kernel = kernels();
    Crew crew(threads);
    const int64_t scratch = int64_t(op->channels) * op->taps;
    crew.run(op->rows * plan.parts, scratch, [&](int index, float* floats) {
      ConvTask task = task_of(*op, plan, index);
      weights(*op, plan.first(*op, index % plan.parts), task, floats);
      kernel.train->conv_forward(task);
    });
  });
}

slm_status slm_conv_backward(const slm_conv* op, int32_t threads) {
  return guarded([&] {
    check(*op);
    need(op->dy, "conv", "dy"), need(op->dx, "conv", "dx");
    need(op->dweight, "conv", "dweight"), need(op->dbias, "conv", "dbias");
    if (op->taps > 1) need(op->dtail, "conv", "dtail");
    const Plan plan(*op);
    const Kernels& kernel = kernels();
    const int64_t each = int64_t(op->channels) * (op->taps + 1);
    Crew crew(threads);
    float* shares = crew.common(each * op->rows);
    crew.run(op->rows * plan.parts, int64_t(op->channels) * op->taps, [&](int index, float* floats) {
      ConvTask task = task_of(*op, plan, index);
      const int first = plan.first(*op, index % plan.parts);
      weights(*op, first, task, floats);
      task.dweight = shares + each * (index / plan.parts) + int64_t(first) * (op->taps + 1);
      task.dbias = task.dweight + int64_t(task.channels) * op->taps;
      kernel.train->conv_backward(task);
    });
    for (int part = 0; part < plan.parts; part++) {
      const int first = plan.first(*op, part), count = plan.first(*op, part + 1) - first;
      for (int i = 0; i < count; i++)
        for (int j = 0; j <= op->taps; j++) {
          float total = 0;
          for (int row = 0; row < op->rows; row++)
            total += shares[each * row + int64_t(first) * (op->taps + 1) +
                                        int64_t(j) * count + i];
          if (j < op->taps) op->dweight[int64_t(first + i) * op->taps + j] = total;
          else op->dbias[first + i] = total;
        }
    }
  });
}
