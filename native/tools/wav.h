// Recordings as WAV files: PCM of 8, 16, 24 or 32 bits and float of 32 or 64, any rate, any number of
// channels (their mean is taken), read piece by piece.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

class Wav {
 public:
  // Throws std::runtime_error with one sentence: no such file, no WAV file, an unknown coding.
  explicit Wav(const std::string& path);
  ~Wav();
  Wav(const Wav&) = delete;
  Wav& operator=(const Wav&) = delete;

  double rate() const { return rate_; }
  // The next samples, at most `most`, in [-1, 1]; none at the end. A file that is cut short gives what
  // is there.
  const std::vector<float>& read(size_t most);

 private:
  bool take(void* to, size_t bytes);
  void skip(uint64_t bytes);
  void read_format(uint32_t size);
  float sample(const unsigned char* at) const;
  [[noreturn]] void refuse(const std::string& why) const;

  std::string path_;
  std::FILE* file_;
  double rate_ = 0;
  unsigned channels_ = 0, bits_ = 0;
  bool real_ = false;
  uint64_t left_ = 0;  // bytes of sound
  std::vector<unsigned char> bytes_;
  std::vector<float> samples_;
};
