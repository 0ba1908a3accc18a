// Minimum statistics in bands; see voice.h.
#include "voice.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "runtime/error.h"
#include "sums.h"

namespace slm {

namespace {

constexpr int kSubWindows = 10;  // the floor's window slides in tenths of its length
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

void VoiceConfig::check() const {
  require(0 < highest && highest <= bands, "highest (" + std::to_string(highest) +
                                               ") must lie between 1 and bands (" +
                                               std::to_string(bands) + ").");
  require(bands <= 256, "bands (" + std::to_string(bands) + ") must be at most 256.");
  require(0 <= smoothing && smoothing < 1, "smoothing must be in [0, 1).");
  require(floor_frames >= kSubWindows && floor_frames <= 100000,
          "floor_frames must be at least 10, not " + std::to_string(floor_frames) + ".");
  require(hangover_frames >= 0, "hangover_frames must not be negative, but is " +
                                    std::to_string(hangover_frames) + ".");
  require(opening_frames >= 0 && opening_frames <= 100000,
          "opening_frames must lie between 0 and 100000.");
}

Voice::Voice(const VoiceConfig& config, int bins) : config_(config), bins_(bins) {
  config.check();
  require(bins > 0 && bins % config.bands == 0,
          "features must have a multiple of " + std::to_string(config.bands) + " bins, not " +
              std::to_string(bins) + ".");
  level_.resize(config.bands);
  minima_.resize(size_t(kSubWindows) * config.bands);
  minimum_.resize(config.bands);
  floor_.resize(config.bands);
  above_.resize(config.bands);
  bins64_.resize(bins / config.bands);
  opening_.reserve((size_t(config.opening_frames) + 1) * config.bands);
  reset();
}

void Voice::reset() {
  begun_ = false;
  std::fill(minima_.begin(), minima_.end(), kInfinity);
  std::fill(minimum_.begin(), minimum_.end(), kInfinity);
  opening_.clear();
  newest_ = frames_ = 0;
  loudest_ = -kInfinity;
  held_ = 0;
  left_ = noticed_ = announce_ = 0;
  judging_ = true;
}

float Voice::step(const float* frame) {
  const int bands = config_.bands, width = bins_ / bands;
  double loudest_band = -kInfinity;
  for (int b = 0; b < bands; b++) {
    for (int i = 0; i < width; i++) {
      double bin = frame[b * width + i];
      if (std::isnan(bin)) bin = config_.lowest_floor;
      if (std::isinf(bin)) bin = bin > 0 ? 20.0 : -20.0;
      bins64_[i] = bin;
    }
    const double mean = pairwise_sum(bins64_.data(), width) / width;
    const double fresh = (1 - config_.smoothing) * mean;
    level_[b] = config_.smoothing * (begun_ ? level_[b] : mean) + fresh;
    loudest_band = std::max(loudest_band, level_[b]);
    minimum_[b] = std::min(level_[b], minimum_[b]);
    double lowest = minimum_[b];
    for (int w = 0; w < kSubWindows; w++) lowest = std::min(lowest, minima_[w * bands + b]);
    floor_[b] = lowest;
  }
  begun_ = true;
  if (++frames_ == config_.floor_frames / kSubWindows) {
    std::copy(minimum_.begin(), minimum_.end(), minima_.begin() + newest_ * bands);
    newest_ = (newest_ + 1) % kSubWindows;
    std::fill(minimum_.begin(), minimum_.end(), kInfinity);
    frames_ = 0;
  }
  loudest_ = std::max(loudest_band, loudest_ - config_.fade);
  const double lowest = std::max(loudest_ - config_.range, config_.lowest_floor);
  for (double& floor : floor_) floor = std::max(floor, lowest);
  const double above = score(level_.data(), floor_.data()) - config_.margin;
  const double now = 1.0 / (1.0 + std::exp(-config_.slope * above));
  if (judging_) judge_opening(floor_.data(), now >= 0.5);
  const float heard = float(announce_ ? 1.0 : left_ ? std::max(now, held_) : now);
  if (now >= 0.5) {
    held_ = now;
    left_ = config_.hangover_frames;
  } else {
    left_ = std::max(left_ - 1, 0);
  }
  announce_ = std::max(announce_ - 1, 0);
  return heard;
}

// Mean of the highest bands above the floor.
double Voice::score(const double* levels, const double* floor) {
  const int bands = config_.bands;
  for (int b = 0; b < bands; b++)
    above_[b] = std::min(std::max(levels[b] - floor[b], 0.0), config_.cap);
  std::sort(above_.begin(), above_.end());
  double total = above_[bands - 1];
  for (int b = 2; b <= config_.highest; b++) total += above_[bands - b];
  return total / config_.highest;
}

// Look for speech at the start that is only now known to stand above the floor.
void Voice::judge_opening(const double* floor, bool speech) {
  const int bands = config_.bands;
  opening_.insert(opening_.end(), level_.begin(), level_.end());
  const int frames = int(opening_.size()) / bands;
  noticed_ += speech;
  if (noticed_ >= config_.announced_frames || frames >= config_.opening_frames) {
    judging_ = false;
    return;
  }
  int spoken = 0;
  for (int t = 0; t < frames; t++)
    spoken += score(opening_.data() + size_t(t) * bands, floor) >= config_.margin;
  if (spoken - noticed_ >= config_.announced_frames) {
    judging_ = false;
    announce_ = config_.announced_frames;
  }
}

}  // namespace slm
