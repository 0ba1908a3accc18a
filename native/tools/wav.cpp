// The chunks of a RIFF file; see wav.h.
#include "wav.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace {

uint32_t little(const unsigned char* at, int bytes) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; i++) value |= uint32_t(at[i]) << (8 * i);
  return value;
}

constexpr unsigned kPcm = 1, kFloat = 3, kExtensible = 0xfffe, kMostChannels = 64;

}  // namespace

Wav::Wav(const std::string& path) : path_(path), file_(std::fopen(path.c_str(), "rb")) {
  if (!file_)
    throw std::runtime_error("cannot open the recording " + path + " (" + std::strerror(errno) +
                             "); give the path of a WAV file.");
  try {
    unsigned char head[12];
    if (!take(head, 12) || std::memcmp(head, "RIFF", 4) || std::memcmp(head + 8, "WAVE", 4))
      refuse("it does not begin as one");
    for (;;) {
      unsigned char chunk[8];
      if (!take(chunk, 8)) refuse("it ends before the sound");
      const uint32_t size = little(chunk + 4, 4);
      if (!std::memcmp(chunk, "fmt ", 4)) {
        read_format(size);
      } else if (!std::memcmp(chunk, "data", 4)) {
        if (!channels_) refuse("the sound comes before its format");
        // A program that writes into a pipe does not know the length.
        left_ = size == 0 || size == 0xffffffffu ? UINT64_MAX : size;
        return;
      } else {
        skip(uint64_t(size) + (size & 1));
      }
    }
  } catch (...) {
    std::fclose(file_);
    throw;
  }
}

Wav::~Wav() { std::fclose(file_); }

void Wav::read_format(uint32_t size) {
  unsigned char format[40] = {};
  if (size < 16 || !take(format, std::min<uint32_t>(size, 40))) refuse("its format is cut short");
  if (size > 40) skip(size - 40);
  if (size & 1) skip(1);
  unsigned coding = little(format, 2);
  channels_ = little(format + 2, 2);
  rate_ = little(format + 4, 4);
  bits_ = little(format + 14, 2);
  if (coding == kExtensible) coding = size >= 26 ? little(format + 24, 2) : 0;
  real_ = coding == kFloat;
  const bool pcm = coding == kPcm && (bits_ == 8 || bits_ == 16 || bits_ == 24 || bits_ == 32);
  if (!pcm && !(real_ && (bits_ == 32 || bits_ == 64)))
    refuse("its coding " + std::to_string(coding) + " with " + std::to_string(bits_) +
           " bits is neither PCM nor float");
  if (channels_ < 1 || channels_ > kMostChannels)
    refuse("it has " + std::to_string(channels_) + " channels");
  if (rate_ < 1000 || rate_ > 768000) refuse("it has " + std::to_string(int64_t(rate_)) +
                                             " samples a second");
}

const std::vector<float>& Wav::read(size_t most) {
  const size_t frame = size_t(channels_) * bits_ / 8;
  bytes_.resize(size_t(std::min<uint64_t>(most * frame, left_ / frame * frame)));
  const size_t got = bytes_.empty() ? 0 : std::fread(bytes_.data(), 1, bytes_.size(), file_);
  if (left_ != UINT64_MAX) left_ -= got;
  if (got < bytes_.size()) left_ = 0;
  const size_t frames = got / frame;
  samples_.resize(frames);
  for (size_t i = 0; i < frames; i++) {
    float sum = 0;
    for (unsigned c = 0; c < channels_; c++) sum += sample(&bytes_[i * frame + c * (bits_ / 8)]);
    samples_[i] = channels_ == 1 ? sum : sum / float(channels_);
  }
  return samples_;
}

float Wav::sample(const unsigned char* at) const {
  if (real_ && bits_ == 32) {
    const uint32_t bits = little(at, 4);
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
  }
  if (real_) {
    const uint64_t bits = little(at, 4) | uint64_t(little(at + 4, 4)) << 32;
    double value;
    std::memcpy(&value, &bits, 8);
    return float(value);
  }
  if (bits_ == 8) return float(int(at[0]) - 128) / 128.0f;  // the only one without a sign
  const uint32_t bits = little(at, int(bits_ / 8)) << (32 - bits_);
  return float(double(int32_t(bits)) / 2147483648.0);
}

bool Wav::take(void* to, size_t bytes) { return std::fread(to, 1, bytes, file_) == bytes; }

void Wav::skip(uint64_t bytes) {
  unsigned char rest[512];
  while (bytes) {
    const size_t part = size_t(std::min<uint64_t>(bytes, sizeof rest));
    if (!take(rest, part)) refuse("it ends before the sound");
    bytes -= part;
  }
}

void Wav::refuse(const std::string& why) const {
  throw std::runtime_error("cannot read " + path_ + " as a WAV file (" + why +
                           "); convert it, as in `sox " + path_ + " -e signed -b 16 out.wav`.");
}
