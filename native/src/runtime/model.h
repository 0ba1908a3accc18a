// A language model: a stack of layers between an embedding and a head; read-only once finished.
#pragma once

#include "stack.h"

struct slm_model {
  slm_model(const slm_config& config, slm_weights weights) : stack(config), given_(weights) {}

  void set(const std::string& name, const float* values, int64_t count);
  void finish();
  int64_t bytes() const;
  const slm::Matrix& embedding() const { return stack.config.tied ? head : embed; }

  slm::Stack stack;
  bool finished = false;
  slm::Floats norm;
  slm::Matrix embed, head;

 private:
  void build();

  slm::GivenParameters given_;
};
