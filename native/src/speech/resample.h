// Changing the number of samples a second, for audio that arrives in pieces: a band-limited filter
// (a sinc under a Kaiser window) flat to 91% of the lower half rate, 100 dB down from that rate on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace slm {

class Resampler {
 public:
  // At equal rates samples pass through untouched.
  Resampler(double source_rate = 16000, double rate = 16000);

  // Samples that are ready are put behind `out`; any cut of the audio gives the same ones. 5 ms are
  // held back at most when the lower rate is 16 kHz.
  void accept(const float* samples, int64_t count, std::vector<float>& out);
  // What was held back. There are round(samples * rate / source_rate) in all.
  void finish(std::vector<float>& out);
  size_t bytes() const;

 private:
  void emit(int64_t last, std::vector<float>& out);

  double source_ = 0, rate_ = 0;
  bool same_ = true, whole_ = false;  // whole_: the phases are all that there are
  int half_ = 0, taps_ = 0, phases_ = 0;
  std::vector<float> filters_;  // (phases + 1, taps)
  std::vector<float> waiting_;
  int64_t first_ = 0, taken_ = 0, given_ = 0;  // number of waiting_[0]; samples in and out
};

}  // namespace slm
