// The random models declared in toy.h.
#include "toy.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

namespace toy {

uint32_t Random::bits() {  // splitmix64
  uint64_t z = state_ += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return uint32_t((z ^ (z >> 31)) >> 32);
}

Floats floats(Random& random, int64_t count, float size, float middle) {
  Floats out(static_cast<size_t>(count));
  for (float& value : out) value = middle + size * random.uniform();
  return out;
}

slm_config base(const char* layers) {
  slm_config c = {};
  c.layers = layers;
  c.short_conv_layers = "BF";
  c.vocab_size = 97;
  c.hidden_size = 32;
  c.heads = 4;
  c.key_value_heads = 2;
  c.head_dim = 8;
  c.mlp_size = 40;
  c.window = 8;
  c.refresh = 4;
  c.slots = 6;
  c.fading = 2;
  c.lag = 8;
  c.taps = 3;
  c.ssm_state = 8;
  c.ssm_head_dim = 8;
  c.ssm_expand = 2;
  c.ssm_conv = 4;
  c.chunk = 16;
  c.short_conv = 3;
  c.tied = 1;
  c.norm_eps = 1e-5f;
  return c;
}

std::vector<Case> few() {
  std::vector<Case> out;
  for (const char* layers : {"T", "W", "M", "D", "F", "B", "L", "TWMDFBL"})
    out.push_back({layers, base(layers)});
  return out;
}

std::vector<Case> cases() {
  std::vector<Case> out = few();
  const auto add = [&](const char* layers, const char* what, auto change) {
    out.push_back({std::string(layers) + " " + what, base(layers)});
    change(out.back().config);
  };
  for (const char* layers : {"T", "W", "F", "B", "TWMDFB"})
    add(layers, "rope", [](slm_config& c) { c.rope_theta = 10000; });
  for (const char* layers : {"F", "B"}) {
    add(layers, "chunk fading", [](slm_config& c) { c.chunked_fading = 1; });
    add(layers, "delta transition", [](slm_config& c) { c.delta_transition = 1; });
    add(layers, "fading skip", [](slm_config& c) { c.fading_skip = 1; });
    add(layers, "lag 0", [](slm_config& c) { c.lag = 0; });
    add(layers, "rope, chunk fading, delta", [](slm_config& c) {
      c.rope_theta = 500;
      c.chunked_fading = c.delta_transition = 1;
    });
    add(layers, "no short convolution", [](slm_config& c) { c.short_conv_layers = ""; });
  }
  add("B", "duplicates", [](slm_config& c) { c.keep_duplicates = 1; });
  add("B", "refresh as long as the window", [](slm_config& c) { c.refresh = c.window; });
  add("B", "refresh 1", [](slm_config& c) { c.refresh = 1; });
  add("B", "no slots", [](slm_config& c) { c.slots = 0; });
  add("B", "no window", [](slm_config& c) { c.window = 0, c.refresh = 1, c.lag = 0; });
  add("B", "a window longer than a tile", [](slm_config& c) {
    c.window = c.refresh = 100, c.lag = 70, c.slots = 33, c.rope_theta = 100;
  });
  add("MB", "own output matrix, no MLP", [](slm_config& c) { c.tied = 0, c.mlp_size = 0; });
  add("TWMDFBL", "odd sizes", [](slm_config& c) {
    c.vocab_size = 131, c.hidden_size = 30, c.heads = 3, c.key_value_heads = 1, c.head_dim = 10;
    c.mlp_size = 77, c.ssm_state = 5, c.ssm_head_dim = 6, c.ssm_expand = 1, c.ssm_conv = 2;
    c.slots = 5, c.taps = 1, c.short_conv = 1, c.rope_theta = 10000, c.tied = 0;
  });
  return out;
}

namespace {

void recurrence(const slm_config& c, const std::string& name, bool delta,
                std::vector<std::pair<std::string, int64_t>>& out) {
  const int64_t inner = int64_t(c.ssm_expand) * c.hidden_size, heads = inner / c.ssm_head_dim;
  const int64_t mixed = inner + 2 * c.ssm_state * (delta ? heads : 1);
  out.push_back({name + ".in_proj.weight", (inner + mixed + (delta ? 2 : 1) * heads) *
                                               c.hidden_size});
  out.push_back({name + ".conv.weight", mixed * c.ssm_conv});
  out.push_back({name + ".conv.bias", mixed});
  out.push_back({name + ".dt_bias", heads});
  out.push_back({name + ".A_log", heads});
  if (!delta) out.push_back({name + ".D", heads});
  out.push_back({name + ".norm.weight", inner});
  out.push_back({name + ".out_proj.weight", inner * c.hidden_size});
}

void attention(const slm_config& c, const std::string& name, char kind,
               std::vector<std::pair<std::string, int64_t>>& out) {
  const int64_t queries = int64_t(c.heads) * c.head_dim * c.hidden_size;
  const int64_t keys = int64_t(c.key_value_heads) * c.head_dim * c.hidden_size;
  out.push_back({name + ".query.weight", queries});
  out.push_back({name + ".key.weight", keys});
  out.push_back({name + ".value.weight", keys});
  out.push_back({name + ".output.weight", queries});
  if (c.short_conv > 0 && std::strchr(c.short_conv_layers, kind))
    out.push_back({name + ".conv.weight", int64_t(c.hidden_size) * c.short_conv});
}

bool ends(const std::string& name, const char* with) {
  const size_t length = std::strlen(with);
  return name.size() >= length && name.compare(name.size() - length, length, with) == 0;
}

}  // namespace

std::vector<std::pair<std::string, int64_t>> parameters(const slm_config& c) {
  std::vector<std::pair<std::string, int64_t>> out;
  for (size_t i = 0; c.layers[i]; i++) {
    const char kind = c.layers[i];
    const std::string block = "blocks." + std::to_string(i), mixer = block + ".mixer";
    const bool attends = std::strchr("TWFB", kind), delta = kind == 'D' || c.delta_transition;
    out.push_back({block + ".norm.weight", c.hidden_size});
    if (std::strchr("MDFB", kind))
      recurrence(c, attends ? mixer + ".ssm" : mixer, delta && kind != 'M', out);
    if (attends) attention(c, mixer, kind, out);
    if (kind == 'L')
      for (const char* side : {"ih_l0", "hh_l0"}) {
        const std::string cell = mixer + ".cell.";
        out.push_back({cell + "weight_" + side, int64_t(4) * c.hidden_size * c.hidden_size});
        out.push_back({cell + "bias_" + side, int64_t(4) * c.hidden_size});
      }
    if (c.mlp_size == 0) continue;
    out.push_back({block + ".mlp_norm.weight", c.hidden_size});
    for (const char* part : {"gate", "up", "down"})
      out.push_back({block + ".mlp." + part + ".weight", int64_t(c.mlp_size) * c.hidden_size});
  }
  out.push_back({"norm.weight", c.hidden_size});
  out.push_back({"embed.weight", int64_t(c.vocab_size) * c.hidden_size});
  if (!c.tied) out.push_back({"head.weight", int64_t(c.vocab_size) * c.hidden_size});
  return out;
}

Floats values(const std::string& name, int64_t count, const slm_config& c, Random& random) {
  if (ends(name, "norm.weight")) return floats(random, count, 0.3f, 1);
  if (ends(name, ".A_log")) return floats(random, count, 1);
  if (ends(name, ".dt_bias")) return floats(random, count, 1, -1.5f);
  if (ends(name, "conv.weight") || ends(name, ".D")) return floats(random, count, 0.5f, 0.5f);
  if (name.find("bias_") != std::string::npos) return floats(random, count, 0.5f, 0.3f);
  if (ends(name, "conv.bias")) return floats(random, count, 0.2f);
  if (ends(name, "embed.weight")) return floats(random, count, 1);
  return floats(random, count, 2 / std::sqrt(float(c.hidden_size)));
}

const char* name_of(slm_weights weights) {
  const char* const names[] = {"float32", "bfloat16", "int8", "int4"};
  return names[weights];
}

void must(slm_status status) {
  if (status != SLM_OK) throw std::runtime_error(slm_error());
}

Model make(const slm_config& config, slm_weights weights, uint64_t seed) {
  slm_model* raw = nullptr;
  must(slm_model_create(&config, weights, &raw));
  Model model(raw, slm_model_free);
  Random random(seed);
  for (const auto& parameter : parameters(config)) {
    const Floats given = values(parameter.first, parameter.second, config, random);
    must(slm_model_set(raw, parameter.first.c_str(), given.data(), parameter.second));
  }
  must(slm_model_finish(raw));
  return model;
}

Context context(const Model& model, int threads) {
  slm_context* raw = nullptr;
  must(slm_context_create(model.get(), threads, &raw));
  return Context(raw, slm_context_free);
}

Stream stream(const Model& model) {
  slm_stream* raw = nullptr;
  must(slm_stream_create(model.get(), &raw));
  return Stream(raw, slm_stream_free);
}

Stream copy(const Stream& stream) {
  slm_stream* raw = nullptr;
  must(slm_stream_copy(stream.get(), &raw));
  return Stream(raw, slm_stream_free);
}

Tokens tokens(Random& random, int count, const slm_config& config) {
  Tokens out(static_cast<size_t>(count));
  for (int32_t& token : out) token = random.below(config.vocab_size);
  return out;
}

Floats read(const Context& context, const Stream& stream, const Tokens& tokens, int vocab) {
  Floats logits(tokens.size() * size_t(vocab), NAN);
  slm_stream* const one = stream.get();
  const int32_t count = int32_t(tokens.size());
  must(slm_read(context.get(), 1, &one, &count, tokens.data(), 1, logits.data()));
  return logits;
}

Floats step(const Context& context, const std::vector<slm_stream*>& streams, const Tokens& tokens,
            int vocab) {
  Floats logits(streams.size() * size_t(vocab), NAN);
  const Tokens counts(streams.size(), 1);
  must(slm_read(context.get(), int32_t(streams.size()), streams.data(), counts.data(),
                tokens.data(), 0, logits.data()));
  return logits;
}

Floats memory(const Stream& stream, const slm_config& config) {
  Floats out(1, float(slm_stream_time(stream.get())));
  for (int layer = 0; config.layers[layer]; layer++)
    for (const char* part : {"raw", "raw_eps", "faded", "slots", "slot_eps", "past", "conv",
                             "ssm.h", "ssm.conv", "kv", "lstm.h", "lstm.c"}) {
      const int64_t count = slm_stream_count(stream.get(), layer, part);
      Floats found(static_cast<size_t>(count));
      must(slm_stream_get(stream.get(), layer, part, found.data(), count));
      for (float& value : found)
        if (std::isinf(value)) value = -1;  // empty slots and tokens before the first
      out.insert(out.end(), found.begin(), found.end());
      if (std::strcmp(part, "slot_eps")) continue;
      std::vector<int64_t> times(static_cast<size_t>(count));
      must(slm_stream_get_slot_times(stream.get(), layer, times.data(), count));
      out.insert(out.end(), times.begin(), times.end());
    }
  return out;
}

}  // namespace toy
