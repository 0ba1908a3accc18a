// Log-mel features of streamed audio, as src/solomonic/speech/features.py gives them: Kaldi's filter
// bank (Povey window, pre-emphasis 0.97, power spectrum), centred frames, no dither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "resample.h"

namespace slm {

// A bin of digital silence: log(2^-23), the floor.
constexpr float kSilence = -15.942385f;

// Names and meaning are those of the Python class.
struct FeatureConfig {
  int sample_rate = 16000, bins = 80;
  double frame_ms = 25, shift_ms = 10;
  double low = 20, high = -400;  // Hz; high <= 0 counts from half the sample rate down

  void check() const;  // throws BadArgument
};

// Real discrete Fourier transform of a power of two of numbers.
class Fourier {
 public:
  explicit Fourier(int size);
  // power[k] = |X_k|^2 for k < size / 2; x (size) is spent.
  void power(float* x, float* power) const;

 private:
  int half_;
  std::vector<int> reversed_;
  std::vector<float> turns_;  // cosine and sine of 2 pi k / half, k < half / 2
  std::vector<float> split_;  // the same of 2 pi k / size, k <= half / 2
};

class Features {
 public:
  explicit Features(const FeatureConfig& config = {});

  // Take samples in [-1, 1]; frames (bins) that are complete now are put behind `frames`. How the
  // audio is cut changes nothing. Samples must be finite.
  void accept(const float* samples, int64_t count, std::vector<float>& frames);
  // The frames whose windows reach beyond the end, where the audio is mirrored.
  void finish(std::vector<float>& frames);
  // As before the first sample.
  void reset();
  int bins() const { return config_.bins; }
  size_t bytes() const;

 private:
  struct Band {  // a triangle over bins [first, first + weights) of the spectrum
    int first, weight, count;
  };

  int64_t start_of(int64_t frame) const { return frame * shift_ + shift_ / 2 - length_ / 2; }
  void compute(int64_t frame, std::vector<float>& frames);

  FeatureConfig config_;
  int length_, shift_, padded_;  // samples
  Fourier fourier_;
  std::vector<float> window_, weights_, waiting_, frame_, power_;
  std::vector<Band> bands_;
  int64_t first_ = 0;  // number of the first sample that is held
  int64_t next_ = 0;   // frame
};

}  // namespace slm
