// A round through the whole stack: embedding, layers, head.
#include <algorithm>
#include <cmath>

#include "context.h"

using namespace slm;

slm_context::slm_context(const slm_model& m, int threads)
    : model(m), team(threads), local(team.count()),
      rotary(m.config.theta ? m.config.theta : 1.0f, m.config.head) {
  if (m.config.theta) far = rotary.at(m.config.window);
}

namespace slm {

namespace {

void norm_rows(slm_context& context, const Rows& x, const Floats& weight, int rows, Rows& out) {
  const Config& c = context.model.config;
  out.shape(rows, c.width);
  context.team.run(rows, [&](int row, int) {
    kernels().rms_norm(x.row(row), nullptr, weight.data(), c.eps, c.width, out.row(row));
  });
}

void attend(slm_context& context, int index, const Segments& segments, const Input& u, int rows) {
  const Config& c = context.model.config;
  const Layer& layer = context.model.layers[index];
  Threads& team = context.team;
  Input mixed = u;
  if (layer.conv.taps) {
    convolve(context, layer.conv, &LayerState::short_tail, index, segments, context.u.data(),
             c.width, false, true, context.mixed);
    mixed = context.third.fill(context.model.weights, context.mixed.data(), c.width, rows, c.width,
                               team);
  }
  const int inner = c.heads * c.head;
  layer.query.multiply(mixed, context.query.shape(rows, inner), inner, false, team);
  layer.pairs.multiply(mixed, context.pairs.shape(rows, c.pairs()), c.pairs(), false, team);
  context.attended.shape(rows, inner);
  if (layer.recurrent) {
    recur(context, index, segments, u, rows, context.y.shape(rows, c.width), false);
    const Input faded = context.second.fill(context.model.weights, context.y.data(), c.width, rows,
                                            c.width, team);
    layer.pairs.multiply(faded, context.faded.shape(rows, c.pairs()), c.pairs(), false, team);
    if (layer.kind == 'B' && c.slots > 0) innovate(context, index, segments);
  }
  if (layer.kind == 'T') attend_full(context, index, segments);
  else attend_memories(context, index, segments);
  const Input out =
      context.second.fill(context.model.weights, context.attended.data(), inner, rows, inner, team);
  layer.output.multiply(out, context.x.data(), c.width, true, team);
  if (layer.recurrent && c.fading_skip)
    for (int row = 0; row < rows; row++)
      kernels().axpy(1, context.y.row(row), c.width, context.x.row(row));
}

void feed_forward(slm_context& context, const Layer& layer, int rows) {
  const Config& c = context.model.config;
  Threads& team = context.team;
  norm_rows(context, context.x, layer.mlp_norm, rows, context.u);
  const Input u =
      context.input.fill(context.model.weights, context.u.data(), c.width, rows, c.width, team);
  float* gate = context.hidden.shape(rows, c.mlp);
  float* up = context.up.shape(rows, c.mlp);
  layer.gate.multiply(u, gate, c.mlp, false, team);
  layer.up.multiply(u, up, c.mlp, false, team);
  team.run(rows, [&](int row, int) {
    float* mine = gate + int64_t(row) * c.mlp;
    kernels().silu_product(mine, up + int64_t(row) * c.mlp, c.mlp, mine);
  });
  const Input hidden = context.second.fill(context.model.weights, gate, c.mlp, rows, c.mlp, team);
  layer.down.multiply(hidden, context.x.data(), c.width, true, team);
}

void place_rows(slm_context& context, const Segments& segments, int rows) {
  context.segment_of.resize(rows);
  const bool turned = context.model.config.theta != 0;
  if (turned) context.turns.resize(rows);
  for (size_t i = 0; i < segments.size(); i++)
    for (int j = 0; j < segments[i].count; j++) {
      context.segment_of[segments[i].row + j] = int(i);
      if (turned)
        context.turns[segments[i].row + j] = context.rotary.at(segments[i].stream->time + j);
    }
}

}  // namespace

void read_round(slm_context& context, const Segments& segments, const int32_t* tokens) {
  const Config& c = context.model.config;
  const int rows = segments.back().row + segments.back().count;
  place_rows(context, segments, rows);
  context.x.shape(rows, c.width);
  const Matrix& table = c.tied ? context.model.head : context.model.embed;
  context.team.run(rows, [&](int row, int) { table.row(tokens[row], context.x.row(row)); });
  for (size_t i = 0; i < context.model.layers.size(); i++) {
    const Layer& layer = context.model.layers[i];
    norm_rows(context, context.x, layer.norm, rows, context.u);
    const Input u = context.input.fill(context.model.weights, context.u.data(), c.width, rows,
                                       c.width, context.team);
    if (layer.attends) attend(context, int(i), segments, u, rows);
    else recur(context, int(i), segments, u, rows, context.x.data(), true);
    if (c.mlp) feed_forward(context, layer, rows);
  }
  for (const Segment& segment : segments) segment.stream->time += segment.count;
}

void read_logits(slm_context& context, const std::vector<int>& rows, float* out) {
  const Config& c = context.model.config;
  const int count = int(rows.size());
  context.chosen.shape(count, c.width);
  context.team.run(count, [&](int i, int) {
    kernels().rms_norm(context.x.row(rows[i]), nullptr, context.model.norm.data(), c.eps, c.width,
                       context.chosen.row(i));
  });
  const Input last = context.input.fill(context.model.weights, context.chosen.data(), c.width,
                                        count, c.width, context.team);
  context.model.head.multiply(last, out, c.vocab, false, context.team);
}

}  // namespace slm
