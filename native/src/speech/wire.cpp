#include "wire.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <unordered_map>

#include "device/crc.h"
#include "runtime/error.h"

namespace slm {

namespace {

typedef std::vector<uint8_t> Bytes;

constexpr int kPerNat = 16, kFinePerNat = 64;  // steps of a score
constexpr double kMostNats = 1 << 17;

// The adaptive range coder of lattice/coder.py. A context is a variable of its own: the probability
// of a 1 (of 65536) and how many bits it has seen.
struct Context {
  int chance = 1 << 15, count = 0;
};

class Encoder {
 public:
  void bit(Context* context, int bit) {
    const uint32_t bound = (range_ >> 16) * uint32_t(context ? context->chance : 1 << 15);
    if (bit) {
      range_ = bound;
    } else {
      low_ += bound;
      range_ -= bound;
    }
    if (context) learn(*context, bit);
    while (range_ < (1u << 24)) {
      shift();
      range_ <<= 8;
    }
  }

  // All bytes; the last ones are as few as tell the decoder where it is.
  Bytes finish() {
    for (int count = 1; count < 5; count++) {
      const uint64_t rest = (uint64_t(1) << (32 - 8 * count)) - 1;
      const uint64_t value = (low_ + rest) & ~rest;
      if (value >= low_ + range_) continue;
      low_ = value;
      for (int i = 0; i < count; i++) shift();
      break;
    }
    return bytes_;
  }

 private:
  static void learn(Context& c, int bit) {
    const int step = std::min(c.count, 30) + 2;
    const int chance = bit ? c.chance + (65536 - c.chance) / step : c.chance - c.chance / step;
    c.chance = std::min(std::max(chance, 1 << 10), 65536 - (1 << 10));
    c.count++;
  }
  // Move the top byte out of `low`, carrying into the bytes before it.
  void shift() {
    if (low_ > 0xFFFFFFFFu) {
      low_ &= 0xFFFFFFFFu;
      size_t at = bytes_.size() - 1;
      while (bytes_[at] == 255) bytes_[at--] = 0;
      bytes_[at]++;
    }
    bytes_.push_back(uint8_t(low_ >> 24));
    low_ = (low_ << 8) & 0xFFFFFFFFu;
  }

  Bytes bytes_;
  uint64_t low_ = 0;
  uint32_t range_ = 0xFFFFFFFFu;
};

// Contexts of a number.
struct Number {
  Context length[32], lower[32][4], negative;

  void code(Encoder& coder, int64_t value) {
    require(value >= 0 && value < (int64_t(1) << 32) - 1, "a number of a lattice is too large.");
    const uint64_t whole = uint64_t(value) + 1;
    int bits = 0;
    while (whole >> (bits + 1)) bits++;
    for (int i = 0; i < bits; i++) coder.bit(&length[i], 1);
    if (bits < 31) coder.bit(&length[bits], 0);
    uint32_t number = 1;
    for (int place = bits - 1; place >= 0; place--) {
      const int bit = int(whole >> place & 1);
      coder.bit(number < 4 ? &lower[bits][number] : nullptr, bit);
      number = number << 1 | uint32_t(bit);
    }
  }
  void code_signed(Encoder& coder, int64_t value) {
    code(coder, value < 0 ? -value : value);
    if (value) coder.bit(&negative, value < 0);
  }
};

// Words by how long ago they were last used; new ones are spelt by letters.
class Words {
 public:
  void code(Encoder& coder, const std::string& word) {
    const auto known = std::find(recent_.rbegin(), recent_.rend(), word);
    coder.bit(&new_word_, known == recent_.rend());
    if (known == recent_.rend()) {
      spell(coder, word);
    } else {
      ago_.code(coder, known - recent_.rbegin());
      recent_.erase(std::next(known).base());
    }
    recent_.push_back(word);
  }

 private:
  static constexpr int kOther = 31;

  void spell(Encoder& coder, const std::string& word) {
    int first = 0, second = 0;
    for (size_t i = 0; i <= word.size(); i++) {
      int code = 0;
      if (i < word.size()) {
        const char c = word[i];
        code = c >= 'a' && c <= 'z' ? c - 'a' + 1 : c == '\'' ? 27 : 256 + (c & 0xFF);
      }
      letter(coder, first << 9 | second, code);
      first = second;
      second = code;
    }
  }
  void letter(Encoder& coder, int known, int code) {
    const auto guess = followed_.find(known);
    if (guess != followed_.end()) {
      coder.bit(&as_before_, code == guess->second);
      if (code == guess->second) return;
    }
    const int shown = std::min(code, kOther);
    tree(coder, letters_, 5, shown);
    if (shown == kOther) tree(coder, bytes_, 8, code & 255);
    followed_[known] = code;
  }
  static void tree(Encoder& coder, Context* contexts, int bits, int value) {
    int node = 1;
    for (int place = bits - 1; place >= 0; place--) {
      const int bit = value >> place & 1;
      coder.bit(&contexts[node], bit);
      node = node << 1 | bit;
    }
  }

  std::vector<std::string> recent_{""};  // latest last
  std::unordered_map<int, int> followed_;
  Context new_word_, as_before_, letters_[32], bytes_[256];
  Number ago_;
};

// The lattice part; `acoustic` and `bias` are in steps.
void code_body(Encoder& coder, const Lattice& lattice, const std::vector<int64_t>& acoustic,
               const std::vector<int64_t>& bias) {
  Number nodes, frame, degree, target, next_target, score, paid, tail[2], gap;
  Context spans;
  nodes.code(coder, lattice.nodes() - 2);
  coder.bit(&spans, lattice.spans);
  int before = 0;
  for (const int at : lattice.frames) {
    frame.code(coder, at - before);
    before = at;
  }
  Words words;
  const std::vector<int> bounds = lattice.bounds();
  for (int node = 0; node < lattice.nodes() - 1; node++) {
    const int first = bounds[size_t(node)], last = bounds[size_t(node) + 1];
    degree.code(coder, last - first - 1);
    for (int a = first; a < last; a++) {
      const Lattice::Arc& arc = lattice.arcs[size_t(a)];
      if (a == first)
        target.code(coder, arc.target - node - 1);
      else
        next_target.code_signed(coder, arc.target - lattice.arcs[size_t(a) - 1].target);
      words.code(coder, lattice.symbols[size_t(arc.label)]);
      score.code_signed(coder, -acoustic[size_t(a)]);
      paid.code_signed(coder, bias[size_t(a)]);
      if (!lattice.spans) continue;
      const int begin = lattice.frames[size_t(node)];
      const int end = lattice.frames[size_t(arc.target)] + 1;
      tail[arc.target == lattice.nodes() - 1].code(coder, std::max(0, end - arc.last));
      gap.code(coder, std::max(0, arc.first - begin));
    }
  }
}

// Steps per nat, and the scores in steps, such that the best path stays the best; see wire.py.
int quantise(const Lattice& lattice, std::vector<int64_t>& acoustic, std::vector<int64_t>& bias) {
  for (const Lattice::Arc& arc : lattice.arcs) {
    const float largest = std::max(std::fabs(arc.acoustic), std::fabs(arc.bias));
    require(largest <= kMostNats,
            "a lattice message holds up to 131072 nats, not " + std::to_string(largest) + ".");
  }
  const std::vector<int> best = best_path(lattice);
  const size_t arcs = lattice.arcs.size();
  acoustic.resize(arcs);
  bias.resize(arcs);
  Lattice rounded = lattice;
  for (size_t a = 0; a < arcs; a++) {
    acoustic[a] = int64_t(std::nearbyint(double(lattice.arcs[a].acoustic) * kPerNat));
    bias[a] = int64_t(std::nearbyint(double(lattice.arcs[a].bias) * kPerNat));
    rounded.arcs[a].acoustic = float(double(acoustic[a]) / kPerNat);
    rounded.arcs[a].bias = float(double(bias[a]) / kPerNat);
  }
  if (best_path(rounded) == best) return kPerNat;
  for (size_t a = 0; a < arcs; a++) {
    acoustic[a] = int64_t(std::floor(double(lattice.arcs[a].acoustic) * kFinePerNat));
    bias[a] = int64_t(std::floor(double(lattice.arcs[a].bias) * kFinePerNat));
  }
  for (const int a : best) {
    acoustic[size_t(a)] += 1;
    bias[size_t(a)] = int64_t(std::ceil(double(lattice.arcs[size_t(a)].bias) * kFinePerNat));
  }
  return kFinePerNat;
}

// Plain fields; see lattice/header.py.
struct Writer {
  Bytes data;

  void byte(int value) { data.push_back(uint8_t(value)); }
  void number(uint64_t value) {
    for (; value > 127; value >>= 7) byte(int(value & 127) | 128);
    byte(int(value));
  }
  void add_signed(int64_t value) {
    number(value >= 0 ? 2 * uint64_t(value) : 2 * uint64_t(-value) - 1);
  }
  void text(const std::string& value) {
    number(value.size());
    data.insert(data.end(), value.begin(), value.end());
  }
  void seconds(double value) {
    const double parts = value < 1e6 ? std::nearbyint(value * 1e6) : 0.0;
    if (parts > 0 && parts / 1e6 == value) return number(uint64_t(parts));
    number(0);
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    for (int i = 0; i < 8; i++) byte(int(bits >> (8 * i) & 255));
  }
};

Bytes encode(const Message& message, const Lattice* lattice) {
  Writer writer;
  const int flags = message.has_speaker | message.has_whisper << 1 | message.has_language << 2 |
                    (lattice != nullptr) << 3;
  writer.byte(flags << 2 | int(message.kind));
  writer.number(uint64_t(message.utterance));
  writer.number(uint64_t(message.revision));
  writer.text(message.reason);
  writer.number(uint64_t(std::nearbyint(message.duration * 1000)));
  if (message.has_speaker) {
    writer.text(message.speaker);
    writer.add_signed(int64_t(std::nearbyint(message.speaker_score * 1000)));
  }
  if (message.has_whisper) writer.byte(int(std::nearbyint(message.whisper * 255)));
  if (message.has_language) writer.text(message.language);
  if (lattice) {
    std::vector<int64_t> acoustic, bias;
    writer.number(uint64_t(quantise(*lattice, acoustic, bias)));
    writer.seconds(lattice->frame_seconds);
    Encoder coder;
    code_body(coder, *lattice, acoustic, bias);
    const Bytes body = coder.finish();
    writer.data.insert(writer.data.end(), body.begin(), body.end());
  }
  Writer whole;
  whole.data = {'S', 'L', 1};
  whole.number(writer.data.size());
  whole.data.insert(whole.data.end(), writer.data.begin(), writer.data.end());
  const uint32_t sum = crc32(whole.data.data(), whole.data.size());
  for (int i = 0; i < 4; i++) whole.byte(int(sum >> (8 * i) & 255));
  return whole.data;
}

}  // namespace

int64_t message_limit(double seconds) { return std::max<int64_t>(1000, int64_t(200 * seconds)); }

std::vector<uint8_t> encode_message(const Message& message, int64_t limit) {
  require(message.utterance >= 0 && message.revision >= 0,
          "utterance and revision of a message must not be negative.");
  require(message.lattice || message.kind == MessageKind::commit ||
              message.kind == MessageKind::reset,
          "a message of this kind needs a lattice.");
  require(message.duration >= 0 && message.duration < 1e9, "duration must be in 0..1e9 s.");
  require(std::fabs(message.speaker_score) <= 1e6, "speaker_score must be in -1e6..1e6.");
  require(message.whisper >= 0 && message.whisper <= 1, "whisper must be a probability.");
  for (const std::string* text : {&message.reason, &message.speaker, &message.language})
    require(text->size() <= 255, "a text of a message must be at most 255 bytes.");
  if (!limit || !message.lattice) {
    Bytes data = encode(message, message.lattice);
    require(!limit || int64_t(data.size()) <= limit,
            "the message takes " + std::to_string(data.size()) + " bytes, more than the limit of " +
                std::to_string(limit) + ".");
    return data;
  }
  std::map<size_t, Bytes> made;  // by the number of arcs: lattices of one search differ in it
  const Lattice found = prune_to_bytes(*message.lattice, limit, [&](const Lattice& lattice) {
    Bytes& data = made[lattice.arcs.size()];
    data = encode(message, &lattice);
    return int64_t(data.size());
  });
  return made[found.arcs.size()];
}

}  // namespace slm
