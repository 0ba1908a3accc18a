// Checking a configuration and packing the parameters of a stack of layers.
#include "stack.h"

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
    require(has(kind, "TWMDFBL"), std::string("layer letter '") + kind +
                                      "' is unknown; use T, W, M, D, F, B or L.");
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

void Parameters::both(const std::string& above, const std::string& below, int outputs, int inputs,
                      Matrix& first, Matrix& second) {
  first = matrix(above, outputs, inputs);
  second = matrix(below, outputs, inputs);
}

void GivenParameters::set(const std::string& name, const float* values, int64_t count) {
  require(values && count > 0, "parameter '" + name + "' is empty.");
  given_[name].assign(values, values + count);
}

Floats GivenParameters::floats(const std::string& name, int64_t count) {
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

Matrix GivenParameters::pack(int outputs, int inputs, const Floats& values) const {
  return checking_ ? Matrix() : Matrix(weights_, outputs, inputs, values.data());
}

Matrix GivenParameters::matrix(const std::string& name, int outputs, int inputs) {
  return pack(outputs, inputs, floats(name, int64_t(outputs) * inputs));
}

void GivenParameters::both(const std::string& above, const std::string& below, int outputs,
                           int inputs, Matrix& first, Matrix& second) {
  Floats joined = floats(above, int64_t(outputs) * inputs);
  const Floats rest = floats(below, int64_t(outputs) * inputs);
  joined.insert(joined.end(), rest.begin(), rest.end());
  first = pack(2 * outputs, inputs, joined);
  second = Matrix();
}

void GivenParameters::refuse_unknown() const {
  for (const auto& parameter : given_)
    require(known_.count(parameter.first) == 1,
            "parameter '" + parameter.first + "' belongs to no layer of this model.");
}

namespace {

Convolution convolution(Parameters& from, const std::string& name, int taps, int channels,
                        bool bias) {
  Convolution out;
  out.taps = taps;
  out.channels = channels;
  const Floats values = from.floats(name + ".weight", int64_t(taps) * channels);
  if (bias) out.bias = from.floats(name + ".bias", channels);
  out.weight.resize(values.size());  // given as (channels, 1, taps)
  if (values.empty()) return out;
  for (int c = 0; c < channels; c++)
    for (int j = 0; j < taps; j++)
      out.weight[int64_t(j) * channels + c] = values[int64_t(c) * taps + j];
  return out;
}

void build_recurrence(Parameters& from, const Config& c, const std::string& name,
                      Recurrence& out) {
  const int heads = c.state_heads();
  out.mixed = c.inner + (out.delta ? 2 * heads * c.state : 2 * c.state);
  out.in = from.matrix(name + ".in_proj.weight",
                       c.inner + out.mixed + (out.delta ? 2 : 1) * heads, c.width);
  out.conv = convolution(from, name + ".conv", c.ssm_taps, out.mixed, true);
  out.dt_bias = from.floats(name + ".dt_bias", heads);
  out.rate = from.floats(name + ".A_log", heads);
  for (float& rate : out.rate) rate = -std::exp(rate);
  if (!out.delta) out.skip = from.floats(name + ".D", heads);
  out.norm = from.floats(name + ".norm.weight", c.inner);
  out.out = from.matrix(name + ".out_proj.weight", c.width, c.inner);
}

void build_attention(Parameters& from, const Config& c, const std::string& name, Layer& out) {
  out.query = from.matrix(name + ".query.weight", c.heads * c.head, c.width);
  from.both(name + ".key.weight", name + ".value.weight", c.groups * c.head, c.width, out.pairs,
            out.values);
  out.output = from.matrix(name + ".output.weight", c.width, c.heads * c.head);
  if (c.short_taps > 0 && c.short_conv_layers.find(out.kind) != std::string::npos)
    out.conv = convolution(from, name + ".conv", c.short_taps, c.width, false);
}

}  // namespace

Lstm lstm_of(Parameters& from, const std::string& name, int width) {
  Lstm out;
  out.input = from.matrix(name + ".weight_ih_l0", 4 * width, width);
  out.recurrent = from.matrix(name + ".weight_hh_l0", 4 * width, width);
  out.bias = from.floats(name + ".bias_ih_l0", 4 * width);
  const Floats other = from.floats(name + ".bias_hh_l0", 4 * width);
  for (size_t i = 0; i < other.size(); i++) out.bias[i] += other[i];
  out.zero.assign(size_t(4) * width, 0.0f);
  return out;
}

void Stack::build(Parameters& from, const std::string& prefix) {
  const Config& c = config;
  layers.clear();
  for (size_t i = 0; i < c.layers.size(); i++) {
    Layer layer;
    layer.kind = c.layers[i];
    const std::string block = prefix + std::to_string(i), mixer = block + ".mixer";
    layer.norm = from.floats(block + ".norm.weight", c.width);
    layer.recurrent = c.has(layer.kind, "MDFB");
    layer.attends = c.has(layer.kind, "TWFB");
    layer.recurrence.delta = c.delta(layer.kind);
    if (layer.recurrent)
      build_recurrence(from, c, layer.attends ? mixer + ".ssm" : mixer, layer.recurrence);
    if (layer.attends) build_attention(from, c, mixer, layer);
    if (layer.kind == 'L') layer.lstm = lstm_of(from, mixer + ".cell", c.width);
    if (c.mlp > 0) {
      layer.mlp_norm = from.floats(block + ".mlp_norm.weight", c.width);
      layer.gate = from.matrix(block + ".mlp.gate.weight", c.mlp, c.width);
      layer.up = from.matrix(block + ".mlp.up.weight", c.mlp, c.width);
      layer.down = from.matrix(block + ".mlp.down.weight", c.width, c.mlp);
    }
    layers.push_back(std::move(layer));
  }
}

int64_t Stack::bytes() const {
  size_t total = 0;
  for (const Layer& layer : layers) {
    layer.each_matrix([&](const Matrix& matrix) { total += matrix.bytes(); });
    const Recurrence& r = layer.recurrence;
    for (const Floats* values : {&layer.norm, &layer.mlp_norm, &r.conv.weight, &r.conv.bias,
                                 &r.dt_bias, &r.rate, &r.skip, &r.norm, &layer.lstm.bias,
                                 &layer.lstm.zero, &layer.conv.weight})
      total += values->size() * 4;
  }
  return int64_t(total);
}

}  // namespace slm
