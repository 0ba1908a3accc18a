// The filter bank declared in features.h; steps and constants as in kaldi-native-fbank.
#include "features.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/table.h"
#include "runtime/error.h"

namespace slm {

namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kBlock = 1600;  // samples taken at once; bounds the memory
constexpr float kFloor = 1.1920928955078125e-07f;

float mel(double hertz) { return 1127.0f * std::log(1.0f + float(hertz) / 700.0f); }

int power_of_two(int n) {
  int size = 2;
  while (size < n) size *= 2;
  return size;
}

const FeatureConfig& checked(const FeatureConfig& config) {
  config.check();
  return config;
}

}  // namespace

void FeatureConfig::check() const {
  require(sample_rate >= 1000 && sample_rate <= 768000,
          "sample_rate = " + std::to_string(sample_rate) + " must lie between 1000 and 768000.");
  require(bins >= 1 && bins <= 256, "bins = " + std::to_string(bins) + " must lie between 1 and 256.");
  require(shift_ms > 0 && shift_ms <= frame_ms && frame_ms <= 1000 &&
              int(sample_rate * 0.001 * shift_ms) >= 1,
          "shift_ms must lie between one sample and frame_ms, which is at most 1000.");
  const double top = high > 0 ? high : sample_rate / 2.0 + high;
  require(low >= 0 && low < top && top <= sample_rate / 2.0,
          "low and high leave no band below half the sample rate.");
}

Fourier::Fourier(int size) : half_(size / 2) {
  int bits = 0;
  while ((1 << bits) < half_) bits++;
  for (int i = 0; i < half_; i++) {
    int turned = 0;
    for (int bit = 0; bit < bits; bit++) turned |= ((i >> bit) & 1) << (bits - 1 - bit);
    reversed_.push_back(turned);
  }
  const auto turns = [](int count, int of, std::vector<float>& out) {
    for (int k = 0; k < count; k++) {
      out.push_back(float(std::cos(2 * kPi * k / of)));
      out.push_back(float(std::sin(2 * kPi * k / of)));
    }
  };
  turns(std::max(half_ / 2, 1), half_, turns_);
  turns(half_ / 2 + 1, size, split_);
}

void Fourier::power(float* x, float* power) const {
  // The even and odd samples are the parts of half as many complex numbers.
  for (int i = 0; i < half_; i++)
    if (reversed_[i] > i) {
      std::swap(x[2 * i], x[2 * reversed_[i]]);
      std::swap(x[2 * i + 1], x[2 * reversed_[i] + 1]);
    }
  for (int width = 1; width < half_; width *= 2) {
    const int stride = half_ / (2 * width);
    for (int block = 0; block < half_; block += 2 * width) {
      float* a = x + 2 * block;
      float* b = a + 2 * width;
      for (int k = 0; k < width; k++) {
        const float c = turns_[2 * k * stride], s = turns_[2 * k * stride + 1];
        const float real = b[2 * k] * c + b[2 * k + 1] * s;
        const float imaginary = b[2 * k + 1] * c - b[2 * k] * s;
        b[2 * k] = a[2 * k] - real;
        b[2 * k + 1] = a[2 * k + 1] - imaginary;
        a[2 * k] += real;
        a[2 * k + 1] += imaginary;
      }
    }
  }
  power[0] = (x[0] + x[1]) * (x[0] + x[1]);
  for (int k = 1; k <= half_ / 2; k++) {
    const int other = half_ - k;
    const float even_r = 0.5f * (x[2 * k] + x[2 * other]);
    const float even_i = 0.5f * (x[2 * k + 1] - x[2 * other + 1]);
    const float odd_r = 0.5f * (x[2 * k + 1] + x[2 * other + 1]);
    const float odd_i = 0.5f * (x[2 * other] - x[2 * k]);
    const float c = split_[2 * k], s = split_[2 * k + 1];
    const float real = odd_r * c + odd_i * s, imaginary = odd_i * c - odd_r * s;
    const float near_r = even_r + real, near_i = even_i + imaginary;
    const float far_r = even_r - real, far_i = imaginary - even_i;
    power[k] = near_r * near_r + near_i * near_i;
    power[other] = far_r * far_r + far_i * far_i;
  }
}

Features::Features(const FeatureConfig& config)
    : config_(checked(config)),
      length_(int(config.sample_rate * 0.001 * config.frame_ms)),
      shift_(int(config.sample_rate * 0.001 * config.shift_ms)),
      padded_(power_of_two(length_)), fourier_(padded_), frame_(size_t(padded_)),
      power_(size_t(padded_ / 2)) {
  for (int i = 0; i < length_; i++)
    window_.push_back(
        float(std::pow(0.5 - 0.5 * std::cos(2 * kPi * i / (length_ - 1)), 0.85)));
  const double top = config.high > 0 ? config.high : config.sample_rate / 2.0 + config.high;
  const float low = mel(config.low), step = (mel(top) - low) / float(config.bins + 1);
  const float width = float(config.sample_rate) / float(padded_);
  for (int bin = 0; bin < config.bins; bin++) {
    const float left = low + float(bin) * step, middle = low + float(bin + 1) * step;
    const float right = low + float(bin + 2) * step;
    Band band = {0, int(weights_.size()), 0};
    for (int i = 0; i < padded_ / 2; i++) {
      const float at = mel(width * float(i));
      if (at <= left || at >= right) continue;
      if (band.count++ == 0) band.first = i;
      weights_.push_back(at <= middle ? (at - left) / (middle - left)
                                      : (right - at) / (right - middle));
    }
    bands_.push_back(band);
  }
  waiting_.reserve(size_t(length_ + 2 * shift_ + kBlock));
}

void Features::reset() {
  waiting_.clear();
  first_ = next_ = 0;
}

size_t Features::bytes() const {
  return (window_.size() + weights_.size() + waiting_.capacity() + frame_.size() + power_.size()) *
             4 +
         bands_.size() * sizeof(Band) + size_t(padded_) * 8;
}

void Features::accept(const float* samples, int64_t count, std::vector<float>& frames) {
  for (int64_t from = 0; from < count; from += kBlock) {
    const int64_t part = std::min(kBlock, count - from);
    waiting_.insert(waiting_.end(), samples + from, samples + from + part);
    const int64_t total = first_ + int64_t(waiting_.size());
    for (; start_of(next_) + length_ <= total; next_++) compute(next_, frames);
    const int64_t spent = std::min(start_of(next_), total) - first_;
    if (spent <= 0) continue;
    waiting_.erase(waiting_.begin(), waiting_.begin() + spent);
    first_ += spent;
  }
}

void Features::finish(std::vector<float>& frames) {
  const int64_t total = first_ + int64_t(waiting_.size());
  for (const int64_t all = (total + shift_ / 2) / shift_; next_ < all; next_++)
    compute(next_, frames);
}

void Features::compute(int64_t frame, std::vector<float>& frames) {
  const int64_t held = int64_t(waiting_.size()), start = start_of(frame) - first_;
  float* x = frame_.data();
  if (start >= 0 && start + length_ <= held) {
    std::copy_n(waiting_.data() + start, length_, x);
  } else {
    for (int i = 0; i < length_; i++) {
      int64_t at = start + i;  // mirrored at both ends, again and again if need be
      while (at < 0 || at >= held) at = at < 0 ? -at - 1 : 2 * held - 1 - at;
      x[i] = waiting_[size_t(at)];
    }
  }
  float sum = 0;
  for (int i = 0; i < length_; i++) sum += x[i];
  const float mean = sum / float(length_);
  for (int i = 0; i < length_; i++) x[i] -= mean;
  for (int i = length_ - 1; i > 0; i--) x[i] -= 0.97f * x[i - 1];
  x[0] -= 0.97f * x[0];
  for (int i = 0; i < length_; i++) x[i] *= window_[i];
  std::fill(x + length_, x + padded_, 0.0f);
  fourier_.power(x, power_.data());
  const Kernels& k = kernels();
  for (const Band& band : bands_) {
    float energy = 0;
    if (band.count)
      k.scores(power_.data() + band.first, weights_.data() + band.weight, band.count, 1, band.count,
               1.0f, &energy);
    frames.push_back(std::log(std::max(energy, kFloor)));
  }
}

}  // namespace slm
