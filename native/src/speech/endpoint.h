// The two end-pointers: settings, rules and state machine. The same decisions at the same frames as
// src/solomonic/speech/endpoint/{config,rules,machine}.py, which say what is decided and why.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace slm {

// Settings, named and meant as in the Python class EndpointConfig; milliseconds.
struct EndpointConfig {
  double start_ms = 100;
  double speech_threshold = 0.5;
  bool speculate = true;
  double speculative_ms = 200;
  double speculative_threshold = 0.5;
  double final_ms = -1;  // below 0: 200 more than speculative_ms
  double final_threshold = 0.7;
  double silence_ms = 1200;
  double nothing_ms = 2400;
  double label_silence_ms = 2400;
  double silence_limit_ms = 5000;
  double utterance_limit_ms = 20000;
  int speculations_limit = 8;

  void check() const;  // BadArgument when a value is out of range
  double final_pause_ms() const { return final_ms < 0 ? speculative_ms + 200.0 : final_ms; }
  double gap_ms() const { return final_pause_ms() - speculative_ms; }
  double speculative_silence_ms() const;
};

constexpr double kAbsent = -1;  // of a probability that nobody gives

// What an end-pointer is told about one encoder frame.
struct Observation {
  double time = 0;                      // where the frame ends, s of audio
  double speech_probability = kAbsent;  // of the voice detector
  double pause_frames = 0;              // since the last label, expected over the beam
  double blank_probability = 0;
  int n_tokens = 0;                     // labels of the best hypothesis in this utterance
  double end_probability = kAbsent;     // of the end head
  const int32_t* tokens = nullptr;      // (n_tokens) the best hypothesis; NULL: n_tokens stands for it
};

enum class Decision { none, start, speculative, reset, final };

// Decides frame by frame; a function of the observations alone. Nothing is allocated once an
// utterance has been as long as the longest.
class Endpointer {
 public:
  Endpointer(const EndpointConfig& config, double frame_seconds);

  const EndpointConfig& config() const { return config_; }
  // `speculate` false leaves the speculation out at this frame; finals stay the same.
  Decision step(const Observation& seen, bool speculate = true);
  // The input ends here.
  Decision finish();
  void reset();

  double began() const { return began_; }  // of the utterance under way, s of audio
  bool waiting() const { return phase_ == Phase::waiting; }
  // Which end-pointer made the last decision "speculative" or "final", in words.
  const std::string& reason() const { return reason_; }

 private:
  enum class Phase { waiting, listen, speculated };
  struct Pause {
    double label, silence, length;  // ms; silence below 0: there is no voice detector
    double both() const { return silence < 0 || label < silence ? label : silence; }
  };

  Decision begin(const Observation& seen);
  Pause pause_of(const Observation& seen) const;
  bool model_says(const Observation& seen, const Pause& pause, double threshold, double ms) const;
  bool over(const Observation& seen, const Pause& pause);
  Decision try_speculation(const Observation& seen, const Pause& pause);
  bool unchanged(const Observation& seen) const;
  Decision end();

  EndpointConfig config_;
  double frame_seconds_;
  Phase phase_ = Phase::waiting;
  double run_ = 0;  // ms of speech without a break
  double last_speech_ = -std::numeric_limits<double>::infinity();
  double began_ = 0;
  int speculations_ = 0;
  std::vector<int32_t> speculated_;  // the tokens it was made on
  int speculated_count_ = 0;
  bool speculated_tokens_ = false;
  std::string reason_;
  // Sentences of the rules, made once: a step allocates nothing.
  std::string after_speech_, no_word_, nothing_, not_heard_, limit_, early_silence_, early_no_word_;
};

// Python's round(value, digits): the nearest decimal, exact ties to even.
double rounded(double value, int digits);
// 1200 is "1.2 s".
std::string seconds_in_words(double ms);

}  // namespace slm
