// The device file (FORMAT.md): settings, vocabulary and weights of a model, checked as they come in.
//
// A PackFile is right in every byte that it offers, or was refused: BadArgument names the file, the
// byte and the reason. Nothing that a file says is believed before it is checked against the file's
// size, so that memory stays within a small multiple of it. It must outlive all that points into it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/matrix.h"
#include "runtime/memory.h"

namespace slm {

enum class PackMode {
  arena,  // read into memory on huge pages: fastest to compute with
  map,    // mapped: pages that are not in use can be dropped; the file must not change meanwhile
};

// One entry of the vocabulary; types as in SentencePiece: 1 normal, 2 unknown (the blank), 3 control,
// 4 user-defined, 6 byte.
struct PackPiece {
  std::string_view text;
  float score = 0;
  int type = 1;
};

// How text is cut into pieces.
struct PackNormaliser {
  bool dummy_prefix = true;    // a word start is put in front
  bool squeeze_spaces = true;  // no spaces at the ends, runs of them are one
  bool escape_spaces = true;   // a space is U+2581 in pieces
  bool rewrites = false;       // by a character map that is not known here: do not cut text
};

enum class PackVocabulary { none = 0, pieces = 1, tokens = 2 };

struct PackTensor {
  std::string_view name;
  int format = 0;  // MatrixFormat, or kPackedFive
  int bits = 32, pattern = 0, dims = 1;
  int shape[4] = {1, 1, 1, 1};
  const uint8_t *data = nullptr, *scales = nullptr, *table = nullptr;
  size_t bytes = 0, scale_bytes = 0, table_bytes = 0;
  uint64_t offset = 0;  // of the data in the file
  MatrixView view;      // of a quantised matrix

  int64_t count() const { return int64_t(shape[0]) * shape[1] * shape[2] * shape[3]; }
};

// Five bits that index 32 values: only in files, q8 once it is loaded.
constexpr int kPackedFive = 16;

class PackFile {
 public:
  static PackFile open(const std::string& path, PackMode mode = PackMode::arena);
  // From a copy of the bytes; `name` is for messages.
  static PackFile parse(const void* data, size_t bytes, const std::string& name = "the model");

  PackFile() = default;
  PackFile(PackFile&& other) noexcept { *this = std::move(other); }
  PackFile& operator=(PackFile&& other) noexcept;
  ~PackFile();

  const std::string& name() const { return name_; }
  size_t bytes() const { return size_; }
  // Bytes of memory held, the file's own (arena) or mapped ones included.
  size_t memory() const;

  // Settings. `has` is false for one that is null; the others refuse what is missing or of another
  // type.
  bool has(std::string_view key) const;
  std::string text(std::string_view key) const;
  int64_t integer(std::string_view key) const;
  // The same within [least, most], as an int.
  int integer(std::string_view key, int least, int most) const;
  double real(std::string_view key) const;
  bool flag(std::string_view key) const;

  PackVocabulary vocabulary() const { return vocabulary_; }
  const std::vector<PackPiece>& pieces() const { return pieces_; }
  const PackNormaliser& normaliser() const { return normaliser_; }

  const std::vector<PackTensor>& tensors() const { return tensors_; }
  // nullptr if there is none of that name.
  const PackTensor* find(std::string_view name) const;
  const PackTensor& tensor(std::string_view name) const;
  // A float32 tensor of so many numbers, where it lies.
  const float* floats(std::string_view name, int64_t count) const;
  // Any tensor of so many numbers as floats, row-major: quantised ones are multiplied out.
  std::vector<float> values(std::string_view name, int64_t count) const;
  // A quantised matrix where it lies.
  MatrixView matrix(std::string_view name) const;
  // A matrix of that shape to multiply with: a view, or a packed copy of a float32 tensor.
  Matrix weights(std::string_view name, int outputs, int inputs) const;

  // The signature's algorithm (0: the file is not signed) and bytes. It is not verified here.
  int signature_algorithm() const { return signature_algorithm_; }
  std::string_view signature() const { return signature_; }

 private:
  struct Setting {
    std::string_view key, value;
  };

  [[noreturn]] void refuse_at(uint64_t offset, const std::string& why) const;
  void read();
  void read_settings(uint64_t at, uint64_t size, uint32_t count);
  void read_vocabulary(uint64_t at, uint64_t size, uint32_t count);
  void read_directory(uint64_t at, uint64_t size, uint32_t count, uint64_t data_at);
  uint64_t read_parts(uint64_t entry, uint64_t at, PackTensor& tensor);
  void check_tensor(PackTensor& tensor);
  void check_floats(const PackTensor& tensor, const uint8_t* data, size_t bytes, bool half);
  void expand_five();
  void read_signature();
  void zeros(uint64_t start, uint64_t stop) const;
  const std::string_view* setting(std::string_view key) const;
  std::string_view need(std::string_view key) const;
  [[noreturn]] void wrong(std::string_view key, const char* wanted) const;

  std::string name_;
  Memory arena_, expanded_;
  void* mapped_ = nullptr;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  uint64_t end_ = 0;  // of the contents
  std::vector<Setting> settings_;
  PackVocabulary vocabulary_ = PackVocabulary::none;
  std::vector<PackPiece> pieces_;
  PackNormaliser normaliser_;
  std::vector<PackTensor> tensors_;
  std::vector<uint32_t> by_name_;
  int signature_algorithm_ = 0;
  std::string_view signature_;
};

}  // namespace slm
