// Handing over a language model's parameters.
#include "model.h"

#include "error.h"

using slm::require;

void slm_model::set(const std::string& name, const float* values, int64_t count) {
  require(!finished, "the model is finished; its parameters no longer change.");
  given_.set(name, values, count);
}

void slm_model::finish() {
  require(!finished, "the model is finished already.");
  given_.build_twice([&] { build(); });
  finished = true;
}

void slm_model::build() {
  const slm::Config& c = stack.config;
  stack.build(given_, "blocks.");
  norm = given_.floats("norm.weight", c.width);
  if (!c.tied) embed = given_.matrix("embed.weight", c.vocab, c.width);
  head = given_.matrix(c.tied ? "embed.weight" : "head.weight", c.vocab, c.width);
}

int64_t slm_model::bytes() const {
  return stack.bytes() + int64_t(embed.bytes() + head.bytes() + norm.size() * 4);
}
