// A carry-less binary range coder: 32-bit bounds, probabilities in 65536ths.
#pragma once

#include <cstdint>
#include <string>

namespace slm::induction {

constexpr int kOne = 1 << 16;

// Probability of a one as the coder takes it: never 0, never 1.
inline int quantise(double p) {
  const int q = int(p * kOne + 0.5);
  return q < 1 ? 1 : q > kOne - 1 ? kOne - 1 : q;
}

class Encoder {
 public:
  void encode(int bit, int q) {
    const uint32_t middle = low_ + uint32_t((uint64_t(high_ - low_) * uint32_t(q)) >> 16);
    if (bit)
      high_ = middle;
    else
      low_ = middle + 1;
    while (((low_ ^ high_) & 0xFF000000u) == 0) {
      out_.push_back(char(high_ >> 24));
      low_ <<= 8;
      high_ = (high_ << 8) | 255;
    }
  }
  // As few bytes as tell the interval; the decoder reads zeros behind them. Begins anew.
  std::string finish() {
    if (low_ > 0) {
      // The shortest number with zeros behind it that lies in low .. high.
      for (int shift = 24; shift >= 0; shift -= 8) {
        const uint64_t step = uint64_t(1) << shift;
        const uint64_t value = (low_ + step - 1) / step * step;
        if (value <= high_) {
          for (int at = 24; at >= shift; at -= 8) out_.push_back(char(value >> at));
          break;
        }
      }
    }
    while (!out_.empty() && out_.back() == 0) out_.pop_back();
    low_ = 0;
    high_ = 0xFFFFFFFFu;
    return std::move(out_);
  }

 private:
  uint32_t low_ = 0, high_ = 0xFFFFFFFFu;
  std::string out_;
};

class Decoder {
 public:
  Decoder(const char* data, size_t size) : data_(data), size_(size) {
    for (int i = 0; i < 4; i++) value_ = (value_ << 8) | next();
  }
  int decode(int q) {
    const uint32_t middle = low_ + uint32_t((uint64_t(high_ - low_) * uint32_t(q)) >> 16);
    const int bit = value_ <= middle;
    if (bit)
      high_ = middle;
    else
      low_ = middle + 1;
    while (((low_ ^ high_) & 0xFF000000u) == 0) {
      low_ <<= 8;
      high_ = (high_ << 8) | 255;
      value_ = (value_ << 8) | next();
    }
    return bit;
  }

 private:
  uint32_t next() { return at_ < size_ ? uint8_t(data_[at_++]) : 0; }
  const char* data_;
  size_t size_, at_ = 0;
  uint32_t value_ = 0, low_ = 0, high_ = 0xFFFFFFFFu;
};

}  // namespace slm::induction
