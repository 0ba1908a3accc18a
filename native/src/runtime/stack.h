// A stack of layers: configuration and packed parameters; read-only once built. Language models put
// an embedding before it and a head behind, an encoder feeds it vectors.
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

class Parameters;

// One recurrent layer of h and c (d); gates in the order input, forget, cell, output.
struct Lstm {
  Matrix input, recurrent;  // (4 d, d)
  Floats bias, zero;        // (4 d): the sum of both biases; as many zeros
};

Lstm lstm_of(Parameters& from, const std::string& name, int width);

struct Layer {
  char kind = 0;
  bool recurrent = false, attends = false;
  Floats norm, mlp_norm;
  Recurrence recurrence;
  Lstm lstm;
  Convolution conv;
  Matrix query, pairs, values, output;  // pairs: keys, then values, unless `values` holds these
  Matrix gate, up, down;

  // All matrices of the layer, for sums over them.
  template <class Body>
  void each_matrix(const Body& body) const {
    for (const Matrix* matrix : {&recurrence.in, &recurrence.out, &lstm.input, &lstm.recurrent,
                                 &query, &pairs, &values, &output, &gate, &up, &down})
      if (!matrix->empty()) body(*matrix);
  }
};

// Where parameters come from, by their Python names. Each function throws BadArgument when there is
// no such parameter or it has another size.
class Parameters {
 public:
  virtual ~Parameters() = default;
  virtual Floats floats(const std::string& name, int64_t count) = 0;
  virtual Matrix matrix(const std::string& name, int outputs, int inputs) = 0;
  // Two matrices of the same shape, one above the other in `first` where they can be joined.
  virtual void both(const std::string& above, const std::string& below, int outputs, int inputs,
                    Matrix& first, Matrix& second);
};

// Parameters that were handed over as floats, and are packed as they are taken.
class GivenParameters : public Parameters {
 public:
  explicit GivenParameters(slm_weights weights) : weights_(weights) {}
  void set(const std::string& name, const float* values, int64_t count);

  // Building runs twice: once only to see that every parameter is there and none too many, so that
  // a refusal changes nothing, and once to pack each and let go of what was given.
  template <class Build>
  void build_twice(const Build& build) {
    checking_ = true;
    known_.clear();
    build();
    refuse_unknown();
    checking_ = false;
    build();
  }

  Floats floats(const std::string& name, int64_t count) override;
  Matrix matrix(const std::string& name, int outputs, int inputs) override;
  void both(const std::string& above, const std::string& below, int outputs, int inputs,
            Matrix& first, Matrix& second) override;

 private:
  void refuse_unknown() const;
  Matrix pack(int outputs, int inputs, const Floats& values) const;

  slm_weights weights_;
  std::map<std::string, Floats> given_;
  bool checking_ = false;
  std::set<std::string> known_;  // names asked for while checking
};

struct Stack {
  explicit Stack(const slm_config& config) : config(config) {}

  // Take the parameters `prefix`0.norm.weight and so on, layer by layer.
  void build(Parameters& from, const std::string& prefix);
  int64_t bytes() const;

  const Config config;
  std::vector<Layer> layers;
};

}  // namespace slm
