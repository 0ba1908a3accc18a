// A model's configuration and packed parameters; read-only once finished.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "matrix.h"
#include "solomonic.h"

namespace slm {

typedef std::vector<float> Floats;

// The configuration with what follows from it. Sizes are those of bmojo.md: w, R, m_e, m_f, l, k.
struct Config {
  explicit Config(const slm_config& given);  // throws BadArgument

  std::string layers, short_conv_layers;
  int vocab, width, heads, groups, head, mlp;
  int window, refresh, slots, fading, lag, taps;
  int state, state_head, inner, ssm_taps, short_taps;
  bool chunked_fading, fading_skip, keep_duplicates, delta_transition, tied;
  float theta, eps;

  int pairs() const { return 2 * groups * head; }  // floats of one token's keys and values
  int ring() const { return window > 1 ? window : 1; }  // raw tokens held, the current one included
  int fading_ring() const { return fading + (chunked_fading ? refresh : lag); }
  int state_heads() const { return inner / state_head; }
  bool has(char kind, const char* set) const;
  bool delta(char kind) const { return kind == 'D' || (kind != 'M' && delta_transition); }
};

// Depthwise convolution with its taps outermost.
struct Convolution {
  int taps = 0, channels = 0;
  Floats weight, bias;  // (taps, channels), (channels) or empty
};

// The recurrent layer: SSD ("M") or the gated delta rule ("D").
struct Recurrence {
  bool delta = false;
  int mixed = 0;  // channels that pass through the convolution
  Matrix in, out;
  Convolution conv;
  Floats dt_bias, rate, skip, norm;  // rate = -exp(A_log); skip is D
};

struct Layer {
  char kind = 0;
  bool recurrent = false, attends = false;
  Floats norm, mlp_norm;
  Recurrence recurrence;
  Convolution conv;
  Matrix query, pairs, output;  // pairs: keys, then values
  Matrix gate, up, down;
};

}  // namespace slm

struct slm_model {
  slm_model(const slm_config& config, slm_weights weights) : config(config), weights(weights) {}

  void set(const std::string& name, const float* values, int64_t count);
  void finish();
  int64_t bytes() const;
  const slm::Matrix& embedding() const { return config.tied ? head : embed; }

  const slm::Config config;
  const slm_weights weights;
  bool finished = false;
  std::vector<slm::Layer> layers;
  slm::Floats norm;
  slm::Matrix embed, head;

 private:
  // Building runs twice: once only to see that every parameter is there, so that a refusal changes
  // nothing, and once to pack each and let go of what was given.
  void build();
  slm::Floats take(const std::string& name, int64_t count);
  slm::Matrix pack(int outputs, int inputs, const slm::Floats& values);
  slm::Matrix matrix(const std::string& name, int outputs, int inputs);
  slm::Convolution convolution(const std::string& name, int taps, int channels, bool bias);
  void build_recurrence(const std::string& name, slm::Recurrence& out);
  void build_attention(const std::string& name, slm::Layer& out);

  std::map<std::string, slm::Floats> given_;
  bool checking_ = false;
  std::set<std::string> known_;  // names asked for while checking
};
