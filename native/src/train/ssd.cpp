// The state-space recurrence over a batch: which thread does which rows and heads.
#include <cstring>

#include "common.h"
#include "solomonic.h"

namespace slm {
namespace train {
namespace {

constexpr int kTasks = 8;  // enough to share out, few enough not to compute c b^T too often

struct Plan {
  int blocks, chunk, chunks;  // head blocks of each row

  explicit Plan(const slm_ssd& op) {
    blocks = op.rows >= kTasks ? 1 : (kTasks + op.rows - 1) / op.rows;
    if (blocks > op.heads) blocks = op.heads;
    chunk = op.chunk < 16 ? 16 : op.chunk > 128 ? 128 : (op.chunk + 15) / 16 * 16;
    chunks = (op.steps + chunk - 1) / chunk;
  }
  int first(const slm_ssd& op, int block) const {
    return int(int64_t(op.heads) * block / blocks);
  }
};

void check(const slm_ssd& op, bool backward) {
  const char* name = "ssd";
  need(op.rows >= 1 && op.steps >= 1, name, "there must be at least one row and one token");
  need(op.heads >= 1 && op.head_dim >= 1 && op.state >= 1, name, "sizes must be at least 1");
  need(op.x, name, "x"), need(op.dt, name, "dt"), need(op.b, name, "b"), need(op.c, name, "c");
  need(op.rate, name, "rate");
  if (!backward) {
    need(op.y, name, "y"), need(op.h0, name, "h0"), need(op.h1, name, "h1");
    return;
  }
  need(op.states, name, "states"), need(op.dy, name, "dy"), need(op.dx, name, "dx");
  need(op.ddt, name, "ddt"), need(op.db, name, "db"), need(op.dc, name, "dc");
  need(op.dh0, name, "dh0"), need(op.drate, name, "drate");
}

SsdTask task_of(const slm_ssd& op, const Plan& plan, int index) {
  const int row = index / plan.blocks, block = index % plan.blocks;
  const int first = plan.first(op, block), heads = plan.first(op, block + 1) - first;
  const int64_t column = int64_t(first) * op.head_dim;
  const int64_t state = (int64_t(row) * op.heads + first) * op.head_dim * op.state;
  SsdTask task = {};
  task.steps = op.steps, task.heads = heads, task.head = op.head_dim, task.size = op.state;
  task.chunk = plan.chunk;
  task.x = row_of(op.x, row).moved(column);
  task.dt = row_of(op.dt, row).moved(first);
  task.b = row_of(op.b, row), task.c = row_of(op.c, row);
  if (op.y.data) task.y = row_of(op.y, row).moved(column);
  task.rate = op.rate + first;
  task.h0 = op.h0 ? op.h0 + state : nullptr;
  task.h1 = op.h1 ? op.h1 + state : nullptr;
  if (op.states)  // a row's blocks of heads one after the other
    task.states = op.states +
                  (int64_t(row) * op.heads + first) * op.head_dim * op.state * plan.chunks;
  if (op.dy.data) {
    task.dy = row_of(op.dy, row).moved(column), task.dx = row_of(op.dx, row).moved(column);
    task.ddt = row_of(op.ddt, row).moved(first);
    task.dh1 = op.dh1 ? op.dh1 + state : nullptr, task.dh0 = op.dh0 + state;
  }
  return task;
}

// db and dc are summed over the blocks of heads, drate over the rows, always in the same order.
void backward(const slm_ssd& op, const Plan& plan, Crew& crew) {
  const Kernels& kernel = kernels();
  const int tasks = op.rows * plan.blocks;
  const int64_t maps = int64_t(op.steps) * op.state;
  float* shares = crew.common(2 * maps * tasks + int64_t(op.rows) * op.heads);
  float* rates = shares + 2 * maps * tasks;
  const int64_t scratch = kernel.train->ssd_scratch(task_of(op, plan, plan.blocks - 1), true);
  crew.run(tasks, scratch, [&](int index, float* floats) {
    SsdTask task = task_of(op, plan, index);
    task.db = shares + 2 * maps * index, task.dc = task.db + maps;
    task.drate = rates + int64_t(index / plan.blocks) * op.heads +
                 plan.first(op, index % plan.blocks);
    kernel.train->ssd_backward(task, floats);
  });
  crew.run(op.rows, 0, [&](int row, float*) {
    const float* mine = shares + 2 * maps * plan.blocks * row;
    const Tokens db = row_of(op.db, row), dc = row_of(op.dc, row);
    for (int t = 0; t < op.steps; t++) {
      const float* from = mine + int64_t(t) * op.state;
      kernel.train->sum_rows(from, 2 * maps, plan.blocks, op.state, db, t);
      kernel.train->sum_rows(from + maps, 2 * maps, plan.blocks, op.state, dc, t);
    }
  });
  const Tokens drate{reinterpret_cast<char*>(op.drate), op.heads, false};
  kernel.train->sum_rows(rates, op.heads, op.rows, op.heads, drate, 0);
}

}  // namespace
}  // namespace train
}  // namespace slm

using namespace slm;
using namespace slm::train;

int64_t slm_ssd_states(const slm_ssd* op) {
  if (!op || op->rows < 1 || op->steps < 1) return 0;
  return int64_t(op->rows) * Plan(*op).chunks * op->heads * op->head_dim * op->state;
}

slm_status slm_ssd_forward(const slm_ssd* op, int32_t threads) {
  return guarded([&] {
    check(*op, false);
    const Plan plan(*op);
    const Kernels& kernel = kernels();
    Crew crew(threads);
    const int64_t scratch = kernel.train->ssd_scratch(task_of(*op, plan, plan.blocks - 1), false);
    crew.run(op->rows * plan.blocks, scratch, [&](int index, float* floats) {
      kernel.train->ssd_forward(task_of(*op, plan, index), floats);
    });
  });
}

slm_status slm_ssd_backward(const slm_ssd* op, int32_t threads) {
  return guarded([&] {
    check(*op, true);
    Crew crew(threads);
    backward(*op, Plan(*op), crew);
  });
}
