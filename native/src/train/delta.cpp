// The gated delta rule over a batch: every head of every row is a task.
#include "common.h"
#include "solomonic.h"

namespace slm {
namespace train {
namespace {

int chunk_of(const slm_delta& op) {
  return op.chunk < 16 ? 16 : op.chunk > 64 ? 64 : (op.chunk + 15) / 16 * 16;
}
int64_t state_size(const slm_delta& op) { return int64_t(op.state) * op.head_dim; }
int64_t chunks(const slm_delta& op) { return (op.steps + chunk_of(op) - 1) / chunk_of(op); }

void check(const slm_delta& op, bool backward) {
  const char* name = "delta";
  need(op.rows >= 1 && op.steps >= 1, name, "there must be at least one row and one token");
  need(op.heads >= 1 && op.head_dim >= 1 && op.state >= 1, name, "sizes must be at least 1");
  need(op.q, name, "q"), need(op.k, name, "k"), need(op.v, name, "v");
  need(op.log_decay, name, "log_decay"), need(op.beta, name, "beta");
  if (!backward) {
    need(op.y, name, "y"), need(op.s0, name, "s0"), need(op.s1, name, "s1");
    return;
  }
  need(op.states, name, "states"), need(op.dy, name, "dy"), need(op.dq, name, "dq");
  need(op.dk, name, "dk"), need(op.dv, name, "dv"), need(op.dlog_decay, name, "dlog_decay");
  need(op.dbeta, name, "dbeta"), need(op.ds0, name, "ds0");
}

DeltaTask task_of(const slm_delta& op, int index) {
  const int row = index / op.heads, head = index % op.heads;
  const auto part = [&](const slm_array& array, int64_t each) {
    return array.data ? row_of(array, row).moved(head * each) : Tokens{nullptr, 0, false};
  };
  const auto state = [&](auto* data) { return data ? data + index * state_size(op) : nullptr; };
  DeltaTask task = {};
  task.steps = op.steps, task.head = op.head_dim, task.size = op.state, task.chunk = chunk_of(op);
  task.q = part(op.q, op.state), task.k = part(op.k, op.state), task.v = part(op.v, op.head_dim);
  task.log_decay = part(op.log_decay, 1), task.beta = part(op.beta, 1);
  task.y = part(op.y, op.head_dim), task.dy = part(op.dy, op.head_dim);
  task.dq = part(op.dq, op.state), task.dk = part(op.dk, op.state);
  task.dv = part(op.dv, op.head_dim);
  task.dlog_decay = part(op.dlog_decay, 1), task.dbeta = part(op.dbeta, 1);
  task.s0 = state(op.s0), task.s1 = state(op.s1);
  task.ds1 = state(op.ds1), task.ds0 = state(op.ds0);
  task.states = op.states ? op.states + index * chunks(op) * state_size(op) : nullptr;
  return task;
}

}  // namespace
}  // namespace train
}  // namespace slm

using namespace slm;
using namespace slm::train;

int64_t slm_delta_states(const slm_delta* op) {
  if (!op || op->rows < 1 || op->steps < 1) return 0;
  return int64_t(op->rows) * op->heads * chunks(*op) * state_size(*op);
}

slm_status slm_delta_forward(const slm_delta* op, int32_t threads) {
  return guarded([&] {
    check(*op, false);
    const TrainKernels& kernel = *kernels().train;
    Crew crew(threads);
    crew.run(op->rows * op->heads, kernel.delta_scratch(task_of(*op, 0), false),
             [&](int index, float* floats) { kernel.delta_forward(task_of(*op, index), floats); });
  });
}

slm_status slm_delta_backward(const slm_delta* op, int32_t threads) {
  return guarded([&] {
    check(*op, true);
    const TrainKernels& kernel = *kernels().train;
    Crew crew(threads);
    crew.run(op->rows * op->heads, kernel.delta_scratch(task_of(*op, 0), true),
             [&](int index, float* floats) { kernel.delta_backward(task_of(*op, index), floats); });
  });
}
