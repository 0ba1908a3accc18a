// Rotary positions: pairs (i, i + D/2) turned by angles time * theta^(-2i/D).
#pragma once

#include <cstdint>
#include <vector>

namespace slm {

// Cosines and sines of one position. Angles are computed in double: in float32 they would be off by
// tenths of a radian a million tokens into a text.
struct Turn {
  std::vector<float> cosine, sine;
};

class Rotary {
 public:
  Rotary(float theta, int head);
  void at(int64_t time, Turn& turn) const;

 private:
  std::vector<double> frequency_;
};

// out = x turned; x and out may be the same. `back` turns the other way.
void rotate(const float* x, const Turn& turn, int head, float* out, bool back = false);

}  // namespace slm
