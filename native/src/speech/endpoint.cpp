// LISTEN, SPECULATED, final; see endpoint.h.
#include "endpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "runtime/error.h"

namespace slm {

namespace {

constexpr double kRecentSeconds = 1.0;  // labels come late

double ms_of(double value) { return rounded(value, 3); }

std::string number(double value) {
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 6);
  return std::string(text, end.ptr);
}

}  // namespace

double rounded(double value, int digits) {
  if (!(std::fabs(value) < 1e15)) return value;
  char text[64];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, digits);
  double result = value;
  std::from_chars(text, end.ptr, result);
  return result;
}

std::string seconds_in_words(double ms) { return number(ms / 1000) + " s"; }

double EndpointConfig::speculative_silence_ms() const {
  return std::max(silence_ms - gap_ms(), 0.0);
}

void EndpointConfig::check() const {
  const auto above_zero = [](const char* name, double value) {
    require(value > 0, std::string(name) + " must be above 0, not " + number(value) + ".");
  };
  above_zero("silence_ms", silence_ms);
  above_zero("nothing_ms", nothing_ms);
  above_zero("label_silence_ms", label_silence_ms);
  above_zero("silence_limit_ms", silence_limit_ms);
  above_zero("utterance_limit_ms", utterance_limit_ms);
  require(start_ms >= 0, "start_ms must not be negative, but is " + number(start_ms) + ".");
  require(speculative_ms >= 0,
          "speculative_ms must not be negative, but is " + number(speculative_ms) + ".");
  require(0 < speech_threshold && speech_threshold <= 1,
          "speech_threshold must be in (0, 1], not " + number(speech_threshold) + ".");
  require(0 <= speculative_threshold && speculative_threshold <= final_threshold,
          "0 <= speculative_threshold <= final_threshold must hold, not " +
              number(speculative_threshold) + " and " + number(final_threshold) +
              "; the final end-pointer would come before the speculative one.");
  require(gap_ms() >= 0, "final_ms (" + number(final_ms) + ") must not be below speculative_ms (" +
                             number(speculative_ms) + "); leave it out for 200 ms more.");
  require(silence_ms <= label_silence_ms, "label_silence_ms (" + number(label_silence_ms) +
                                              ") must not be below silence_ms (" +
                                              number(silence_ms) + ").");
  require(speculations_limit >= 0, "speculations_limit must not be negative, but is " +
                                       std::to_string(speculations_limit) + ".");
}

Endpointer::Endpointer(const EndpointConfig& config, double frame_seconds)
    : config_(config), frame_seconds_(frame_seconds) {
  config.check();
  require(frame_seconds > 0, "frame_seconds must be above 0, not " + number(frame_seconds) + ".");
  after_speech_ = "rule: " + seconds_in_words(config.silence_ms) + " of silence after speech";
  no_word_ = "rule: " + seconds_in_words(config.label_silence_ms) + " without a new word";
  nothing_ = "rule: " + seconds_in_words(config.nothing_ms) + " of silence, nothing recognised";
  not_heard_ = "rule: no speech heard for " + seconds_in_words(config.silence_limit_ms);
  limit_ = seconds_in_words(config.utterance_limit_ms) + " limit";
  early_silence_ =
      "rule: " + seconds_in_words(config.speculative_silence_ms()) + " of silence after speech";
  early_no_word_ = "rule: " +
                   seconds_in_words(std::max(config.label_silence_ms - config.gap_ms(), 0.0)) +
                   " without a new word";
  reason_.reserve(128);
}

Decision Endpointer::step(const Observation& seen, bool speculate) {
  const bool speech =
      seen.speech_probability >= 0 && seen.speech_probability >= config_.speech_threshold;
  run_ = speech ? run_ + frame_seconds_ * 1000 : 0.0;
  if (speech) last_speech_ = seen.time;
  if (phase_ == Phase::waiting) return begin(seen);
  const Pause pause = pause_of(seen);
  if (over(seen, pause)) return end();
  if (phase_ == Phase::speculated) {
    if (unchanged(seen)) return Decision::none;
    phase_ = Phase::listen;
    return Decision::reset;
  }
  return speculate ? try_speculation(seen, pause) : Decision::none;
}

Decision Endpointer::finish() {
  if (phase_ == Phase::waiting) return Decision::none;
  reason_ = "input finished";
  return end();
}

void Endpointer::reset() {
  end();
  reason_.clear();
}

Decision Endpointer::begin(const Observation& seen) {
  const bool sustained = run_ > 0 && ms_of(run_) >= config_.start_ms;
  // A recognised word starts an utterance too short for `start_ms`; but where a detector has heard
  // no speech lately, the search is babbling.
  const bool detector = seen.speech_probability >= 0;
  const bool lately = seen.time - last_speech_ <= kRecentSeconds;
  if (!sustained && !(seen.n_tokens > 0 && (lately || !detector))) return Decision::none;
  began_ = seen.time - std::max(run_ / 1000, frame_seconds_);
  if (!detector) last_speech_ = seen.time;
  phase_ = Phase::listen;
  return Decision::start;
}

Endpointer::Pause Endpointer::pause_of(const Observation& seen) const {
  const double length = ms_of((seen.time - began_) * 1000);
  const double label = seen.n_tokens ? seen.pause_frames * frame_seconds_ * 1000 : length;
  const double silence =
      seen.speech_probability >= 0 ? ms_of((seen.time - last_speech_) * 1000) : kAbsent;
  return {ms_of(label), silence, length};
}

bool Endpointer::model_says(const Observation& seen, const Pause& pause, double threshold,
                            double ms) const {
  return seen.end_probability >= 0 && seen.n_tokens > 0 && seen.end_probability >= threshold &&
         pause.both() >= ms;
}

bool Endpointer::over(const Observation& seen, const Pause& pause) {
  const bool words = seen.n_tokens > 0;
  if (model_says(seen, pause, config_.final_threshold, config_.final_pause_ms()))
    reason_ = "model";
  else if (words && pause.both() >= config_.silence_ms)
    reason_ = after_speech_;
  else if (words && pause.label >= config_.label_silence_ms)
    reason_ = no_word_;
  else if (!words && pause.both() >= config_.nothing_ms)
    reason_ = nothing_;
  else if (pause.silence >= 0 && pause.silence >= config_.silence_limit_ms)
    reason_ = not_heard_;
  else if (pause.length >= config_.utterance_limit_ms)
    reason_ = limit_;
  else
    return false;
  return true;
}

Decision Endpointer::try_speculation(const Observation& seen, const Pause& pause) {
  if (!config_.speculate || speculations_ >= config_.speculations_limit) return Decision::none;
  const bool words = seen.n_tokens > 0;
  const double early = std::max(config_.label_silence_ms - config_.gap_ms(), 0.0);
  if (model_says(seen, pause, config_.speculative_threshold, config_.speculative_ms))
    reason_ = "model";
  else if (words && pause.both() >= config_.speculative_silence_ms())
    reason_ = early_silence_;
  else if (words && pause.label >= early)
    reason_ = early_no_word_;
  else
    return Decision::none;
  phase_ = Phase::speculated;
  speculations_++;
  speculated_count_ = seen.n_tokens;
  speculated_tokens_ = seen.tokens != nullptr;
  if (seen.tokens) speculated_.assign(seen.tokens, seen.tokens + seen.n_tokens);
  return Decision::speculative;
}

bool Endpointer::unchanged(const Observation& seen) const {
  if (seen.n_tokens != speculated_count_ || (seen.tokens != nullptr) != speculated_tokens_)
    return false;
  return !seen.tokens || std::equal(speculated_.begin(), speculated_.end(), seen.tokens);
}

// "final", after which nothing is remembered of the utterance.
Decision Endpointer::end() {
  phase_ = Phase::waiting;
  run_ = 0;
  last_speech_ = -std::numeric_limits<double>::infinity();
  began_ = 0;
  speculations_ = 0;
  return Decision::final;
}

}  // namespace slm
