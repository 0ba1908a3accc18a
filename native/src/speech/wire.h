// A lattice as a message that is sent in place of the audio; docs/lattice-format.md has it byte by
// byte. The twin of solomonic/speech/lattice/wire.py: the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lattice.h"

namespace slm {

enum class MessageKind { speculative_end = 0, final = 1, commit = 2, reset = 3 };

struct Message {
  const Lattice* lattice = nullptr;  // of words or pieces; none only in commit and reset
  int64_t utterance = 0, revision = 0;
  MessageKind kind = MessageKind::final;
  std::string reason;    // which end-pointer fired, at most 255 bytes
  double duration = 0;   // s of audio
  bool has_speaker = false, has_whisper = false, has_language = false;
  std::string speaker;   // at most 255 bytes
  double speaker_score = 0;
  double whisper = 0;    // probability
  std::string language;  // tag such as "en"
};

// Bytes that keep a message 15 times below Opus at 24 kbit/s: 200 a second, at least 1000.
int64_t message_limit(double seconds);

// The message in at most `limit` bytes, arcs pruned for that; 0: as many as it takes.
// Raises BadArgument: a value out of range, or the best path alone does not fit.
std::vector<uint8_t> encode_message(const Message& message, int64_t limit);

}  // namespace slm
