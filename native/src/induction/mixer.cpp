#include "induction/mixer.h"

#include <algorithm>

namespace slm::induction {

namespace {

constexpr int kMaps = 512;       // histories of a context
constexpr int kLengths = 32;     // of matches, in steps
constexpr int kMinMatch = 6;
constexpr int kStageBins = 33;
constexpr int kHashed = 1 << 16;  // contexts of the secondary estimators
constexpr int kStages = 256 * 4 + 2 * kHashed;
constexpr float kLimit = 12;
constexpr int kMatch = 3 * ContextMixer::kContexts, kHint = kMatch + 3;  // among the inputs
constexpr float kFirst[3] = {0.15f, 0.2f, 0.1f};  // weights before anything was learned
constexpr float kRate = 0.002f, kEarly = 0.02f, kFinalRate = 0.002f;
constexpr int kMostCount = 250;
constexpr float kHeaviest = 1e6f;  // sound weights are far below, and no sum of such overflows
constexpr int kSetSizes[ContextMixer::kSets] = {256 * 4, 256, 16 * 8, 256, kLengths * 8, 256 * 8};

struct Tables {
  float stretch[4096];
  float squash[4097];
  int rate[256];  // 1 / (n + 1.5) in 65536ths
  uint16_t map[kMaps];
  Tables() {
    for (int i = 0; i < 4096; i++) {
      const double p = (i + 0.5) / 4096;
      stretch[i] = float(plain_log(p / (1 - p)));
    }
    for (int i = 0; i <= 4096; i++) squash[i] = float(1 / (1 + plain_exp(12.0 - i * (24.0 / 4096))));
    for (int i = 0; i < 256; i++) rate[i] = int(65536 / (i + 1.5));
    for (int i = 0; i < kMaps; i++) {
      // Where a history leaves off: the ones among its bits, the newest counting most.
      const int history = i < 128 ? i : 128 + (i & 127);
      int length = 0;
      while ((history >> (length + 1)) > 0) length++;
      double ones = 0, all = 0, weight = 1;
      for (int k = 0; k < length; k++) {
        all += weight;
        ones += weight * ((history >> k) & 1);
        weight *= 0.8;
      }
      map[i] = uint16_t(65535 * ((ones + 0.25) / (all + 0.5)));
    }
  }
};
const Tables& tables() {
  static const Tables made;
  return made;
}

inline float stretch(int p) { return tables().stretch[p >> 4]; }

inline float squash(float x) {
  if (x > kLimit - 0.01f) x = kLimit - 0.01f;
  if (x < 0.01f - kLimit) x = 0.01f - kLimit;
  const float place = (x + kLimit) * (4096 / 24.0f);
  const int i = int(place);
  const float part = place - float(i);
  const float* table = tables().squash;
  return table[i] + (table[i + 1] - table[i]) * part;
}

// Sums and steps in eight lanes, always in this order.
typedef float Lanes __attribute__((vector_size(32)));
inline float dot(const float* a, const float* b) {
  Lanes sum = {};
  for (int i = 0; i < ContextMixer::kInputs; i += 8) {
    Lanes x, y;
    std::memcpy(&x, a + i, 32);
    std::memcpy(&y, b + i, 32);
    sum += x * y;
  }
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}
inline void step(float* weights, const float* inputs, float by) {
  for (int i = 0; i < ContextMixer::kInputs; i++) weights[i] += inputs[i] * by;
}

// A step of rate / 65536 to where the bit says, rounded down. Products may go round: of them only
// bits 16 to 31 count.
inline void nudge(uint16_t& p, int bit, int rate) {
  p = uint16_t(p + (uint32_t((bit ? 65535 : 0) - int(p)) * uint32_t(rate) >> 16));
}

int map_of(int history, int count) {
  if (history < 128) return history;
  return (history & 127) + 128 * (count < 14 ? 1 : count < 40 ? 2 : 3);
}

int log_length(int length) {  // 0 .. 31
  if (length < 16) return length;
  return std::min(16 + (length - 16) / 8, kLengths - 1);
}

uint64_t mixed_hash(uint64_t a, uint64_t b) { return scramble(a * 0x9E3779B97F4A7C15ull + b); }

bool letter(int c) { return (c >= 'a' && c <= 'z') || c >= 128; }
int lower(int c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

}  // namespace

ContextMixer::ContextMixer(int bits)
    : bits_(bits),
      buckets_(size_t(1) << (bits - 4)),
      table_(buckets_ * kContexts),
      ring_(size_t(1) << bits),
      places_(size_t(1) << (bits - 2)),
      maps_(kContexts * kMaps),
      map_counts_(kContexts * kMaps, 0),
      match_p_(kLengths),
      stages_(size_t(kStageBins) * kStages) {
  for (int i = 0; i < kContexts * kMaps; i++) maps_[i] = tables().map[i % kMaps];
  for (int i = 0; i < kLengths; i++) match_p_[i] = uint16_t(65535 - 65536 / (i + 3));
  int total = 0;
  for (const int size : kSetSizes) total += size;
  weights_.assign(size_t(total) * kInputs, 0);
  float row[kInputs] = {};
  for (int i = 0; i < kMatch; i++) row[i] = kFirst[i % 3];
  row[kMatch] = row[kHint] = 0.5f;
  for (size_t i = 0; i < weights_.size(); i += kInputs) std::copy(row, row + kInputs, &weights_[i]);
  final_.assign(256 * 8, 1.0f / kSets);
  uint16_t cells[kStageBins];
  for (int i = 0; i < kStageBins; i++) cells[i] = uint16_t(squash((i - 16) * 0.75f) * 65535);
  for (size_t i = 0; i < stages_.size(); i += kStageBins)
    std::copy(cells, cells + kStageBins, &stages_[i]);
  begin_byte();
  settle();
}

std::unique_ptr<ContextMixer> ContextMixer::copy() const {
  std::unique_ptr<ContextMixer> other(new ContextMixer(*this));
  other->settle();
  return other;
}

// Seats and prediction at the place in the byte where this stands.
void ContextMixer::settle() {
  int root = partial_;
  while (root >= 32) root /= 2;
  if (partial_ < 16) root = 1;
  for (int i = 0; i < kContexts; i++) now_[i] = seat(i, root);
  predict(partial_, now_, found_);
}

uint64_t ContextMixer::key(int context, int root) const {
  return scramble(contexts_[context] + uint64_t(root) * 0xC2B2AE3D27D4EB4Full);
}

const ContextMixer::Bucket* ContextMixer::peek(int context, int root) const {
  const uint64_t hash = key(context, root);
  const uint16_t check = uint16_t(hash) | 1;
  const size_t at = size_t(hash >> 20) & (buckets_ - 1);
  const Bucket* table = &table_[buckets_ * size_t(context)];
  for (size_t i = 0; i < 3; i++)
    if (table[at ^ i].check == check) return &table[at ^ i];
  return nullptr;
}

ContextMixer::Bucket* ContextMixer::seat(int context, int root) {
  const uint64_t hash = key(context, root);
  const uint16_t check = uint16_t(hash) | 1;
  const size_t at = size_t(hash >> 20) & (buckets_ - 1);
  Bucket* table = &table_[buckets_ * size_t(context)];
  Bucket* poorest = nullptr;
  int least = 1 << 30;
  for (size_t i = 0; i < 3; i++) {
    Bucket& one = table[at ^ i];
    if (one.check == check) return &one;
    const int seen = one.check ? one.slots[0].count + 1 : 0;
    if (seen < least) least = seen, poorest = &one;
  }
  *poorest = Bucket{};
  poorest->check = check;
  return poorest;
}

void ContextMixer::begin_byte() {
  uint64_t hash = 0;
  contexts_[0] = 0;
  for (int order = 1; order <= 6; order++) {
    hash = mixed_hash(hash, ((history_ >> (8 * (order - 1))) & 255) + 1);
    contexts_[order] = hash + uint64_t(order);
  }
  const uint64_t newest = history_ & 255;
  const size_t mask = ring_.size() - 1;
  const uint64_t column = bytes_ - line_begin_;
  const bool has_above = above_begin_ + column < line_begin_ && bytes_ - above_begin_ <= mask;
  const uint64_t above = has_above ? ring_[(above_begin_ + column) & mask] + 1 : 0;
  const uint64_t expected = uint64_t(expected_ + 1);
  contexts_[7] = mixed_hash(word_, newest) + 7;
  contexts_[8] = mixed_hash(mixed_hash(word_, words_[0]), newest) + 8;
  contexts_[9] = mixed_hash(history_ & 0xFFFF00, 9);
  contexts_[10] = mixed_hash(above * 256 + newest, 10);
  contexts_[11] = mixed_hash(expected * 32 + uint64_t(log_length(match_length_)), 11);
  contexts_[12] = mixed_hash(mixed_hash(word_, words_[1]), 12);
  contexts_[13] = mixed_hash(history_ & 0xFFFFFF00, 13);
}

int ContextMixer::expected_bit(int partial) const {
  if (expected_ < 0) return -1;
  int shift = 8;
  for (int rest = partial; rest > 1; rest /= 2) shift--;
  if ((expected_ | 256) >> shift != partial) return -1;
  return (expected_ >> (shift - 1)) & 1;
}

void ContextMixer::predict(int partial, const Bucket* const* buckets, Found& found) const {
  const int known = inputs_of(partial, buckets, found);
  sets_of(partial, known, found);
  refine(partial, found);
}

// Fills the inputs; returns how many contexts were met before.
int ContextMixer::inputs_of(int partial, const Bucket* const* buckets, Found& found) const {
  // Where in its half byte the bit stands: 0, 1 - 2, 3 - 6, 7 - 14.
  int root = partial, depth = 0;
  while (root != 1 && !(root >= 16 && root < 32)) root /= 2, depth++;
  const int slot = (1 << depth) - 1 + (partial - (root << depth));
  int known = 0;
  for (int i = 0; i < kContexts; i++) {
    const Slot& one = buckets[i]->slots[slot];
    found.slots[i] = &one;
    float* to = found.inputs + 3 * i;
    if (!one.history) {
      found.maps[i] = -1;
      to[0] = to[1] = to[2] = 0;
      continue;
    }
    known++;
    found.maps[i] = i * kMaps + map_of(one.history, one.count);
    const int p = maps_[size_t(found.maps[i])];
    to[0] = stretch(one.p);
    to[1] = stretch(p);
    to[2] = (float(p) - 32768.0f) * (1 / 16384.0f);
  }
  float* rest = found.inputs + 3 * kContexts;
  const int bit = expected_bit(partial);
  const int p = bit < 0 ? 32768 : match_p_[size_t(log_length(match_length_))];
  rest[0] = bit < 0 ? 0 : bit ? stretch(p) : -stretch(p);
  rest[1] = bit < 0 ? 0 : (float(p) - 32768.0f) * (bit ? 1 / 16384.0f : -1 / 16384.0f);
  rest[2] = 0.4f;
  rest[3] = 0;
  if (hinted_) {
    const float reach = outside_[partial], one = outside_[2 * partial + 1];
    const float share = reach > 0 ? one / reach : 0.5f;
    // What is no number becomes the least.
    rest[3] = stretch(int(std::min(65535.0f, std::max(1.0f, share * 65536))));
  }
  rest[4] = rest[5] = 0;
  return known;
}

void ContextMixer::sets_of(int partial, int known, Found& found) const {
  const int c1 = int(history_ & 255), c2 = int((history_ >> 8) & 255);
  int place = 0;
  for (int rest = partial; rest > 1; rest /= 2) place++;
  const int length = expected_bit(partial) < 0 ? 0 : match_length_;
  const int match = length == 0 ? 0 : length < 16 ? 1 : length < 32 ? 2 : 3;
  const int kinds = (letter(lower(c1)) ? 4 : 0) + (letter(lower(c2)) ? 2 : 0) + (words_[0] != 0);
  const int chosen[kSets] = {partial * 4 + match, c1,
                             known * 8 + place,   c2,
                             log_length(length) * 8 + place, partial * 8 + kinds};
  size_t base = 0;
  for (int i = 0; i < kSets; i++) {
    found.weights[i] = &weights_[(base + size_t(chosen[i])) * kInputs];
    base += size_t(kSetSizes[i]);
    float x = dot(found.weights[i], found.inputs);
    x = x > kLimit ? kLimit : x < -kLimit ? -kLimit : x;
    found.dots[i] = x;
    found.chances[i] = squash(x);
  }
  found.final_weights = &final_[size_t(partial) * 8];
  float x = 0;
  for (int i = 0; i < kSets; i++) x += found.final_weights[i] * found.dots[i];
  found.mixed = x > kLimit ? kLimit : x < -kLimit ? -kLimit : x;
}

// Secondary estimation: what came after such a prediction in this context.
void ContextMixer::refine(int partial, Found& found) const {
  const uint64_t c1 = history_ & 255;
  const int bit = expected_bit(partial);
  const size_t contexts[3] = {
      size_t(partial) * 4 + (bit < 0 ? 0 : match_length_ < 16 ? 1 : match_length_ < 32 ? 2 : 3),
      1024 + size_t(c1) * 256 + size_t(partial),
      1024 + kHashed +
          size_t(scramble((history_ & 0xFFFFFF) * 256 + uint64_t(partial)) & (kHashed - 1))};
  const float place = (found.mixed + kLimit) * (1 / 0.75f);
  const int bin = std::min(int(place), kStageBins - 2);
  const float part = place - float(bin);
  float refined[3];
  for (int i = 0; i < 3; i++) {
    const uint16_t* cell = &stages_[contexts[i] * kStageBins + size_t(bin)];
    refined[i] = (float(cell[0]) * (1 - part) + float(cell[1]) * part) * (1 / 65536.0f);
    found.stages[i] = &stages_[contexts[i] * kStageBins + size_t(bin) + (part > 0.5f ? 1 : 0)];
  }
  const float p = squash(found.mixed) * 0.4f + (refined[0] * 0.15f + refined[1] * 0.2f) +
                  refined[2] * 0.25f;
  const int q = int(p * 65536.0f);
  found.q = q < 1 ? 1 : q > 65535 ? 65535 : q;
}

void ContextMixer::learn_slots(int bit) {
  for (int i = 0; i < kContexts; i++) {
    if (found_.maps[i] >= 0) {
      const size_t map = size_t(found_.maps[i]);
      nudge(maps_[map], bit, tables().rate[map_counts_[map]]);
      if (map_counts_[map] < 250) map_counts_[map]++;
    }
    Slot& slot = const_cast<Slot&>(*found_.slots[i]);
    if (!slot.history) slot = {32768, 1, 0};
    nudge(slot.p, bit, tables().rate[slot.count]);
    if (slot.count < kMostCount) slot.count++;
    const int history = slot.history * 2 + bit;
    slot.history = uint8_t(history < 256 ? history : (history & 127) | 128);
  }
}

void ContextMixer::learn_weights(int bit) {
  const float target = float(bit);
  const float rate = kRate + kEarly / (1 + float(bytes_) * (1 / 256.0f));
  const float wrong = target - squash(found_.mixed);
  for (int i = 0; i < kSets; i++) {
    found_.final_weights[i] += kFinalRate * wrong * found_.dots[i];
    step(found_.weights[i], found_.inputs, rate * (target - found_.chances[i]));
  }
  for (uint16_t* cell : found_.stages) nudge(*cell, bit, 1300);
}

void ContextMixer::learn_here(int bit) {
  const int expected = expected_bit(partial_);
  if (expected >= 0)
    nudge(match_p_[size_t(log_length(match_length_))], expected == bit, 300);
  learn_weights(bit);
  learn_slots(bit);
  partial_ = partial_ * 2 + bit;
}

void ContextMixer::learn(int bit) {
  learn_here(bit);
  if (partial_ >= 256) {
    end_byte(partial_ & 255);
    partial_ = 1;
    begin_byte();
    for (int i = 0; i < kContexts; i++)
      __builtin_prefetch(&table_[buckets_ * size_t(i) + (size_t(key(i, 1) >> 20) & (buckets_ - 1))]);
  }
  if (partial_ == 1 || (partial_ >= 16 && partial_ < 32))
    for (int i = 0; i < kContexts; i++) now_[i] = seat(i, partial_);
  predict(partial_, now_, found_);
}

void ContextMixer::end_byte(int byte) {
  const size_t mask = ring_.size() - 1;
  ring_[bytes_ & mask] = uint8_t(byte);
  bytes_++;
  history_ = (history_ << 8) | uint64_t(byte);
  if (byte == '\n') {
    above_begin_ = line_begin_;
    line_begin_ = bytes_;
  }
  const int small = lower(byte);
  if (letter(small)) {
    word_ = mixed_hash(word_, uint64_t(small));
  } else if (word_) {
    words_[1] = words_[0];
    words_[0] = word_;
    word_ = 0;
  }
  hinted_ = false;
  follow(byte);
}

void ContextMixer::follow(int byte) {
  const size_t mask = ring_.size() - 1;
  if (match_length_ > 0 && expected_ == byte) {
    match_length_ = std::min(match_length_ + 1, 400);
    match_at_++;
  } else {
    match_length_ = 0;
  }
  if (bytes_ < kMinMatch) return;
  uint32_t& place = places_[size_t(scramble(history_ & 0xFFFFFFFFFFFFull)) & (places_.size() - 1)];
  const uint32_t here = uint32_t(bytes_);
  if (match_length_ == 0 && place && here - place < mask) {
    // What agrees before both places; the hash alone proves nothing.
    const uint32_t most = std::min<uint32_t>(400, uint32_t(mask) - (here - place));
    uint32_t length = 0;
    while (length < most && length < place &&
           ring_[(place - 1 - length) & mask] == ring_[(here - 1 - length) & mask])
      length++;
    if (length >= kMinMatch) {
      match_length_ = int(length);
      match_at_ = place;
    }
  }
  place = here;
  expected_ = match_length_ > 0 ? ring_[match_at_ & mask] : -1;
}

void ContextMixer::hint(const double* probabilities) {
  for (int i = 0; i < 256; i++) outside_[256 + i] = float(probabilities[i]);
  for (int i = 255; i >= 1; i--) outside_[i] = outside_[2 * i] + outside_[2 * i + 1];
  hinted_ = true;
  predict(partial_, now_, found_);
}

// What learning a bit in the middle of a byte changes, to be put back.
struct ContextMixer::Before {
  explicit Before(const ContextMixer& mixer) : found(mixer.found_), partial(mixer.partial_) {
    std::copy(mixer.now_, mixer.now_ + kContexts, now);
    for (int i = 0; i < kSets; i++)
      std::memcpy(weights[i], found.weights[i], sizeof weights[i]);
    std::memcpy(final_weights, found.final_weights, sizeof final_weights);
    for (int i = 0; i < 3; i++) stages[i] = *found.stages[i];
    for (int i = 0; i < kContexts; i++) {
      slots[i] = *found.slots[i];
      if (found.maps[i] < 0) continue;
      maps[i] = mixer.maps_[size_t(found.maps[i])];
      counts[i] = mixer.map_counts_[size_t(found.maps[i])];
    }
    match = mixer.match_p_[size_t(log_length(mixer.match_length_))];
  }
  void put_back(ContextMixer& mixer) const {
    mixer.found_ = found;
    mixer.partial_ = partial;
    std::copy(now, now + kContexts, mixer.now_);
    for (int i = 0; i < kSets; i++)
      std::memcpy(found.weights[i], weights[i], sizeof weights[i]);
    std::memcpy(found.final_weights, final_weights, sizeof final_weights);
    for (int i = 0; i < 3; i++) *found.stages[i] = stages[i];
    for (int i = 0; i < kContexts; i++) {
      const_cast<Slot&>(*found.slots[i]) = slots[i];
      if (found.maps[i] < 0) continue;
      mixer.maps_[size_t(found.maps[i])] = maps[i];
      mixer.map_counts_[size_t(found.maps[i])] = counts[i];
    }
    mixer.match_p_[size_t(log_length(mixer.match_length_))] = match;
  }

  Found found;
  int partial;
  Bucket* now[kContexts];
  float weights[kSets][kInputs], final_weights[kSets];
  uint16_t stages[3], maps[kContexts], counts[kContexts], match;
  Slot slots[kContexts];
};

void ContextMixer::explore(double reach, double* out) {
  const double one = found_.q * (1.0 / kOne);
  if (partial_ >= 128) {
    out[2 * partial_ - 256] = reach * (1 - one);
    out[2 * partial_ - 255] = reach * one;
    return;
  }
  const Before before(*this);
  for (int bit = 0; bit < 2; bit++) {
    Bucket fresh[kContexts] = {};  // for contexts that have no seat yet
    learn_here(bit);
    if (partial_ >= 16 && partial_ < 32)
      for (int i = 0; i < kContexts; i++) {
        const Bucket* known = peek(i, partial_);
        now_[i] = known ? const_cast<Bucket*>(known) : &fresh[i];
      }
    predict(partial_, now_, found_);
    explore(reach * (bit ? one : 1 - one), out);
    before.put_back(*this);
  }
}

// Bits of one byte share weights, so a bit's prediction depends on those before it having been
// learned: each way through the byte is learned and taken back.
void ContextMixer::distribution(double* out) const { const_cast<ContextMixer*>(this)->explore(1, out); }

void ContextMixer::write(Writer& writer) const {
  writer.put(int32_t(partial_));
  writer.put(int32_t(match_length_));
  writer.put(int32_t(expected_));
  writer.put(match_at_);
  for (const uint64_t value : {bytes_, history_, word_, words_[0], words_[1], line_begin_,
                               above_begin_, uint64_t(hinted_)})
    writer.put(value);
  writer.bytes(outside_, sizeof outside_);
  writer.all(maps_);
  writer.all(map_counts_);
  writer.all(match_p_);
  writer.all(weights_);
  writer.all(final_);
  writer.all(stages_);
  table_.write(writer);
  ring_.write(writer);
  places_.write(writer);
}

void ContextMixer::read(Reader& reader) {
  ContextMixer found(bits_);
  found.take(reader);
  *this = std::move(found);
}

void ContextMixer::take(Reader& reader) {  // into a new mixer
  partial_ = reader.get<int32_t>();
  match_length_ = reader.get<int32_t>();
  expected_ = reader.get<int32_t>();
  match_at_ = reader.get<uint32_t>();
  uint64_t hinted = 0;
  for (uint64_t* value : {&bytes_, &history_, &word_, &words_[0], &words_[1], &line_begin_,
                          &above_begin_, &hinted})
    *value = reader.get<uint64_t>();
  hinted_ = hinted != 0;
  reader.bytes(outside_, sizeof outside_);
  reader.all(maps_);
  reader.all(map_counts_);
  reader.all(match_p_);
  reader.all(weights_);
  reader.all(final_);
  reader.all(stages_);
  table_ = Table<Bucket>(table_.size());
  table_.read(reader);
  ring_.read(reader);
  places_.read(reader);
  reader.finish();
  bool good = partial_ >= 1 && partial_ < 256 && match_length_ >= 0 && match_length_ <= 400 &&
              expected_ >= -1 && expected_ < 256;
  for (const uint16_t count : map_counts_) good = good && count <= 250;
  for (const float weight : weights_) good = good && std::fabs(weight) <= kHeaviest;
  for (const float weight : final_) good = good && std::fabs(weight) <= kHeaviest;
  if (!good) throw std::invalid_argument("the state of a predictor is damaged.");
  begin_byte();
  settle();
}

}  // namespace slm::induction
