// Voice activity from log-mel frames; the same numbers as src/solomonic/speech/endpoint/voice.py,
// which says what is computed and why.
#pragma once

#include <vector>

namespace slm {

// Settings, named and meant as in the Python class VoiceConfig.
struct VoiceConfig {
  int bands = 8;
  int highest = 3;
  double smoothing = 0.7;
  int floor_frames = 250;
  double lowest_floor = -11.5;
  double range = 8.0;
  double fade = 0.01;
  double margin = 1.6;
  double slope = 4.0;
  double cap = 4.0;
  int hangover_frames = 5;
  int opening_frames = 60;
  int announced_frames = 12;

  void check() const;  // BadArgument when a value is out of range
};

// The detector of one stream. Its memory is fixed when it is made.
class Voice {
 public:
  // bins: of a log-mel frame, a multiple of config.bands.
  Voice(const VoiceConfig& config, int bins);

  void reset();
  // Probability of speech in the next frame (bins) of 10 ms.
  float step(const float* frame);

 private:
  double score(const double* levels, const double* floor);
  void judge_opening(const double* floor, bool speech);

  VoiceConfig config_;
  int bins_;
  bool begun_ = false;
  std::vector<double> level_, minima_, minimum_, floor_;  // (bands), (10, bands), (bands) twice
  std::vector<double> opening_;                           // levels since the start of the stream
  std::vector<double> bins64_, above_;                    // scratch
  int newest_ = 0;                                        // row of minima_ to be replaced next
  int frames_ = 0;                                        // in the piece under way
  double loudest_ = 0;
  double held_ = 0;
  int left_ = 0;
  bool judging_ = true;  // the opening is not judged yet
  int noticed_ = 0, announce_ = 0;
};

}  // namespace slm
