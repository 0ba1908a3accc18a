// Small random models of every kind, for tests of the C interface.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "solomonic.h"

namespace toy {

// The same numbers on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint32_t bits();
  int below(int n) { return int(bits() % uint32_t(n)); }
  float uniform() { return float(bits() >> 8) / float(1 << 23) - 1; }  // -1 to 1

 private:
  uint64_t state_;
};

std::vector<float> floats(Random& random, int64_t count, float size = 1, float middle = 0);

// A configuration with a name for failures.
struct Case {
  std::string name;
  slm_config config;
};
slm_config base(const char* layers);
std::vector<Case> cases();  // every layer letter, and every setting that changes what is computed
std::vector<Case> few();    // one of each letter, and all of them together

// The parameters such a model asks for, in any order: name, count of numbers.
std::vector<std::pair<std::string, int64_t>> parameters(const slm_config& config);
std::vector<float> values(const std::string& name, int64_t count, const slm_config& config,
                          Random& random);

typedef std::unique_ptr<slm_model, void (*)(slm_model*)> Model;
typedef std::unique_ptr<slm_context, void (*)(slm_context*)> Context;
typedef std::unique_ptr<slm_stream, void (*)(slm_stream*)> Stream;
typedef std::vector<float> Floats;
typedef std::vector<int32_t> Tokens;

constexpr slm_weights kWeights[] = {SLM_F32, SLM_BF16, SLM_INT8, SLM_INT4};
const char* name_of(slm_weights weights);

// These throw std::runtime_error with the library's sentence when it refuses.
void must(slm_status status);
Model make(const slm_config& config, slm_weights weights = SLM_F32, uint64_t seed = 1);
Context context(const Model& model, int threads = 1);
Stream stream(const Model& model);
Stream copy(const Stream& stream);
Tokens tokens(Random& random, int count, const slm_config& config);

// Logits after every token of one stream, read in one call.
Floats read(const Context& context, const Stream& stream, const Tokens& tokens, int vocab);
// One token for each of some streams: logits (n, vocab).
Floats step(const Context& context, const std::vector<slm_stream*>& streams, const Tokens& tokens,
            int vocab);

// All that a stream remembers, as one vector.
Floats memory(const Stream& stream, const slm_config& config);

}  // namespace toy
