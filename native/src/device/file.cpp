// Reading and checking device files.
#include "file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <locale>
#include <sstream>

#include "crc.h"
#include "runtime/error.h"

namespace slm {

namespace {

constexpr uint8_t kMagic[8] = {0x93, 'S', 'O', 'L', 'O', '\r', '\n', 0x1a};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kHeader = 128, kEntry = 80, kPiece = 8, kWords = 16, kSign = 16, kAlign = 64;
constexpr uint64_t kMostConfig = 1 << 20, kMostVocabulary = 1 << 26, kMostTensors = 1 << 16;
constexpr uint64_t kMostName = 255, kMostSide = 1 << 24, kMostSignature = 1 << 12;

template <class T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}
uint16_t u16(const uint8_t* p) { return load<uint16_t>(p); }
uint32_t u32(const uint8_t* p) { return load<uint32_t>(p); }
uint64_t u64(const uint8_t* p) { return load<uint64_t>(p); }

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "device files are little-endian");

// Below 2^63 for every offset that was checked against the file's size.
uint64_t up(uint64_t offset) { return (offset + kAlign - 1) / kAlign * kAlign; }

float from_bf16(uint16_t half) {
  const uint32_t bits = uint32_t(half) << 16;
  return load<float>(reinterpret_cast<const uint8_t*>(&bits));
}

class File {
 public:
  explicit File(const std::string& path) : handle_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (handle_ < 0)
      refuse("cannot open the model " + path + " (" + std::strerror(errno) + "); give a file that "
             "`solomonic compress` wrote.");
  }
  ~File() { ::close(handle_); }
  File(const File&) = delete;
  int handle() const { return handle_; }

 private:
  int handle_;
};

}  // namespace

PackFile PackFile::open(const std::string& path, PackMode mode) {
  const File file(path);
  struct stat status = {};
  if (::fstat(file.handle(), &status) != 0 || !S_ISREG(status.st_mode))
    refuse(path + " is no file; give one that `solomonic compress` wrote.");
  PackFile pack;
  pack.name_ = path;
  pack.size_ = size_t(status.st_size);
  if (pack.size_ == 0) pack.refuse_at(0, "the file is empty");
  if (mode == PackMode::map) {
    void* mapped = ::mmap(nullptr, pack.size_, PROT_READ, MAP_PRIVATE, file.handle(), 0);
    if (mapped == MAP_FAILED)
      refuse("cannot map " + path + " (" + std::strerror(errno) + "); read it into memory instead.");
    pack.mapped_ = mapped;
    pack.data_ = static_cast<const uint8_t*>(mapped);
  } else {
    pack.arena_ = Memory(pack.size_);
    uint8_t* to = pack.arena_.as<uint8_t>();
    for (size_t done = 0; done < pack.size_;) {
      const ssize_t got = ::read(file.handle(), to + done, pack.size_ - done);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) pack.refuse_at(done, "the file could not be read any further");
      done += size_t(got);
    }
    pack.data_ = to;
  }
  pack.read();
  return pack;
}

PackFile PackFile::parse(const void* data, size_t bytes, const std::string& name) {
  PackFile pack;
  pack.name_ = name;
  pack.size_ = bytes;
  if (bytes == 0) pack.refuse_at(0, "the file is empty");
  pack.arena_ = Memory(bytes);
  std::memcpy(pack.arena_.as<uint8_t>(), data, bytes);
  pack.data_ = pack.arena_.as<uint8_t>();
  pack.read();
  return pack;
}

PackFile& PackFile::operator=(PackFile&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(arena_, other.arena_);
  std::swap(expanded_, other.expanded_);
  std::swap(mapped_, other.mapped_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(end_, other.end_);
  std::swap(settings_, other.settings_);
  std::swap(vocabulary_, other.vocabulary_);
  std::swap(pieces_, other.pieces_);
  std::swap(normaliser_, other.normaliser_);
  std::swap(tensors_, other.tensors_);
  std::swap(by_name_, other.by_name_);
  std::swap(signature_algorithm_, other.signature_algorithm_);
  std::swap(signature_, other.signature_);
  return *this;
}

PackFile::~PackFile() {
  if (mapped_) ::munmap(mapped_, size_);
}

size_t PackFile::memory() const {
  return size_ + expanded_.bytes() + settings_.capacity() * sizeof(Setting) +
         pieces_.capacity() * sizeof(PackPiece) +
         tensors_.capacity() * (sizeof(PackTensor) + sizeof(uint32_t));
}

void PackFile::refuse_at(uint64_t offset, const std::string& why) const {
  refuse(name_ + ", byte " + std::to_string(offset) + ": " + why + "; copy the file again.");
}

void PackFile::zeros(uint64_t start, uint64_t stop) const {
  for (uint64_t at = start; at < stop; at++)
    if (data_[at]) refuse_at(at, "padding is not zero, the file is corrupted");
}

void PackFile::read() {
  if (std::memcmp(data_, kMagic, std::min(size_, sizeof kMagic)) != 0)
    refuse_at(0, "this is no device file (its first bytes are others)");
  if (size_ >= 12) {
    const uint32_t version = u32(data_ + 8);
    if (version > kVersion)
      refuse(name_ + ", byte 8: the file has version " + std::to_string(version) +
             " and this program reads up to " + std::to_string(kVersion) + "; update solomonic.");
    if (version == 0) refuse_at(8, "version 0 does not exist");
  }
  if (size_ < kHeader) refuse_at(size_, "cut short in the header of 128 bytes");
  if (crc32(data_, kHeader - 4) != u32(data_ + kHeader - 4))
    refuse_at(kHeader - 4, "the header is corrupted (its checksum is wrong)");
  const uint32_t flags = u32(data_ + 12);
  if (flags > 1) refuse_at(12, "the flags " + std::to_string(flags) + " are unknown");
  if (u32(data_ + 120)) refuse_at(120, "reserved bytes are not zero");
  end_ = u64(data_ + 16);
  if (size_ < end_)
    refuse_at(size_, "cut short: " + std::to_string(end_) + " bytes are announced (byte 16)");

  static const char* const kNames[] = {"config", "vocabulary", "directory", "data"};
  const uint64_t most[] = {kMostConfig, kMostVocabulary, kMostTensors * (kEntry + kMostName), end_};
  uint64_t offset[4], size[4], at = kHeader;
  uint32_t count[4];
  for (int i = 0; i < 4; i++) {
    const uint8_t* place = data_ + 24 + 24 * i;
    offset[i] = u64(place);
    size[i] = u64(place + 8);
    count[i] = u32(place + 16);
    const uint32_t crc = u32(place + 20);
    // `at` may lie beyond the contents after the section before: nothing is subtracted from end_
    // until it is known not to.
    if (offset[i] != at || at > end_ || size[i] > most[i] || size[i] > end_ - at)
      refuse_at(24 + 24 * i, std::string("the ") + kNames[i] + " section of " +
                                 std::to_string(size[i]) + " bytes at " +
                                 std::to_string(offset[i]) + " cannot be");
    if (i == 3) {
      if (count[i] || crc || size[i] % kAlign)
        refuse_at(24 + 24 * i, "the data section has a wrong size or reserved values");
    } else if (crc32(data_ + at, size[i]) != crc) {
      refuse_at(at, std::string("the ") + kNames[i] + " section is corrupted (wrong checksum)");
    }
    const uint64_t stop = at + size[i];
    at = up(stop);
    if (at > end_) refuse_at(16, "the contents end within padding");
    zeros(stop, at);
  }
  if (at != end_) refuse_at(16, "the contents end elsewhere than the data");
  if (!flags && size_ > end_)
    refuse_at(end_, std::to_string(size_ - end_) + " bytes after the end");
  read_settings(offset[0], size[0], count[0]);
  if (size[1] > 0) read_vocabulary(offset[1], size[1], count[1]);
  else if (count[1]) refuse_at(48, "pieces are announced and there is no vocabulary");
  read_directory(offset[2], size[2], count[2], offset[3]);
  if (flags) read_signature();
  expand_five();
}

void PackFile::read_settings(uint64_t at, uint64_t size, uint32_t count) {
  const std::string_view all(reinterpret_cast<const char*>(data_ + at), size);
  size_t from = 0;
  while (from < size) {
    const size_t stop = all.find('\n', from);
    if (stop == all.npos) refuse_at(at + size, "the last setting has no end of line");
    const std::string_view line = all.substr(from, stop - from);
    const size_t equals = line.find('=');
    if (equals == line.npos || equals == 0) refuse_at(at + from, "a setting without a key");
    const Setting one{line.substr(0, equals), line.substr(equals + 1)};
    if (!settings_.empty() && one.key <= settings_.back().key)
      refuse_at(at + from, "settings are out of order");
    settings_.push_back(one);
    from = stop + 1;
  }
  if (settings_.size() != count)
    refuse_at(at, std::to_string(settings_.size()) + " settings where " + std::to_string(count) +
                      " are announced");
}

void PackFile::read_vocabulary(uint64_t at, uint64_t size, uint32_t count) {
  const uint64_t stop = at + size;
  if (size < kWords) refuse_at(at, "the vocabulary is too short");
  const uint32_t kind = u32(data_ + at), flags = u32(data_ + at + 4), number = u32(data_ + at + 8),
                 rest = u32(data_ + at + 12);
  if (kind < 1 || kind > 2 || flags > 15 || number != count || number == 0 ||
      number > size / kPiece)
    refuse_at(at, "the vocabulary's beginning is wrong");
  vocabulary_ = PackVocabulary(kind);
  normaliser_.dummy_prefix = flags & 1;
  normaliser_.squeeze_spaces = flags & 2;
  normaliser_.escape_spaces = flags & 4;
  normaliser_.rewrites = flags & 8;
  at += kWords;
  pieces_.reserve(number);
  for (uint32_t token = 0; token < number; token++) {
    if (stop - at < kPiece)
      refuse_at(at, "the vocabulary ends before piece " + std::to_string(token));
    const uint8_t* piece = data_ + at;
    const uint64_t length = u16(piece);
    const int type = piece[2];
    const float score = load<float>(piece + 4);
    if (stop - at - kPiece < length || piece[3] || type < 1 || type > 6 || !std::isfinite(score))
      refuse_at(at, "piece " + std::to_string(token) + " is wrong");
    pieces_.push_back({{reinterpret_cast<const char*>(piece + kPiece), length}, score, type});
    at += kPiece + length;
  }
  if (stop - at != rest) refuse_at(at, "the rest of the vocabulary has another size");
}

void PackFile::read_directory(uint64_t at, uint64_t size, uint32_t count, uint64_t data_at) {
  const uint64_t stop = at + size;
  if (count > kMostTensors || count > size / kEntry)
    refuse_at(at, "the directory is too short for " + std::to_string(count) + " tensors");
  tensors_.reserve(count);
  for (uint32_t index = 0; index < count; index++) {
    if (stop - at < kEntry)
      refuse_at(at, "the directory ends before tensor " + std::to_string(index));
    const uint8_t* entry = data_ + at;
    const uint64_t length = u16(entry);
    PackTensor tensor;
    tensor.format = entry[2];
    tensor.bits = entry[3];
    tensor.dims = entry[4];
    tensor.pattern = entry[5];
    if (u16(entry + 6) || u32(entry + 76) || length < 1 || length > kMostName ||
        length > stop - at - kEntry)
      refuse_at(at, "the entry of tensor " + std::to_string(index) + " is wrong");
    tensor.name = {reinterpret_cast<const char*>(entry + kEntry), length};
    for (const char letter : tensor.name)
      if (letter < '!' || letter > '~') refuse_at(at + kEntry, "a tensor's name is no ASCII");
    const std::string name(tensor.name);
    if (tensor.dims < 1 || tensor.dims > 4 || tensor.pattern > 3)
      refuse_at(at, "'" + name + "' has unknown dimensions or pattern");
    for (int side = 0; side < 4; side++) {
      const uint32_t value = u32(entry + 8 + 4 * side);
      if (value < 1 || value > kMostSide || (side >= tensor.dims && value != 1))
        refuse_at(at, "'" + name + "' has an impossible shape");
      tensor.shape[side] = int(value);
    }
    data_at = read_parts(at, data_at, tensor);
    uint32_t crc = crc32(tensor.data, tensor.bytes);
    crc = crc32(tensor.scales, tensor.scale_bytes, crc);
    crc = crc32(tensor.table, tensor.table_bytes, crc);
    if (crc != u32(entry + 72))
      refuse_at(tensor.offset, "'" + name + "' is corrupted (its checksum is wrong)");
    check_tensor(tensor);
    tensors_.push_back(tensor);
    at += kEntry + length;
  }
  if (at != stop) refuse_at(at, "bytes are left in the directory");
  if (data_at != end_) refuse_at(data_at, "data that belongs to no tensor");
  by_name_.resize(count);
  for (uint32_t i = 0; i < count; i++) by_name_[i] = i;
  std::sort(by_name_.begin(), by_name_.end(),
            [&](uint32_t a, uint32_t b) { return tensors_[a].name < tensors_[b].name; });
  for (uint32_t i = 1; i < count; i++)
    if (tensors_[by_name_[i - 1]].name == tensors_[by_name_[i]].name)
      refuse_at(up(stop), "there are two tensors '" + std::string(tensors_[by_name_[i]].name) + "'");
}

// Where the payloads of a tensor lie: one after the other from `at`; returns where they end.
uint64_t PackFile::read_parts(uint64_t entry, uint64_t at, PackTensor& tensor) {
  const uint8_t** const place[] = {&tensor.data, &tensor.scales, &tensor.table};
  size_t* const bytes[] = {&tensor.bytes, &tensor.scale_bytes, &tensor.table_bytes};
  tensor.offset = at;
  for (int part = 0; part < 3; part++) {
    const uint64_t offset = u64(data_ + entry + 24 + 16 * part);
    const uint64_t size = u64(data_ + entry + 32 + 16 * part);
    const bool fits = size == 0 ? offset == 0 : offset == at && size <= end_ - at;
    if (!fits)
      refuse_at(entry, "'" + std::string(tensor.name) + "' has " + std::to_string(size) +
                           " bytes at " + std::to_string(offset) + ", which cannot be");
    if (size == 0) continue;
    *place[part] = data_ + offset;
    *bytes[part] = size_t(size);
    const uint64_t stop = at + size;
    at = up(stop);  // not beyond end_, which is a multiple of 64
    zeros(stop, at);
  }
  return at;
}

void PackFile::check_floats(const PackTensor& tensor, const uint8_t* data, size_t bytes,
                            bool half) {
  const size_t width = half ? 2 : 4;
  for (size_t at = 0; at + width <= bytes; at += width) {
    const float value = half ? from_bf16(u16(data + at)) : load<float>(data + at);
    if (!std::isfinite(value))
      refuse_at(uint64_t(data + at - data_), "'" + std::string(tensor.name) +
                                                  "' holds NaN or infinity");
  }
}

void PackFile::check_tensor(PackTensor& tensor) {
  const std::string name(tensor.name);
  const auto wrong = [&](const std::string& why) { refuse_at(tensor.offset, "'" + name + "' " + why); };
  if (tensor.format == int(MatrixFormat::f32)) {
    // Sides up to 2^24 each: step by step, so that nothing overflows.
    uint64_t left = tensor.bytes / 4;
    for (const int side : tensor.shape) {
      if (left % uint64_t(side)) left = 0;
      left /= uint64_t(side);
    }
    if (tensor.bytes % 4 || left != 1 || tensor.scale_bytes || tensor.table_bytes ||
        tensor.bits != 32 || tensor.pattern)
      wrong("has " + std::to_string(tensor.bytes) + " bytes, which do not fit its shape");
    check_floats(tensor, tensor.data, tensor.bytes, false);
    return;
  }
  if (tensor.dims != 2) wrong("is quantised and no matrix");
  const bool five = tensor.format == kPackedFive;
  if (!five && (tensor.format < int(MatrixFormat::q8) || tensor.format > int(MatrixFormat::v16_8)))
    wrong("has the unknown format " + std::to_string(tensor.format));
  if (tensor.shape[1] > kMostInputs) wrong("has too many inputs");
  check_floats(tensor, tensor.scales, tensor.scale_bytes,
               tensor.format == int(MatrixFormat::q4));
  if (five) {
    const uint64_t count = uint64_t(tensor.shape[0]) * uint64_t(tensor.shape[1]);
    if (tensor.bytes != (count + 1) / 2 + (count + 7) / 8 || tensor.table_bytes != 32 ||
        tensor.scale_bytes != tile_scale_bytes(MatrixFormat::q8, tensor.shape[0], tensor.shape[1]))
      wrong("has sizes that do not fit its shape");
    for (int i = 1; i < 32; i++)
      if (int8_t(tensor.table[i]) < int8_t(tensor.table[i - 1]))
        wrong("has a codebook out of order");
    if (int8_t(tensor.table[0]) < -127) wrong("has a codebook beyond -127");
    return;  // expand_five gives it its view
  }
  // Beside tiles a codebook only says what the levels were made from.
  const bool eight = tensor.format == int(MatrixFormat::s24_8) ||
                     tensor.format == int(MatrixFormat::v16_8);
  if (tensor.table_bytes && !(eight && tensor.table_bytes == 32))
    wrong("has a codebook that its format does not know");
  tensor.view = {MatrixFormat(tensor.format), tensor.shape[0],    tensor.shape[1], tensor.data,
                 tensor.bytes,                tensor.scales, tensor.scale_bytes};
  try {
    check_tiles(tensor.view);
  } catch (const BadArgument& error) {
    wrong(std::string("is no such matrix: ") + error.what());
  }
}

// Matrices with a codebook become q8 in memory of their own: 1.6 times what they take in the file.
void PackFile::expand_five() {
  size_t bytes = 0, largest = 0;
  const auto place = [](const PackTensor& tensor) {
    return up(tile_bytes(MatrixFormat::q8, tensor.shape[0], tensor.shape[1]));
  };
  for (const PackTensor& tensor : tensors_) {
    if (tensor.format != kPackedFive) continue;
    bytes += place(tensor);
    largest = std::max(largest, size_t(tensor.count()));
  }
  if (bytes == 0) return;
  expanded_ = Memory(bytes);
  std::vector<int8_t> levels(largest);
  uint8_t* to = expanded_.as<uint8_t>();
  for (PackTensor& tensor : tensors_) {
    if (tensor.format != kPackedFive) continue;
    const size_t count = size_t(tensor.count());
    const uint8_t* high = tensor.data + (count + 1) / 2;
    for (size_t i = 0; i < count; i++) {
      const int low = tensor.data[i / 2] >> (i % 2 ? 4 : 0) & 15;
      levels[i] = int8_t(tensor.table[low | (high[i / 8] >> (i % 8) & 1) << 4]);
    }
    pack_tiles(MatrixFormat::q8, levels.data(), tensor.shape[0], tensor.shape[1], to);
    tensor.view = {MatrixFormat::q8, tensor.shape[0], tensor.shape[1], to,
                   tile_bytes(MatrixFormat::q8, tensor.shape[0], tensor.shape[1]),
                   tensor.scales, tensor.scale_bytes};
    to += place(tensor);
  }
}

void PackFile::read_signature() {
  const uint64_t left = size_ - end_;
  if (left < kSign) refuse_at(size_, "cut short in the signature");
  const uint8_t* place = data_ + end_;
  const uint64_t size = u32(place + 8);
  if (std::memcmp(place, "SIGN", 4) != 0 || size < 1 || size > kMostSignature)
    refuse_at(end_, "the signature's beginning is wrong");
  if (left - kSign != size) refuse_at(end_, "the signature has another size than announced");
  if (crc32(place + kSign, size, crc32(place, 12)) != u32(place + 12))
    refuse_at(end_ + 12, "the signature is corrupted (wrong checksum)");
  const uint32_t algorithm = u32(place + 4);
  if (algorithm < 1 || algorithm > 255) refuse_at(end_ + 4, "the signature's algorithm is unknown");
  signature_algorithm_ = int(algorithm);
  signature_ = {reinterpret_cast<const char*>(place + kSign), size};
}

const std::string_view* PackFile::setting(std::string_view key) const {
  const auto found =
      std::lower_bound(settings_.begin(), settings_.end(), key,
                       [](const Setting& one, std::string_view wanted) { return one.key < wanted; });
  return found == settings_.end() || found->key != key ? nullptr : &found->value;
}

std::string_view PackFile::need(std::string_view key) const {
  const std::string_view* value = setting(key);
  if (!value)
    refuse(name_ + " has no setting '" + std::string(key) + "'; give a model that was made for this.");
  return *value;
}

void PackFile::wrong(std::string_view key, const char* wanted) const {
  refuse(name_ + ": the setting " + std::string(key) + " = '" + std::string(need(key)) + "' is no " +
         wanted + "; make the file again.");
}

bool PackFile::has(std::string_view key) const {
  const std::string_view* value = setting(key);
  return value && *value != "null";
}

std::string PackFile::text(std::string_view key) const { return std::string(need(key)); }

int64_t PackFile::integer(std::string_view key) const {
  const std::string_view value = need(key);
  const bool negative = !value.empty() && value[0] == '-';
  const std::string_view digits = value.substr(negative);
  if (digits.empty() || digits.size() > 18) wrong(key, "whole number");
  int64_t number = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') wrong(key, "whole number");
    number = number * 10 + (digit - '0');
  }
  return negative ? -number : number;
}

int PackFile::integer(std::string_view key, int least, int most) const {
  const int64_t value = integer(key);
  if (value < least || value > most)
    refuse(name_ + ": the setting " + std::string(key) + " = " + std::to_string(value) +
           " lies outside " + std::to_string(least) + " to " + std::to_string(most) +
           "; make the file again.");
  return int(value);
}

double PackFile::real(std::string_view key) const {
  const std::string value(need(key));
  if (value == "inf") return INFINITY;
  if (value == "-inf") return -INFINITY;
  std::istringstream stream(value);
  stream.imbue(std::locale::classic());  // the program's locale may write a comma
  double number = 0;
  stream >> number;
  if (stream.fail() || stream.peek() != std::istringstream::traits_type::eof())
    wrong(key, "number");
  return number;
}

bool PackFile::flag(std::string_view key) const {
  const std::string_view value = need(key);
  if (value != "true" && value != "false") wrong(key, "true or false");
  return value == "true";
}

const PackTensor* PackFile::find(std::string_view name) const {
  const auto found = std::lower_bound(
      by_name_.begin(), by_name_.end(), name,
      [&](uint32_t index, std::string_view wanted) { return tensors_[index].name < wanted; });
  return found == by_name_.end() || tensors_[*found].name != name ? nullptr : &tensors_[*found];
}

const PackTensor& PackFile::tensor(std::string_view name) const {
  const PackTensor* found = find(name);
  if (!found)
    refuse(name_ + " has no tensor '" + std::string(name) +
           "'; give a model that was made for this.");
  return *found;
}

const float* PackFile::floats(std::string_view name, int64_t count) const {
  const PackTensor& found = tensor(name);
  if (found.format != int(MatrixFormat::f32) || found.count() != count)
    refuse_at(found.offset, "'" + std::string(name) + "' is not " + std::to_string(count) +
                                " float32 numbers");
  return reinterpret_cast<const float*>(found.data);
}

std::vector<float> PackFile::values(std::string_view name, int64_t count) const {
  const PackTensor& found = tensor(name);
  if (found.format == int(MatrixFormat::f32)) {
    const float* from = floats(name, count);
    return std::vector<float>(from, from + count);
  }
  if (found.count() != count)
    refuse_at(found.offset, "'" + std::string(name) + "' is not " + std::to_string(count) +
                                " numbers");
  const Matrix view = Matrix::view(found.view);
  std::vector<float> out(static_cast<size_t>(count));
  for (int output = 0; output < view.outputs(); output++)
    view.row(output, out.data() + int64_t(output) * view.inputs());
  return out;
}

MatrixView PackFile::matrix(std::string_view name) const {
  const PackTensor& found = tensor(name);
  if (found.format == int(MatrixFormat::f32))
    refuse_at(found.offset, "'" + std::string(name) + "' is not quantised");
  return found.view;
}

Matrix PackFile::weights(std::string_view name, int outputs, int inputs) const {
  const PackTensor& found = tensor(name);
  if (found.dims != 2 || found.shape[0] != outputs || found.shape[1] != inputs)
    refuse_at(found.offset, "'" + std::string(name) + "' is no matrix of " +
                                std::to_string(outputs) + " times " + std::to_string(inputs));
  if (found.format == int(MatrixFormat::f32))
    return Matrix(SLM_F32, outputs, inputs, reinterpret_cast<const float*>(found.data));
  return Matrix::view(found.view);
}

}  // namespace slm
