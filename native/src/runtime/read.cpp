// A round through a stack of layers, and through a language model.
#include <algorithm>
#include <cmath>

#include "context.h"

namespace slm {

void Operand::set(const float* x, int64_t ldx, int rows, int inputs) {
  x_ = x;
  ldx_ = ldx;
  rows_ = rows;
  inputs_ = inputs;
  for (Kind& kind : kinds_) kind.filled = false;
}

size_t Operand::bytes() const {
  size_t total = 0;
  for (const Kind& kind : kinds_) total += kind.buffer.bytes();
  return total;
}

void Operand::times(const Matrix& matrix, float* y, int64_t ldy, bool add, Threads& team) {
  Kind& kind = kinds_[matrix.input_kind()];
  if (!kind.filled)
    kind.input = kind.buffer.fill(matrix.input_kind(), x_, ldx_, rows_, inputs_, team);
  kind.filled = true;
  matrix.multiply(kind.input, y, ldy, add, team);
}

Workspace::Workspace(const Stack& s)
    : stack(s), rotary(s.config.theta ? s.config.theta : 1.0f, s.config.head) {
  if (s.config.theta) rotary.at(s.config.window, far);
  if (s.config.layers.find('B') == std::string::npos) return;
  before.reserve(size_t(s.config.slots));
  after.reserve(size_t(s.config.slots));
  tokens.reserve(size_t(s.config.refresh));
  // As large as the slots with which it will change places.
  fresh.keys.resize(size_t(s.config.groups) * s.config.slots * s.config.head);
  fresh.values = fresh.keys;
  fresh.eps.resize(size_t(s.config.slots));
  fresh.time.resize(size_t(s.config.slots));
}

void Workspace::use(Threads& threads) {
  team = &threads;
  if (int(local.size()) < threads.count()) local.resize(size_t(threads.count()));
}

int64_t Workspace::bytes() const {
  size_t total = input.bytes() + second.bytes() + third.bytes() +
                 (before.capacity() + after.capacity() + tokens.capacity()) * sizeof(History::Kept) +
                 (fresh.keys.size() + fresh.values.size() + fresh.eps.size()) * 4 +
                 (fresh.time.size() * 8);
  for (const Rows* rows : {&x, &u, &mixed, &y, &projected, &convolved, &inner, &scores, &query,
                           &pairs, &faded, &attended, &hidden, &up, &eps})
    total += rows->bytes();
  for (const Local& one : local) total += one.bytes();
  return int64_t(total);
}

namespace {

void norm_rows(Workspace& scratch, const Rows& x, const Floats& weight, int rows, Rows& out) {
  const Config& c = scratch.stack.config;
  out.shape(rows, c.width);
  scratch.team->run(rows, [&](int row, int) {
    kernels().rms_norm(x.row(row), nullptr, weight.data(), c.eps, c.width, out.row(row));
  });
}

void project_pairs(Workspace& scratch, const Layer& layer, Operand& from, int rows, Rows& to) {
  const int width = scratch.stack.config.pairs();
  float* out = to.shape(rows, width);
  from.times(layer.pairs, out, width, false, *scratch.team);
  if (!layer.values.empty()) from.times(layer.values, out + width / 2, width, false, *scratch.team);
}

void attend(Workspace& scratch, int index, const Segments& segments, Operand& u, int rows) {
  const Config& c = scratch.stack.config;
  const Layer& layer = scratch.stack.layers[index];
  Operand* mixed = &u;
  if (layer.conv.taps) {
    convolve(scratch, layer.conv, &LayerState::short_tail, index, segments, scratch.u.data(),
             c.width, false, true, scratch.mixed);
    mixed = &scratch.third;
    mixed->set(scratch.mixed.data(), c.width, rows, c.width);
  }
  const int inner = c.heads * c.head;
  mixed->times(layer.query, scratch.query.shape(rows, inner), inner, false, *scratch.team);
  project_pairs(scratch, layer, *mixed, rows, scratch.pairs);
  scratch.attended.shape(rows, inner);
  if (layer.recurrent) {
    recur(scratch, index, segments, u, rows, scratch.y.shape(rows, c.width), false);
    scratch.second.set(scratch.y.data(), c.width, rows, c.width);
    project_pairs(scratch, layer, scratch.second, rows, scratch.faded);
    if (layer.kind == 'B' && c.slots > 0) innovate(scratch, index, segments);
  }
  if (layer.kind == 'T') attend_full(scratch, index, segments);
  else attend_memories(scratch, index, segments);
  scratch.second.set(scratch.attended.data(), inner, rows, inner);
  scratch.second.times(layer.output, scratch.x.data(), c.width, true, *scratch.team);
  if (layer.recurrent && c.fading_skip)
    for (int row = 0; row < rows; row++)
      kernels().axpy(1, scratch.y.row(row), c.width, scratch.x.row(row));
}

void feed_forward(Workspace& scratch, const Layer& layer, int rows) {
  const Config& c = scratch.stack.config;
  Threads& team = *scratch.team;
  norm_rows(scratch, scratch.x, layer.mlp_norm, rows, scratch.u);
  scratch.input.set(scratch.u.data(), c.width, rows, c.width);
  float* gate = scratch.hidden.shape(rows, c.mlp);
  float* up = scratch.up.shape(rows, c.mlp);
  scratch.input.times(layer.gate, gate, c.mlp, false, team);
  scratch.input.times(layer.up, up, c.mlp, false, team);
  team.run(rows, [&](int row, int) {
    float* mine = gate + int64_t(row) * c.mlp;
    kernels().silu_product(mine, up + int64_t(row) * c.mlp, c.mlp, mine);
  });
  scratch.second.set(gate, c.mlp, rows, c.mlp);
  scratch.second.times(layer.down, scratch.x.data(), c.width, true, team);
}

void place_rows(Workspace& scratch, const Segments& segments, int rows) {
  scratch.segment_of.resize(rows);
  const bool turned = scratch.stack.config.theta != 0;
  if (turned && int(scratch.turns.size()) < rows) scratch.turns.resize(rows);
  for (size_t i = 0; i < segments.size(); i++)
    for (int j = 0; j < segments[i].count; j++) {
      const int row = segments[i].row + j;
      scratch.segment_of[row] = int(i);
      if (turned) scratch.rotary.at(segments[i].stream->time + j, scratch.turns[row]);
    }
}

}  // namespace

void read_stack(Workspace& scratch, const Segments& segments) {
  const Config& c = scratch.stack.config;
  const int rows = segments.back().row + segments.back().count;
  place_rows(scratch, segments, rows);
  for (size_t i = 0; i < scratch.stack.layers.size(); i++) {
    const Layer& layer = scratch.stack.layers[i];
    norm_rows(scratch, scratch.x, layer.norm, rows, scratch.u);
    scratch.input.set(scratch.u.data(), c.width, rows, c.width);
    if (layer.attends) attend(scratch, int(i), segments, scratch.input, rows);
    else if (layer.recurrent)
      recur(scratch, int(i), segments, scratch.input, rows, scratch.x.data(), true);
    else run_lstm(scratch, int(i), segments, scratch.input, rows);
    if (c.mlp) feed_forward(scratch, layer, rows);
  }
  for (const Segment& segment : segments) segment.stream->time += segment.count;
}

void read_round(slm_context& context, const Segments& segments, const int32_t* tokens) {
  const Matrix& table = context.model.embedding();
  const int rows = segments.back().row + segments.back().count;
  context.x.shape(rows, context.stack.config.width);
  context.team->run(rows, [&](int row, int) { table.row(tokens[row], context.x.row(row)); });
  read_stack(context, segments);
}

void read_logits(slm_context& context, const std::vector<int>& rows, float* logits,
                 float* hidden) {
  const Config& c = context.stack.config;
  const int count = int(rows.size());
  context.chosen.shape(count, c.width);
  context.team->run(count, [&](int i, int) {
    kernels().rms_norm(context.x.row(rows[i]), nullptr, context.model.norm.data(), c.eps, c.width,
                       context.chosen.row(i));
    if (hidden)
      std::copy_n(context.chosen.row(i), c.width, hidden + int64_t(i) * c.width);
  });
  if (!logits) return;
  context.input.set(context.chosen.data(), c.width, count, c.width);
  context.input.times(context.model.head, logits, c.vocab, false, *context.team);
}

}  // namespace slm

slm_context::slm_context(const slm_model& m, int count)
    : Workspace(m.stack), model(m), threads(count) {
  use(threads);
}
