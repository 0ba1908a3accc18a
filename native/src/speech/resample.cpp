// The resampler declared in resample.h: one dot product a sample for the phases that two whole rates
// have, else two, between which is interpolated.
#include "resample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/table.h"
#include "runtime/error.h"

namespace slm {

namespace {

constexpr double kPi = 3.14159265358979323846;
// Kaiser's formulas for 100 dB and a transition from 0.913 to 1 of half the lower rate.
constexpr double kBeta = 0.1102 * (100 - 8.7), kZeros = 74, kCutoff = 0.9565;
constexpr int kMostPhases = 1024, kSteps = 512;  // 512 steps a sample: interpolation is 107 dB down

double bessel(double x) {  // of order 0
  double sum = 1, term = 1;
  for (int k = 1; term > 1e-18 * sum; k++) sum += term *= (x / (2 * k)) * (x / (2 * k));
  return sum;
}

bool is_whole(double rate) { return rate == std::floor(rate); }

}  // namespace

Resampler::Resampler(double source_rate, double rate)
    : source_(source_rate), rate_(rate), same_(source_rate == rate) {
  require(source_rate >= 1000 && source_rate <= 768000 && rate >= 1000 && rate <= 768000,
          "sample rates must lie between 1,000 and 768,000 a second.");
  if (same_) return;
  const double scale = std::min(1.0, rate / source_rate);  // the band that may stay
  half_ = int(std::ceil(kZeros / scale));
  taps_ = 2 * half_;
  phases_ = std::max(16, int(std::ceil(kSteps * scale)));
  if (is_whole(source_rate) && is_whole(rate)) {
    const int64_t common = std::gcd(int64_t(source_rate), int64_t(rate));
    whole_ = int64_t(rate) / common <= kMostPhases;
    if (whole_) phases_ = int(int64_t(rate) / common);
  }
  filters_.resize(size_t(phases_ + 1) * taps_);
  std::vector<double> filter(size_t(taps_), 0.0);
  const double peak = bessel(kBeta);
  for (int phase = 0; phase <= phases_; phase++) {
    double sum = 0;
    for (int i = 0; i < taps_; i++) {
      // Distance of the tap from the sample's place, in samples of the lower rate.
      const double x = (double(i - half_ + 1) - double(phase) / phases_) * scale;
      const double inside = 1 - (x / kZeros) * (x / kZeros);
      const double angle = kPi * kCutoff * x;
      const double sinc = angle == 0 ? 1 : std::sin(angle) / angle;
      filter[i] = inside < 0 ? 0 : sinc * bessel(kBeta * std::sqrt(inside)) / peak;
      sum += filter[i];
    }
    for (int i = 0; i < taps_; i++)
      filters_[size_t(phase) * taps_ + i] = float(filter[i] / sum);
  }
  waiting_.assign(size_t(half_), 0.0f);  // silence before the first sample
  first_ = -half_;
}

size_t Resampler::bytes() const { return (filters_.size() + waiting_.capacity()) * 4; }

void Resampler::accept(const float* samples, int64_t count, std::vector<float>& out) {
  if (same_) {
    out.insert(out.end(), samples, samples + count);
    return;
  }
  waiting_.insert(waiting_.end(), samples, samples + count);
  taken_ += count;
  emit(INT64_MAX, out);
}

void Resampler::finish(std::vector<float>& out) {
  if (same_) return;
  waiting_.insert(waiting_.end(), size_t(half_) + 1, 0.0f);
  emit(int64_t(double(taken_) * rate_ / source_ + 0.5), out);
}

// Samples up to `last` for which all of the audio that they need is there.
void Resampler::emit(int64_t last, std::vector<float>& out) {
  const int64_t held = first_ + int64_t(waiting_.size());
  const auto dot = kernels().scores;
  for (; given_ < last; given_++) {
    int64_t base, phase;
    double between = 0;
    if (whole_) {
      const int64_t at = given_ * int64_t(source_), rate = int64_t(rate_);
      base = at / rate;
      phase = at % rate / (rate / phases_);
    } else {
      const double at = double(given_) * source_ / rate_;
      base = int64_t(std::floor(at));
      const double part = (at - double(base)) * phases_;
      phase = std::min(int64_t(part), int64_t(phases_) - 1);
      between = part - double(phase);
    }
    const int64_t from = base - half_ + 1;
    if (from + taps_ > held) break;
    const float* x = waiting_.data() + (from - first_);
    const float* filter = filters_.data() + phase * taps_;
    float y[2] = {0, 0};
    dot(x, filter, taps_, between > 0 ? 2 : 1, taps_, 1.0f, y);
    out.push_back(between > 0 ? float((1 - between) * y[0] + between * y[1]) : y[0]);
  }
  // What no later sample needs.
  const int64_t next = int64_t(std::floor(double(given_) * source_ / rate_)) - half_;
  const int64_t spent = std::min(next - first_, int64_t(waiting_.size()));
  if (spent <= 0) return;
  waiting_.erase(waiting_.begin(), waiting_.begin() + spent);
  first_ += spent;
}

}  // namespace slm
