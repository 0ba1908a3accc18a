// B'MOJO attention over a batch: the choice of the eidetic slots, the tiles, the carry.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common.h"
#include "solomonic.h"

namespace slm {
namespace train {
namespace {

struct Plan {
  const slm_attention& op;
  int ring, passed;   // carried raw and fading tokens
  int64_t pair, rep;  // numbers of a key-value pair of all groups; query heads of a group

  explicit Plan(const slm_attention& op_) : op(op_) {
    ring = op.window ? op.window - 1 : 0;
    passed = op.fading ? op.fading + (op.chunked_fading ? op.refresh : op.lag) - 1 : 0;
    pair = int64_t(2) * op.groups * op.head_dim, rep = op.heads / op.groups;
  }
  int steps(int row) const {
    return op.lengths ? int(op.lengths[row]) : op.steps;
  }
  int64_t history(int row, int block) const {
    return (int64_t(row) * (op.blocks + 1) + block) * op.slots;
  }
  // Refresh blocks the row has completed at the end of the call.
  int done(int row) const {
    return int((op.time[row] % op.refresh + steps(row)) / op.refresh);
  }
};

void check(const Plan& plan, bool backward) {
  const slm_attention& op = plan.op;
  const char* name = "attention";
  need(op.rows >= 1 && op.steps >= 1, name, "there must be at least one row and one token");
  need(op.heads >= 1 && op.groups >= 1 && op.heads % op.groups == 0 && op.head_dim >= 1, name,
       "sizes must be at least 1 and the groups divide the heads");
  need(op.window >= 0 && op.refresh >= 1 && op.refresh <= (op.window > 1 ? op.window : 1), name,
       "the refresh period must lie between 1 and the window");
  need(op.slots >= 0 && op.fading >= 0 && op.lag >= 0, name, "a memory has a negative size");
  need(op.rope_theta == 0 || op.head_dim % 2 == 0, name, "positions need an even head size");
  need(op.q, name, "q"), need(op.kv, name, "kv"), need(op.time, name, "time");
  need(op.lse, name, "lse");
  if (op.fading) need(op.faded, name, "faded");
  if (op.slots) need(op.names, name, "names"), need(op.kept, name, "kept");
  for (int row = 0; row < op.rows; row++) {
    need(op.time[row] >= 0, name, "a time is negative");
    need(plan.steps(row) >= 0 && plan.steps(row) <= op.steps, name, "a length does not fit");
    need(plan.done(row) <= op.blocks, name, "there are more refresh blocks than 'blocks'");
  }
  if (backward) {
    need(op.dout, name, "dout"), need(op.dq, name, "dq"), need(op.dkv, name, "dkv");
    return;
  }
  need(op.out, name, "out");
  if (op.slots) need(op.eps, name, "eps"), need(op.slot_eps, name, "slot_eps");
}

struct Kept {
  float eps;
  int64_t name, time;
};

// Put what may be kept among the kept ones, best first; equals stay in order of time.
void insert(std::vector<Kept>& kept, size_t slots, const Kept& token) {
  if (token.eps == -INFINITY) return;
  size_t place = kept.size();
  while (place > 0 && !(kept[place - 1].eps >= token.eps)) place--;
  if (place == slots) return;
  kept.insert(kept.begin() + place, token);
  if (kept.size() > slots) kept.pop_back();
}

// The slots before each refresh block of a row and after the last completed one.
void choose(const Plan& plan, int row) {
  const slm_attention& op = plan.op;
  const int phase = int(op.time[row] % op.refresh), done = plan.done(row);
  const int64_t base = int64_t(row) * op.slots;
  std::vector<Kept> kept;
  std::vector<int64_t> empty;  // what an unfilled slot holds stays where it was
  kept.reserve(op.slots + 1);
  for (int i = 0; i < op.slots; i++)
    if (op.slot_eps[base + i] == -INFINITY) empty.push_back(i);
    else kept.push_back({op.slot_eps[base + i], i, op.slot_time[base + i]});
  for (int block = 0; block <= op.blocks; block++) {
    const int64_t at = plan.history(row, block);
    if (block > 0 && block <= done)
      for (int i = 0; i < op.refresh; i++) {
        const int t = (block - 1) * op.refresh + i - phase;  // negative: carried, not yet kept
        const float eps = t >= 0 ? op.eps[int64_t(row) * op.steps + t]
                                 : op.raw_eps[int64_t(row) * plan.ring + plan.ring + t];
        insert(kept, op.slots, {eps, op.slots + plan.ring + t, op.time[row] + t});
      }
    for (int i = 0; i < op.slots; i++) {
      const bool filled = i < int(kept.size());
      op.names[at + i] = filled ? kept[i].name : empty[i - kept.size()];
      op.kept[at + i] = filled ? kept[i].time : -1;
      if (block == done && op.new_slot_eps)
        op.new_slot_eps[base + i] = filled ? kept[i].eps : -INFINITY;
    }
  }
  if (op.new_slot_time && op.slots)
    std::memcpy(op.new_slot_time + base, op.kept + plan.history(row, done),
                op.slots * sizeof(int64_t));
}

// cos and sin of theta^(-2i/D) times the places -(w - 1) .. kTileQueries - 1, and then of w.
std::vector<float> angles(const Plan& plan) {
  const slm_attention& op = plan.op;
  const int size = op.head_dim, half = size / 2, places = plan.ring + kTileQueries;
  std::vector<float> table(op.rope_theta == 0 ? 0 : size_t(places + 1) * size);
  if (table.empty()) return table;
  for (int i = 0; i < half; i++) {
    const double rate = std::pow(double(op.rope_theta), -double(i) / half);
    for (int place = 0; place <= places; place++) {
      const double angle = (place == places ? op.window : place - plan.ring) * rate;
      table[size_t(place) * size + i] = float(std::cos(angle));
      table[size_t(place) * size + half + i] = float(std::sin(angle));
    }
  }
  return table;
}

AttentionTask task_of(const Plan& plan, const std::vector<float>& rope, int index) {
  const slm_attention& op = plan.op;
  const int row = index / op.groups, group = index % op.groups;
  const int64_t head = int64_t(group) * plan.rep, column = int64_t(group) * op.head_dim;
  const auto part = [&](const slm_array& array, int64_t moved) {
    return array.data ? row_of(array, row).moved(moved) : Tokens{nullptr, 0, false};
  };
  AttentionTask task = {};
  task.steps = plan.steps(row), task.heads = int(plan.rep), task.size = op.head_dim;
  task.window = op.window, task.refresh = op.refresh, task.slots = op.slots;
  task.fading = op.fading, task.lag = op.lag;
  task.chunked_fading = op.chunked_fading != 0, task.keep_duplicates = op.keep_duplicates != 0;
  task.time = op.time[row];
  task.q = part(op.q, head * op.head_dim), task.out = part(op.out, head * op.head_dim);
  task.keys = part(op.kv, column), task.ring = part(op.raw, column);
  task.old = part(op.slots_pairs, column);
  task.faded = part(op.faded, column), task.faded_ring = part(op.faded_ring, column);
  task.value = task.carried_value = int64_t(op.groups) * op.head_dim;
  task.names = op.names + plan.history(row, 0), task.times = op.kept + plan.history(row, 0);
  task.rope = rope.empty() ? nullptr : rope.data();
  task.lse = op.lse + int64_t(row) * op.steps * op.heads + head, task.lse_step = op.heads;
  task.dout = part(op.dout, head * op.head_dim), task.dq = part(op.dq, head * op.head_dim);
  return task;
}

void clear(const slm_array& array, int row, int first, int last, int64_t count) {
  if (!array.data) return;
  const Tokens rows = row_of(array, row);
  for (int t = first; t < last; t++) std::memset(rows.at(t), 0, count * (rows.half ? 2 : 4));
}

// Token i of [carried | new], `count` numbers.
void copy_token(const Tokens& carried, int before, const Tokens& fresh, int64_t i, const Tokens& to,
                int place, int64_t count) {
  const Tokens& from = i < before ? carried : fresh;
  std::memcpy(to.at(place), from.at(i < before ? i : i - before), count * (to.half ? 2 : 4));
}

// What the next call needs of this row.
void carry(const Plan& plan, int row) {
  const slm_attention& op = plan.op;
  const int steps = plan.steps(row);
  const Tokens kv = row_of(op.kv, row), raw = row_of(op.raw, row);
  for (int i = 0; i < plan.ring; i++) {
    copy_token(raw, plan.ring, kv, steps + i, row_of(op.new_raw, row), i, plan.pair);
    if (op.slots)
      op.new_raw_eps[int64_t(row) * plan.ring + i] =
          steps + i < plan.ring ? op.raw_eps[int64_t(row) * plan.ring + steps + i]
                                : op.eps[int64_t(row) * op.steps + steps + i - plan.ring];
  }
  for (int i = 0; i < plan.passed; i++)
    copy_token(row_of(op.faded_ring, row), plan.passed, row_of(op.faded, row), steps + i,
               row_of(op.new_faded_ring, row), i, plan.pair);
  for (int i = 0; i < op.slots; i++) {
    const int64_t name = op.names[plan.history(row, plan.done(row)) + i];
    const Tokens to = row_of(op.new_slots_pairs, row);
    if (name < op.slots) std::memcpy(to.at(i), row_of(op.slots_pairs, row).at(name),
                                     plan.pair * (to.half ? 2 : 4));
    else copy_token(raw, plan.ring, kv, name - op.slots, to, i, plan.pair);
  }
}

// Sums of gradients of one row and group, (tokens, 2, D), and where they come from and go to.
struct Sums {
  const Plan& plan;
  const Kernels& kernel;
  int row;
  int64_t column;
  float *pool, *faded;

  void add(const slm_array& from, int i, float* to) const {
    if (!from.data) return;
    const Tokens rows = row_of(from, row).moved(column);
    const int size = plan.op.head_dim;
    for (int part = 0; part < 2; part++)
      for (int d = 0; d < size; d++) {
        const char* p = rows.at(i, int64_t(part) * plan.op.groups * size + d);
        float value;
        if (rows.half) {
          uint16_t h;
          std::memcpy(&h, p, 2);
          const uint32_t bits = uint32_t(h) << 16;
          std::memcpy(&value, &bits, 4);
        } else {
          std::memcpy(&value, p, 4);
        }
        to[int64_t(part) * size + d] += value;
      }
  }

  // Gradients of the new carry go to the tokens it was made of.
  void begin() const {
    const slm_attention& op = plan.op;
    const int64_t size = 2 * op.head_dim;
    const int steps = plan.steps(row);
    std::memset(pool, 0, (op.slots + plan.ring + steps) * size * sizeof(float));
    std::memset(faded, 0, (plan.passed + steps) * size * sizeof(float));
    for (int i = 0; i < plan.ring; i++) add(op.dnew_raw, i, pool + (op.slots + steps + i) * size);
    for (int i = 0; i < plan.passed; i++) add(op.dnew_faded_ring, i, faded + (steps + i) * size);
    for (int i = 0; i < op.slots; i++)
      add(op.dnew_slots_pairs, i,
          pool + op.names[plan.history(row, plan.done(row)) + i] * size);
  }

  void put(const float* from, const slm_array& to, int count) const {
    if (!to.data) return;
    const int size = plan.op.head_dim;
    const Tokens rows = row_of(to, row).moved(column);
    kernel.train->round_rows(from, 2 * size, count, size, rows, 0);
    kernel.train->round_rows(from + size, 2 * size, count, size,
                             rows.moved(int64_t(plan.op.groups) * size), 0);
  }

  void end() const {
    const slm_attention& op = plan.op;
    const int64_t size = 2 * op.head_dim;
    const int steps = plan.steps(row);
    put(pool, op.dslots_pairs, op.slots);
    put(pool + op.slots * size, op.draw, plan.ring);
    put(pool + (op.slots + plan.ring) * size, op.dkv, steps);
    put(faded, op.dfaded_ring, plan.passed);
    if (op.fading) put(faded + plan.passed * size, op.dfaded, steps);
  }
};

}  // namespace
}  // namespace train
}  // namespace slm

using namespace slm;
using namespace slm::train;

slm_status slm_attention_forward(const slm_attention* op, int32_t threads) {
  return guarded([&] {
    const Plan plan(*op);
    check(plan, false);
    const std::vector<float> rope = angles(plan);
    const Kernels& kernel = kernels();
    if (op->slots)
      for (int row = 0; row < op->rows; row++) choose(plan, row);
    Crew crew(threads);
    const int64_t scratch = kernel.train->attention_scratch(task_of(plan, rope, 0), false);
    crew.run(op->rows * op->groups, scratch, [&](int index, float* floats) {
      kernel.train->attention_forward(task_of(plan, rope, index), floats);
    });
    for (int row = 0; row < op->rows; row++) {
      clear(op->out, row, plan.steps(row), op->steps, int64_t(op->heads) * op->head_dim);
      float* lse = op->lse + int64_t(row) * op->steps * op->heads;
      std::fill(lse + plan.steps(row) * op->heads, lse + op->steps * op->heads, -INFINITY);
      carry(plan, row);
    }
  });
}

slm_status slm_attention_backward(const slm_attention* op, int32_t threads) {
  return guarded([&] {
    const Plan plan(*op);
    check(plan, true);
    const std::vector<float> rope = angles(plan);
    const Kernels& kernel = kernels();
    Crew crew(threads);
    const int64_t scratch = kernel.train->attention_scratch(task_of(plan, rope, 0), true);
    const int64_t size = 2 * op->head_dim;
    const int64_t pool = (op->slots + plan.ring + op->steps) * size;
    const int64_t faded = (plan.passed + op->steps) * size;
    crew.run(op->rows * op->groups, scratch + pool + faded, [&](int index, float* floats) {
      AttentionTask task = task_of(plan, rope, index);
      const int64_t column = int64_t(index % op->groups) * op->head_dim;
      const Sums sums{plan, kernel, index / op->groups, column, floats, floats + pool};
      sums.begin();
      task.dpool = sums.pool, task.dfaded = sums.faded;
      kernel.train->attention_backward(task, floats + pool + faded);
      sums.end();
    });
    for (int row = 0; row < op->rows; row++) {
      clear(op->dq, row, plan.steps(row), op->steps, int64_t(op->heads) * op->head_dim);
      clear(op->dkv, row, plan.steps(row), op->steps, plan.pair);
      clear(op->dfaded, row, plan.steps(row), op->steps, plan.pair);
    }
  });
}
