// Exact and universal predictors: numbers known by hand or from the literature, round trips of the
// coder, and states that are cut short or changed.
//
// That the core gives what the definitions give is tested from Python (tests/induction); here it
// runs under the sanitizers, on buffers of exactly the size it may touch.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.h"
#include "induction/bracket.h"
#include "induction/coder.h"
#include "induction/ctw.h"
#include "induction/machine.h"
#include "induction/mixer.h"
#include "induction/turing.h"

namespace {

using namespace slm::induction;

constexpr char kText[] =
    "the cat sat on the mat;\nthe dog sat on the log;\nthe cat sat on the mat;\nthe cat sat on the";
constexpr size_t kTextSize = sizeof kText - 1;

bool close(double a, double b, double tolerance = 1e-12) { return std::fabs(a - b) <= tolerance; }

int chance(const ContextMixer& mixer) { return mixer.bit(); }
int chance(const ByteTree& tree) { return quantise(tree.bit()); }

template <class P>
void learn_text(P& predictor, size_t bytes = kTextSize) {
  for (size_t i = 0; i < bytes; i++)
    for (int k = 7; k >= 0; k--) predictor.learn((kText[i] >> k) & 1);
}

template <class P>
std::string state_of(const P& predictor) {
  Writer writer;
  predictor.write(writer);
  return writer.out;
}

// Reads a copy of exactly `size` bytes; the message of a refusal, or nothing.
template <class P>
std::string refusal(P& predictor, const std::string& state, size_t size) {
  const std::unique_ptr<char[]> exact(new char[size ? size : 1]);
  std::memcpy(exact.get(), state.data(), size);
  Reader reader(exact.get(), size);
  try {
    predictor.read(reader);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}
template <class P>
std::string refusal(P& predictor, const std::string& state) {
  return refusal(predictor, state, state.size());
}

template <class T>
void put(std::string& state, size_t at, const T& value) {
  std::memcpy(&state[at], &value, sizeof value);
}

// Predictions of a byte sum to one, and asking for them changes nothing.
template <class P>
void check_bytes(P& predictor) {
  const std::unique_ptr<double[]> out(new double[256]);
  const int before = chance(predictor);
  predictor.distribution(out.get());
  double sum = 0, ones = 0;
  for (int i = 0; i < 256; i++) {
    CHECK(out[i] >= 0);
    sum += out[i];
    if (i >= 128) ones += out[i];
  }
  CHECK(close(sum, 1, 1e-9));
  CHECK(std::fabs(ones * kOne - before) <= 1);
  CHECK_EQUAL(chance(predictor), before);
}

template <class P>
void check_coding(P& writer, P& reader) {
  Encoder encoder;
  for (size_t i = 0; i < kTextSize; i++)
    for (int k = 7; k >= 0; k--) {
      const int bit = (kText[i] >> k) & 1;
      encoder.encode(bit, chance(writer));
      writer.learn(bit);
    }
  const std::string coded = encoder.finish();
  CHECK(coded.size() < kTextSize * 3 / 4);
  Decoder decoder(coded.data(), coded.size());
  std::string out;
  for (size_t i = 0; i < kTextSize; i++) {
    int byte = 0;
    for (int k = 0; k < 8; k++) {
      const int bit = decoder.decode(chance(reader));
      reader.learn(bit);
      byte = byte * 2 + bit;
    }
    out += char(byte);
  }
  CHECK_EQUAL(out, std::string(kText));
}

// A state moves on like what it was taken from, wherever in a byte that is.
template <class P>
void check_state(P& predictor, P& other) {
  learn_text(predictor);
  for (const int bit : {0, 1, 1}) predictor.learn(bit);
  CHECK_EQUAL(refusal(other, state_of(predictor)), "");
  for (int i = 0; i < 40; i++) {
    CHECK_EQUAL(chance(other), chance(predictor));
    predictor.learn(i % 3 == 0);
    other.learn(i % 3 == 0);
  }
  CHECK(state_of(other) == state_of(predictor));
}

int most_ones(const Census& census) {
  int most = 0;
  for (const auto& [text, count] : census.outputs) {
    int ones = 0;
    for (const char one : text) ones += one == '1';
    if (count > 0 && ones > most) most = ones;
  }
  return most;
}

}  // namespace

TEST(induction_coder) {
  SplitMix random{7};
  std::vector<int> bits, chances;
  double entropy = 0;
  for (int i = 0; i < 5000; i++) {
    const int q = i % 7 == 0 ? 1 : i % 7 == 1 ? kOne - 1 : int(random.below(kOne - 1)) + 1;
    const int bit = int(random.below(kOne)) < q;
    chances.push_back(q);
    bits.push_back(bit);
    entropy -= std::log2((bit ? q : kOne - q) / double(kOne));
  }
  Encoder encoder;
  CHECK_EQUAL(encoder.finish(), "");
  for (size_t i = 0; i < bits.size(); i++) encoder.encode(bits[i], chances[i]);
  const std::string coded = encoder.finish();
  CHECK(double(coded.size()) * 8 < entropy * 1.001 + 16);
  for (size_t size = 0; size <= coded.size(); size++) {  // zeros are read behind the end
    const std::vector<char> exact(coded.begin(), coded.begin() + long(size));
    Decoder decoder(exact.data(), size);
    size_t right = 0;
    for (size_t i = 0; i < bits.size(); i++) right += decoder.decode(chances[i]) == bits[i];
    if (size == coded.size()) CHECK_EQUAL(right, bits.size());
  }
  CHECK_EQUAL(quantise(0), 1);
  CHECK_EQUAL(quantise(1), kOne - 1);
}

TEST(induction_estimators) {
  // Krichevsky and Trofimov: 1/2, 3/4, 5/6 after ones alone, 1/2 after as many zeros.
  double out[2];
  ContextTree kt(2, 0, 0.5);
  const double known[] = {1.0 / 2, 3.0 / 4, 5.0 / 6};
  for (const double one : known) {
    kt.predict(out);
    CHECK(close(out[1], one) && close(out[0], 1 - one));
    kt.learn(1);
  }
  for (int i = 0; i < 3; i++) kt.learn(0);
  kt.predict(out);
  CHECK(close(out[0], 0.5));
  // Depth 1: after a one, ((3/8) / 2 + (1/4) / 2) / (1/2) = 5/8 for another.
  ContextTree tree(2, 1, 0.5);
  tree.learn(1);
  tree.predict(out);
  CHECK(close(out[1], 0.625));
  // Of bytes with alpha 1/16: (1 + 1/16) / (1 + 1/8) after one byte of ones.
  ByteTree bytes(0, 8);
  CHECK(close(bytes.bit(), 0.5));
  for (int k = 0; k < 8; k++) bytes.learn(1);
  CHECK(close(bytes.bit(), 17.0 / 18));
  ContextTree wide(256, 3, 0.5);
  std::vector<double> all(256);
  for (int i = 0; i < 600; i++) wide.learn(i * i % 256);
  wide.predict(all.data());
  double sum = 0;
  for (const double one : all) sum += one;
  CHECK(close(sum, 1));
}

TEST(induction_bytes) {
  for (const int bits : {8, 14}) {  // with 2^8 nodes they push each other out
    ByteTree one(ByteTree::kDeepest, bits), two(ByteTree::kDeepest, bits);
    check_coding(one, two);
    check_bytes(one);
    ByteTree begun(4, bits), loaded(4, bits);
    check_state(begun, loaded);
  }
}

TEST(induction_mixer) {
  ContextMixer one(10), two(10), three(10), four(10);
  check_coding(one, four);
  for (int round = 0; round < 30; round++) learn_text(one);  // the ring of the match goes round
  check_bytes(one);
  const std::unique_ptr<ContextMixer> copy = one.copy();
  learn_text(one, 20);
  learn_text(*copy, 20);
  CHECK_EQUAL(one.bit(), copy->bit());
  check_state(two, three);
  const std::unique_ptr<ContextMixer> middle = two.copy();  // within a byte
  for (int i = 0; i < 20; i++) {
    CHECK_EQUAL(two.bit(), middle->bit());
    two.learn(i % 2);
    middle->learn(i % 2);
  }
}

TEST(induction_mixer_hint) {
  ContextMixer mixer(10);
  std::vector<double> opinion(256, 1.0 / 256);
  CHECK_EQUAL(mixer.bit(), kOne / 2 - 1);  // nothing is known; probabilities are rounded down
  mixer.hint(opinion.data());
  CHECK(std::abs(mixer.bit() - kOne / 2) < 8);  // no opinion at all
  opinion.assign(256, 0);
  opinion['Q'] = 1;
  mixer.hint(opinion.data());
  std::vector<double> out(256);
  mixer.distribution(out.data());
  CHECK(out['Q'] > 0.8);
  for (int k = 7; k >= 0; k--) {
    const int bit = ('Q' >> k) & 1;
    CHECK(bit ? mixer.bit() > 0.95 * kOne : mixer.bit() < 0.05 * kOne);
    mixer.learn(bit);
  }
  const int alone = mixer.bit();  // the opinion ended with the byte: to say it again matters
  mixer.hint(opinion.data());
  CHECK(std::abs(mixer.bit() - alone) > kOne / 100);
  for (int k = 7; k >= 0; k--) mixer.learn(('A' >> k) & 1);
  for (const double odd : {-1.0, 1e300, -1e300, double(NAN), double(INFINITY), -double(INFINITY)}) {
    NOTE(check::show(odd));
    for (int i = 0; i < 256; i++) opinion[size_t(i)] = i % 5 ? odd : 0.25;
    mixer.hint(opinion.data());
    for (int k = 7; k >= 0; k--) {
      CHECK(mixer.bit() >= 1 && mixer.bit() < kOne);
      mixer.learn(('o' >> k) & 1);
    }
  }
}

TEST(induction_tree_states) {
  ContextTree tree(3, 4, 0.25);
  for (int i = 0; i < 9; i++) tree.learn(i % 3);
  const std::string state = state_of(tree);
  const ContextTree before = tree;
  double expected[3], found[3];
  before.predict(expected);
  for (size_t size = 0; size < state.size(); size++) {
    CHECK(!refusal(tree, state, size).empty());
    tree.predict(found);
    CHECK(!std::memcmp(found, expected, sizeof found));  // what is refused changes nothing
  }
  CHECK_EQUAL(refusal(tree, state + '\0'), "the state of a predictor has bytes too many.");
  for (size_t at = 0; at < state.size(); at++)
    for (const int change : {0x01, 0x80, 0xFF}) {
      std::string changed = state;
      changed[at] = char(changed[at] ^ change);
      ContextTree other(3, 4, 0.25);
      refusal(other, changed);
      for (int i = 0; i < 6; i++) other.learn(i % 3);
      other.predict(found);
      CHECK(std::isfinite(found[0] + found[1] + found[2]));
    }
  ContextTree narrow(2, 4, 0.25), shallow(3, 3, 0.25);
  CHECK(!refusal(narrow, state).empty());
  CHECK_EQUAL(refusal(shallow, state), "the state is of a predictor with other settings.");
}

TEST(induction_byte_tree_states) {
  ByteTree tree(2, 8);
  learn_text(tree, 12);
  const std::string state = state_of(tree);
  const int before = chance(tree);
  for (size_t size = 0; size < state.size(); size++) {
    CHECK(!refusal(tree, state, size).empty());
    CHECK_EQUAL(chance(tree), before);
  }
  for (size_t at = 0; at < state.size(); at++) {
    std::string changed = state;
    changed[at] = char(changed[at] ^ (at % 2 ? 0xFF : 0x40));
    ByteTree other(2, 8);
    refusal(other, changed);
    for (int i = 0; i < 20; i++) other.learn(i % 2);
    CHECK(std::isfinite(other.bit()));
  }
  constexpr size_t kPage = 4 + 16 + 8;  // where the first page says where it belongs
  const std::string damaged = "the state of a predictor is damaged.";
  for (const uint64_t place : {uint64_t(256 * 16 - 1), uint64_t(256 * 16), uint64_t(8),
                               ~uint64_t(0) - 1}) {
    std::string changed = state;
    put(changed, kPage, place);
    CHECK_EQUAL(refusal(tree, changed), damaged);
  }
  std::string changed = state;
  put(changed, 0, int32_t(256));
  CHECK_EQUAL(refusal(tree, changed), damaged);
  ByteTree large(2, 9);
  CHECK_EQUAL(refusal(large, state), "the state is of a predictor with other settings.");
}

TEST(induction_mixer_states) {
  ContextMixer mixer(10);
  learn_text(mixer);
  const std::string state = state_of(mixer);
  const int before = mixer.bit();
  SplitMix random{3};
  for (int i = 0; i < 24; i++) {  // half of the cuts in the head, where the numbers are
    const uint32_t size = random.below(i % 2 ? uint32_t(state.size()) : 3000);
    CHECK(!refusal(mixer, state, size).empty());
    CHECK_EQUAL(mixer.bit(), before);
  }
  for (int i = 0; i < 16; i++) {
    std::string changed = state;
    for (int many = 0; many < 200; many++)
      changed[random.below(uint32_t(state.size()))] = char(random.next());
    for (int many = 0; many < (i % 2 ? 8 : 0); many++)  // in the head, too
      changed[random.below(2100)] = char(random.next());
    ContextMixer other(10);
    refusal(other, changed);
    learn_text(other, 8);
    CHECK(other.bit() >= 1 && other.bit() < kOne);
  }
  constexpr size_t kLists = 4 * 4 + 8 * 8 + 512 * 4;
  constexpr size_t kMaps = ContextMixer::kContexts * 512;
  constexpr size_t kWeights = kLists + 3 * 8 + 2 * (2 * kMaps + 32) + 8;
  for (const float weight : {std::numeric_limits<float>::max(), float(NAN), -float(INFINITY)})
    for (const float sign : {1.0f, -1.0f}) {
      std::string changed = state;
      for (size_t i = 0; i < 1000; i++)
        put(changed, kWeights + 4 * i, i % 2 ? sign * weight : -sign * weight);
      CHECK_EQUAL(refusal(mixer, changed), "the state of a predictor is damaged.");
    }
  CHECK_EQUAL(mixer.bit(), before);
}

TEST(induction_machines) {
  SplitMix random{1};
  for (const int cells : {1, 2, 10}) {
    Machine machine(2, cells);
    const std::unique_ptr<uint8_t[]> out(new uint8_t[5]);
    for (int i = 0; i < 2000; i++) {
      const Ran ran = machine.run(random, out.get(), 5, 100);
      CHECK(ran.printed <= 5 && ran.steps <= 100 && ran.instructions <= ran.steps);
      CHECK_EQUAL(machine.program().size(), size_t(ran.instructions));
      for (int t = 0; t < ran.printed; t++) CHECK(out[size_t(t)] < 2);
    }
  }
  CHECK_EQUAL(count_matches(2, 10, 100, {}, 9, 1)[0], 9);
}

TEST(induction_bracket) {
  // One instruction: '.' prints 0 at once, a seventh of all programs; nothing prints 1.
  Bracket zero(2, 10, {0}), one(2, 10, {1});
  CHECK_EQUAL(zero.work(1), 1);
  CHECK_EQUAL(one.work(1), 1);
  CHECK(close(zero.low()[1], 1.0 / 7) && close(zero.pending()[1], 6.0 / 7));
  CHECK(close(one.low()[1], 0) && close(one.pending()[1], 6.0 / 7));
  const std::vector<uint8_t> target{0, 1, 0, 1};
  Bracket bracket(2, 10, target);
  bracket.work(20000);
  const std::vector<double> low = bracket.low(), pending = bracket.pending();
  const std::vector<int64_t> counts = count_matches(2, 10, 2000, target, 40000, 5);
  for (size_t t = 0; t <= target.size(); t++) {
    const double share = double(counts[t]) / 40000;
    const double error = 4 * std::sqrt(share * (1 - share) / 40000);
    CHECK(low[t] <= share + error && share - error <= low[t] + pending[t]);
    if (t) CHECK(low[t] <= low[t - 1]);
  }
  CHECK_EQUAL(Bracket(2, 10, {}).work(9), 0);
  const std::pair<int, int> edges[] = {{2, 1}, {2, 64}, {256, 8}, {256, 1}, {3, 32}};
  for (const auto& [alphabet, cells] : edges) {
    NOTE(check::show(alphabet) + " symbols, " + check::show(cells) + " cells");
    Bracket edge(alphabet, cells, {0, uint8_t(alphabet - 1)});
    edge.work(3000);
    CHECK(edge.low()[1] > 1.0 / 7 && edge.low()[1] + edge.pending()[1] <= 1 + 1e-12);
  }
}

TEST(induction_turing) {
  // Machines that halt, from the literature; the busy beavers of 2 and 3 states take 6 and 21 steps
  // and leave 4 and 6 ones. A limit one step lower loses some.
  struct {
    int states, limit, ones;
    uint64_t halting;
  } const known[] = {{1, 1, 1, 12}, {2, 6, 4, 3044}, {3, 21, 6, 2147184}};
  for (const auto& each : known) {
    NOTE(check::show(each.states) + " states");
    const Census census = enumerate(each.states, each.limit);
    CHECK_EQUAL(census.halting, each.halting);
    CHECK_EQUAL(most_ones(census), each.ones);
    uint64_t sum = 0;
    for (const auto& [text, count] : census.outputs) sum += count;
    CHECK_EQUAL(sum, census.halting);
    if (each.limit > 1) CHECK(enumerate(each.states, each.limit - 1).halting < each.halting);
  }
}
