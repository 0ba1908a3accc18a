// Checking a configuration and packing a model's parameters.
#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.h"

namespace slm {

namespace {

constexpr int kLargest = 1 << 24;  // of any size, so that products of two fit 64 bits and sums 32

void at_least(int value, int least, const char* name) {
  require(value >= least && value <= kLargest,
          std::string(name) + " = " + std::to_string(value) + " must lie between " +
              std::to_string(least) + " and " + std::to_string(kLargest) + ".");
}
void product_fits(int64_t a, int64_t b, const char* what) {
  require(a * b <= kLargest, std::string(what) + " = " + std::to_string(a * b) +
                                 " must be at most " + std::to_string(kLargest) + ".");
}

}  // namespace

bool Config::has(char kind, const char* set) const { return std::strchr(set, kind) != nullptr; }

Config::Config(const slm_config& c)
    : layers(c.layers ? c.layers : ""),
      short_conv_layers(c.short_conv_layers ? c.short_conv_layers : ""),
      vocab(c.vocab_size),
      width(c.hidden_size),
      heads(c.heads),
      groups(c.key_value_heads),
      head(c.head_dim),
      mlp(c.mlp_size),
      window(c.window),
      refresh(c.refresh),
      slots(c.slots),
      fading(c.fading),
      lag(c.lag),
      taps(c.taps),
      state(c.ssm_state),
      state_head(c.ssm_head_dim),
      inner(int(std::min<int64_t>(int64_t(c.ssm_expand) * c.hidden_size, kLargest + 1))),
      ssm_taps(c.ssm_conv),
      short_taps(c.short_conv),
      chunked_fading(c.chunked_fading),
      fading_skip(c.fading_skip),
      keep_duplicates(c.keep_duplicates),
      delta_transition(c.delta_transition),
      tied(c.tied),
      theta(c.rope_theta),
      eps(c.norm_eps) {
  require(!layers.empty(), "the model has no layers; give one letter a layer.");
  for (char kind : layers)
    require(has(kind, "TWMDFB"), std::string("layer letter '") + kind +
                                     "' is unknown; use T, W, M, D, F or B.");
  at_least(vocab, 1, "vocab_size");
  at_least(width, 1, "hidden_size");
  at_least(heads, 1, "heads");
  at_least(groups, 1, "key_value_heads");
  at_least(head, 1, "head_dim");
  at_least(mlp, 0, "mlp_size");
  at_least(window, 0, "window");
  at_least(refresh, 1, "refresh");
  at_least(slots, 0, "slots");
  at_least(fading, 0, "fading");
  at_least(lag, 0, "lag");
  at_least(taps, 1, "taps");
  at_least(state, 1, "ssm_state");
  at_least(state_head, 1, "ssm_head_dim");
  at_least(inner, 1, "ssm_expand * hidden_size");
  at_least(ssm_taps, 1, "ssm_conv");
  at_least(short_taps, 0, "short_conv");
  require(ssm_taps <= 64 && short_taps <= 64, "a convolution has at most 64 taps.");
  require(heads % groups == 0, "key_value_heads must divide heads.");
  product_fits(heads, head, "heads * head_dim");
  product_fits(state, state_head, "ssm_state * ssm_head_dim");
  if (layers.find_first_of("MDFB") != std::string::npos) {
    require(inner % state_head == 0, "ssm_head_dim must divide ssm_expand * hidden_size.");
    product_fits(state_heads(), state, "ssm_expand * hidden_size / ssm_head_dim * ssm_state");
  }
  require(refresh <= (window > 1 ? window : 1), "refresh must not be longer than the window.");
  require(theta >= 0 && eps >= 0, "rope_theta and norm_eps must not be negative.");
  require(theta == 0 || head % 2 == 0, "rotary positions need an even head_dim.");
}

}  // namespace slm

using slm::Convolution;
using slm::Floats;
using slm::Layer;
using slm::Matrix;
using slm::Recurrence;
using slm::require;

void slm_model::set(const std::string& name, const float* values, int64_t count) {
  require(!finished, "the model is finished; its parameters no longer change.");
  require(values && count > 0, "parameter '" + name + "' is empty.");
  given_[name].assign(values, values + count);
}

Floats slm_model::take(const std::string& name, int64_t count) {
  const auto found = given_.find(name);
  require(found != given_.end(), "parameter '" + name + "' was not given.");
  require(int64_t(found->second.size()) == count,
          "parameter '" + name + "' has " + std::to_string(found->second.size()) +
              " numbers and needs " + std::to_string(count) + ".");
  known_.insert(name);
  if (checking_) return {};
  Floats values = std::move(found->second);
  given_.erase(found);
  return values;
}

Matrix slm_model::pack(int outputs, int inputs, const Floats& values) {
  return checking_ ? Matrix() : Matrix(weights, outputs, inputs, values.data());
}

Matrix slm_model::matrix(const std::string& name, int outputs, int inputs) {
  return pack(outputs, inputs, take(name, int64_t(outputs) * inputs));
}

Convolution slm_model::convolution(const std::string& name, int taps, int channels, bool bias) {
  Convolution out;
  out.taps = taps;
  out.channels = channels;
  const Floats values = take(name + ".weight", int64_t(taps) * channels);  // (channels, 1, taps)
  if (bias) out.bias = take(name + ".bias", channels);
  if (checking_) return out;
  out.weight.resize(values.size());
  for (int c = 0; c < channels; c++)
    for (int j = 0; j < taps; j++)
      out.weight[int64_t(j) * channels + c] = values[int64_t(c) * taps + j];
  return out;
}

void slm_model::build_recurrence(const std::string& name, Recurrence& out) {
  const slm::Config& c = config;
  const int heads = c.state_heads();
  out.mixed = c.inner + (out.delta ? 2 * heads * c.state : 2 * c.state);
  out.in = matrix(name + ".in_proj.weight", c.inner + out.mixed + (out.delta ? 2 : 1) * heads,
                  c.width);
  out.conv = convolution(name + ".conv", c.ssm_taps, out.mixed, true);
  out.dt_bias = take(name + ".dt_bias", heads);
  out.rate = take(name + ".A_log", heads);
  for (float& rate : out.rate) rate = -std::exp(rate);
  if (!out.delta) out.skip = take(name + ".D", heads);
  out.norm = take(name + ".norm.weight", c.inner);
  out.out = matrix(name + ".out_proj.weight", c.width, c.inner);
}

void slm_model::build_attention(const std::string& name, Layer& out) {
  const slm::Config& c = config;
  out.query = matrix(name + ".query.weight", c.heads * c.head, c.width);
  Floats pairs = take(name + ".key.weight", int64_t(c.pairs()) / 2 * c.width);
  const Floats values = take(name + ".value.weight", int64_t(c.pairs()) / 2 * c.width);
  pairs.insert(pairs.end(), values.begin(), values.end());
  out.pairs = pack(c.pairs(), c.width, pairs);
  out.output = matrix(name + ".output.weight", c.width, c.heads * c.head);
  if (c.short_taps > 0 && c.short_conv_layers.find(out.kind) != std::string::npos)
    out.conv = convolution(name + ".conv", c.short_taps, c.width, false);
}

void slm_model::finish() {
  require(!finished, "the model is finished already.");
  checking_ = true;
  known_.clear();
  build();
  for (const auto& parameter : given_)
    require(known_.count(parameter.first) == 1,
            "parameter '" + parameter.first + "' belongs to no layer of this model.");
  checking_ = false;
  build();
  finished = true;
}

void slm_model::build() {
  const slm::Config& c = config;
  layers.clear();
  for (size_t i = 0; i < c.layers.size(); i++) {
    Layer layer;
    layer.kind = c.layers[i];
    const std::string block = "blocks." + std::to_string(i), mixer = block + ".mixer";
    layer.norm = take(block + ".norm.weight", c.width);
    layer.recurrent = c.has(layer.kind, "MDFB");
    layer.attends = c.has(layer.kind, "TWFB");
    layer.recurrence.delta = c.delta(layer.kind);
    if (layer.recurrent)
      build_recurrence(layer.attends ? mixer + ".ssm" : mixer, layer.recurrence);
    if (layer.attends) build_attention(mixer, layer);
    if (c.mlp > 0) {
      layer.mlp_norm = take(block + ".mlp_norm.weight", c.width);
      layer.gate = matrix(block + ".mlp.gate.weight", c.mlp, c.width);
      layer.up = matrix(block + ".mlp.up.weight", c.mlp, c.width);
      layer.down = matrix(block + ".mlp.down.weight", c.width, c.mlp);
    }
    layers.push_back(std::move(layer));
  }
  norm = take("norm.weight", c.width);
  if (!c.tied) embed = matrix("embed.weight", c.vocab, c.width);
  head = matrix(c.tied ? "embed.weight" : "head.weight", c.vocab, c.width);
}

int64_t slm_model::bytes() const {
  size_t total = embed.bytes() + head.bytes() + norm.size() * 4;
  for (const Layer& layer : layers) {
    const Recurrence& r = layer.recurrence;
    for (const Matrix* matrix : {&r.in, &r.out, &layer.query, &layer.pairs, &layer.output,
                                 &layer.gate, &layer.up, &layer.down})
      total += matrix->bytes();
    for (const Floats* values : {&layer.norm, &layer.mlp_norm, &r.conv.weight, &r.conv.bias,
                                 &r.dt_bias, &r.rate, &r.skip, &r.norm, &layer.conv.weight})
      total += values->size() * 4;
  }
  return int64_t(total);
}
