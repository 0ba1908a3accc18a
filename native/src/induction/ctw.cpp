#include "induction/ctw.h"

#include <algorithm>

namespace slm::induction {

namespace {
// Far enough apart for every mixture, near enough that products stay finite.
constexpr double kFar = 1e150;
double bounded(double ratio) { return ratio > kFar ? kFar : ratio < 1 / kFar ? 1 / kFar : ratio; }
constexpr double kAlpha = 1.0 / 16;
}  // namespace

ContextTree::ContextTree(int alphabet, int depth, double alpha)
    : alphabet_(alphabet), depth_(depth), alpha_(alpha), past_(size_t(depth), 0) {
  add();
}

int32_t ContextTree::add() {
  children_.resize(children_.size() + size_t(alphabet_), 0);
  counts_.resize(counts_.size() + size_t(alphabet_), 0);
  totals_.push_back(0);
  ratios_.push_back(1);
  return int32_t(totals_.size()) - 1;
}

int ContextTree::path(std::vector<int32_t>& nodes) const {
  nodes.assign(1, 0);
  for (int level = 0; level < depth_; level++) {
    const int32_t child = children_[size_t(nodes.back()) * size_t(alphabet_) + past_[level]];
    if (!child) break;
    nodes.push_back(child);
  }
  return int(nodes.size());
}

void ContextTree::predict(double* out) const {
  std::vector<int32_t> nodes;
  const int known = path(nodes);
  for (int s = 0; s < alphabet_; s++) {
    // Below what exists every estimator is uniform, and so is every mixture of them.
    double mixed = known <= depth_ ? 1.0 / alphabet_ : 0;
    for (int level = known - 1; level >= 0; level--) {
      const size_t node = size_t(nodes[level]);
      const double estimate = (counts_[node * size_t(alphabet_) + size_t(s)] + alpha_) /
                              (totals_[node] + alphabet_ * alpha_);
      mixed = level == depth_ ? estimate
                              : (estimate + ratios_[node] * mixed) / (1 + ratios_[node]);
    }
    out[s] = mixed;
  }
}

void ContextTree::learn(int symbol) {
  std::vector<int32_t> nodes;
  while (path(nodes) <= depth_) {
    const int32_t fresh = add();
    children_[size_t(nodes.back()) * size_t(alphabet_) + past_[nodes.size() - 1]] = fresh;
  }
  double mixed = 0;
  for (int level = depth_; level >= 0; level--) {
    const size_t node = size_t(nodes[size_t(level)]);
    double& count = counts_[node * size_t(alphabet_) + size_t(symbol)];
    const double estimate = (count + alpha_) / (totals_[node] + alphabet_ * alpha_);
    const double below = mixed;
    if (level == depth_) {
      mixed = estimate;
    } else {
      mixed = (estimate + ratios_[node] * below) / (1 + ratios_[node]);
      ratios_[node] = bounded(ratios_[node] * below / estimate);
    }
    count += 1;
    totals_[node] += 1;
  }
  if (depth_) {
    std::memmove(past_.data() + 1, past_.data(), size_t(depth_) - 1);
    past_[0] = uint8_t(symbol);
  }
}

void ContextTree::write(Writer& writer) const {
  writer.all(children_);
  writer.all(counts_);
  writer.all(totals_);
  writer.all(ratios_);
  writer.all(past_);
}

void ContextTree::read(Reader& reader) {
  ContextTree found(alphabet_, depth_, alpha_);
  reader.grow(found.children_);
  reader.grow(found.counts_);
  reader.grow(found.totals_);
  reader.grow(found.ratios_);
  reader.all(found.past_);
  reader.finish();
  const size_t nodes = found.totals_.size(), wide = nodes * size_t(alphabet_);
  bool good = nodes && found.children_.size() == wide && found.counts_.size() == wide &&
              found.ratios_.size() == nodes;
  for (const int32_t child : found.children_) good = good && child >= 0 && size_t(child) < nodes;
  for (const uint8_t symbol : found.past_) good = good && symbol < alphabet_;
  for (size_t node = 0; good && node < nodes; node++) {
    double total = 0;
    for (size_t i = node * size_t(alphabet_); i < (node + 1) * size_t(alphabet_); i++) {
      good = good && found.counts_[i] >= 0;
      total += found.counts_[i];
    }
    good = good && std::isfinite(total) && total == found.totals_[node];
  }
  for (const double ratio : found.ratios_) good = good && ratio >= 1 / kFar && ratio <= kFar;
  if (!good) throw std::invalid_argument("the state of a predictor is damaged.");
  *this = std::move(found);
}

ByteTree::ByteTree(int depth, int bits) : depth_(depth), bits_(bits), table_(size_t(1) << bits) {
  begin_byte();
  look();
}

void ByteTree::begin_byte() {
  uint64_t hash = 0;
  contexts_[0] = 0;
  for (int level = 1; level <= depth_; level++) {
    const uint64_t byte = (history_[(level - 1) / 8] >> ((level - 1) % 8 * 8)) & 255;
    hash = (hash + byte + 1) * 0x9E3779B97F4A7C15ull;
    contexts_[level] = scramble(hash);
  }
}

uint64_t ByteTree::place(int level, int partial) const {
  return scramble(contexts_[level] + uint64_t(level * 256 + partial) * 0xC2B2AE3D27D4EB4Full) | 1;
}

// A node sits in the line of four that its key names.
const ByteTree::Node* ByteTree::find(uint64_t key) const {
  static const Node fresh = {0, 0, 0, 0};
  const size_t line = size_t(key >> (64 - bits_)) & ~size_t(3);
  for (size_t i = line; i < line + 4; i++)
    if (table_[i].check == uint32_t(key)) return &table_[i];
  return &fresh;
}

ByteTree::Node* ByteTree::seat(uint64_t key) {
  const size_t line = size_t(key >> (64 - bits_)) & ~size_t(3);
  size_t poorest = line;
  int least = 1 << 30;
  for (size_t i = line; i < line + 4; i++) {
    if (table_[i].check == uint32_t(key)) return &table_[i];
    const int seen = table_[i].check ? table_[i].zeros + table_[i].ones + 1 : 0;
    if (seen < least) least = seen, poorest = i;
  }
  table_[poorest] = {0, 0, 0, uint32_t(key)};
  return &table_[poorest];
}

// Probability of a one; a stored ratio of 0 is one of 1 (tables begin as zeros).
double ByteTree::mix(const Node* const* nodes, double* estimates, double* mixed) const {
  for (int level = depth_; level >= 0; level--) {
    const Node& node = *nodes[level];
    const double estimate =
        (node.ones + kAlpha) / (double(node.zeros) + double(node.ones) + 2 * kAlpha);
    const double ratio = node.ratio == 0 ? 1 : node.ratio;
    estimates[level] = estimate;
    mixed[level] =
        level == depth_ ? estimate : (estimate + ratio * mixed[level + 1]) / (1 + ratio);
  }
  return mixed[0];
}

void ByteTree::look() {
  uint64_t keys[kDeepest + 1];
  for (int level = 0; level <= depth_; level++) {
    keys[level] = place(level, partial_);
    __builtin_prefetch(&table_[size_t(keys[level] >> (64 - bits_)) & ~size_t(3)]);
  }
  // Nodes are only found here; `learn` gives those that are new a seat. Two of one look never fall
  // out of each other's line unseen: learn looks again.
  const Node* found[kDeepest + 1];
  for (int level = 0; level <= depth_; level++) found[level] = find(keys[level]);
  mix(found, estimates_, mixed_);
}

void ByteTree::learn(int bit) {
  for (int level = depth_; level >= 0; level--) {
    Node& node = *seat(place(level, partial_));
    const double ratio = node.ratio == 0 ? 1 : node.ratio;
    if (level == depth_) {
      node.ratio = 1;
    } else {
      const double below = bit ? mixed_[level + 1] : 1 - mixed_[level + 1];
      const double estimate = bit ? estimates_[level] : 1 - estimates_[level];
      node.ratio = bounded(ratio * below / estimate);
    }
    uint16_t& count = bit ? node.ones : node.zeros;
    if (count == 65535) {
      node.zeros = uint16_t((node.zeros + 1) / 2);
      node.ones = uint16_t((node.ones + 1) / 2);
    }
    count++;
  }
  partial_ = partial_ * 2 + bit;
  if (partial_ >= 256) {
    history_[1] = (history_[1] << 8) | (history_[0] >> 56);
    history_[0] = (history_[0] << 8) | uint64_t(partial_ & 255);
    partial_ = 1;
    begin_byte();
  }
  look();
}

void ByteTree::distribution(double* out) const {
  double reach[256];
  reach[1] = 1;
  double estimates[kDeepest + 1], mixed[kDeepest + 2];
  for (int partial = 1; partial < 256; partial++) {
    const Node* found[kDeepest + 1];
    for (int level = 0; level <= depth_; level++) found[level] = find(place(level, partial));
    const double one = mix(found, estimates, mixed);
    double* to = partial < 128 ? reach + 2 * partial : out + (2 * partial - 256);
    to[0] = reach[partial] * (1 - one);
    to[1] = reach[partial] * one;
  }
}

void ByteTree::write(Writer& writer) const {
  writer.put(int32_t(partial_));
  writer.bytes(history_, sizeof history_);
  table_.write(writer);
}

void ByteTree::read(Reader& reader) {
  ByteTree found(depth_, bits_);
  found.partial_ = reader.get<int32_t>();
  reader.bytes(found.history_, sizeof found.history_);
  found.table_.read(reader);
  reader.finish();
  bool good = found.partial_ >= 1 && found.partial_ <= 255;
  for (size_t i = 0; i < found.table_.size(); i++) {
    const double ratio = std::as_const(found.table_)[i].ratio;
    good = good && ratio >= 0 && ratio <= kFar;
  }
  if (!good) throw std::invalid_argument("the state of a predictor is damaged.");
  found.begin_byte();
  found.look();
  *this = std::move(found);
}

}  // namespace slm::induction
