// A model and its settings, serving any number of streams; the twin of speech/recognizer.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/file.h"
#include "end_head.h"
#include "endpoint.h"
#include "net.h"
#include "pieces.h"
#include "pointer.h"
#include "search.h"
#include "voice.h"

namespace slm {

// What holds for streams that are created later.
struct SpeechSettings {
  DecodeConfig decode;
  EndpointConfig endpoint;
  VoiceConfig voice;
  double threads = 1;
  double budget = 0;         // share of one core; 0: no limit
  double lattice_limit = 0;  // bytes; 0: 200 a second, at least 1000
  bool attention = true;     // to personal words, where the model has it
};

class Recognizer {
 public:
  explicit Recognizer(PackFile file);

  // By the names of solomonic_speech.h. BadArgument: no such name, a value out of range (nothing is
  // changed then).
  void set(const std::string& name, double value);
  double get(const std::string& name) const;
  const SpeechSettings& settings() const { return settings_; }
  std::string describe() const;
  // Bytes of weights, tables and vocabulary.
  size_t bytes() const;

  const PackFile& file() const { return file_; }
  const SpeechNet& net() const { return *net_; }
  const WordPieces& pieces() const { return *pieces_; }
  const EndHead* end() const { return end_.get(); }
  // The model's attention to personal words, or null.
  const PointerWeights* pointer() const { return pointer_.get(); }
  int lead_blocks() const { return lead_blocks_; }
  int tail_blocks() const { return tail_blocks_; }
  double frame_seconds() const { return frame_seconds_; }

 private:
  void read_settings();
  void read_end();

  PackFile file_;
  std::unique_ptr<SpeechNet> net_;
  std::unique_ptr<WordPieces> pieces_;
  std::vector<std::vector<float>> end_parameters_;
  std::unique_ptr<EndHead> end_;
  std::unique_ptr<const PointerWeights> pointer_;
  SpeechSettings settings_;
  int lead_blocks_ = 10, tail_blocks_ = 8;
  double frame_seconds_ = 0.06;
};

}  // namespace slm
