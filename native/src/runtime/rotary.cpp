// Rotary positions.
#include "rotary.h"

#include <cmath>

namespace slm {

Rotary::Rotary(float theta, int head) : frequency_(head / 2) {
  for (int i = 0; i < head / 2; i++)
    frequency_[i] = std::pow(double(theta), -double(i) / (head / 2));
}

void Rotary::at(int64_t time, Turn& turn) const {
  turn.cosine.resize(frequency_.size());
  turn.sine.resize(frequency_.size());
  for (size_t i = 0; i < frequency_.size(); i++) {
    const double angle = double(time) * frequency_[i];
    turn.cosine[i] = float(std::cos(angle));
    turn.sine[i] = float(std::sin(angle));
  }
}

void rotate(const float* x, const Turn& turn, int head, float* out, bool back) {
  const int half = head / 2;
  const float sign = back ? -1.0f : 1.0f;
  for (int i = 0; i < half; i++) {
    const float first = x[i], second = x[half + i];
    const float c = turn.cosine[i], s = sign * turn.sine[i];
    out[i] = first * c - second * s;
    out[half + i] = second * c + first * s;
  }
}

}  // namespace slm
