#include "pointer.h"

#include <algorithm>
#include <cmath>

#include "device/file.h"
#include "kernels/table.h"
#include "runtime/error.h"

namespace slm {

namespace {

std::vector<float> transposed(const std::vector<float>& from, int outputs, int inputs) {
  std::vector<float> to(from.size());
  for (int o = 0; o < outputs; o++)
    for (int i = 0; i < inputs; i++)
      to[size_t(i) * size_t(outputs) + size_t(o)] = from[size_t(o) * size_t(inputs) + size_t(i)];
  return to;
}

// c (m, n) = or += a (m, k) b (k, n); rows of a lie lda apart.
void times(const float* a, int64_t lda, int m, int k, const float* b, int64_t ldb, int n, float* c,
           bool add) {
  SmallProduct p{};
  p.m = m, p.n = n, p.k = k;
  p.a = a, p.a_row = lda, p.a_column = 1;
  p.b = b, p.ldb = ldb;
  p.c = c, p.ldc = n;
  p.add = add;
  kernels().product_small(p);
}

// An LSTM's step of e units: gates (4 e) of input, forget, new and output as torch has them, which
// are used up. Sigmoids all of them: tanh(x) = 2 sigmoid(2 x) - 1.
void step_cell(float* gates, const float* before, size_t e, float* memory, float* hidden) {
  const auto sigmoids = [](float* x, size_t count) {
    kernels().exp_n(x, int(count), x);
    for (size_t k = 0; k < count; k++) x[k] = 1.0f / (1.0f + x[k]);
  };
  for (size_t k = 0; k < 4 * e; k++) gates[k] *= k / e == 2 ? -2.0f : -1.0f;
  sigmoids(gates, 4 * e);
  const float *in = gates, *forget = in + e, *fresh = forget + e, *out = fresh + e;
  for (size_t k = 0; k < e; k++) {
    memory[k] = forget[k] * before[k] + in[k] * (2.0f * fresh[k] - 1.0f);
    hidden[k] = -2.0f * memory[k];
  }
  sigmoids(hidden, e);
  for (size_t k = 0; k < e; k++) hidden[k] = out[k] * (2.0f * hidden[k] - 1.0f);
}

// log(1 + e^x)
float softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); }

std::vector<double> ones(size_t count) { return std::vector<double>(count, 1.0); }

}  // namespace

std::unique_ptr<const PointerWeights> PointerWeights::read(const PackFile& file, int vocab,
                                                           int joint) {
  if (!file.has("pointer.size")) return nullptr;
  auto made = std::make_unique<PointerWeights>();
  PointerWeights& w = *made;
  w.vocab = file.integer("pointer.vocab_size", 1, 1 << 20);
  w.joint = file.integer("pointer.joint_size", 1, 1 << 16);
  w.embedding = file.integer("pointer.embedding_size", 1, 1 << 12);
  w.size = file.integer("pointer.size", 1, 1 << 12);
  w.eps = float(file.real("pointer.norm_eps"));
  w.search_scale = file.real("pointer.search_scale");
  require(w.search_scale >= 0 && w.search_scale <= 1,
          file.name() + ": pointer.search_scale must lie between 0 and 1.");
  require(w.vocab == vocab && w.joint == joint,
          file.name() + " has an attention to phrases of other sizes than its model; make it "
                        "again.");
  const auto take = [&](const char* name, int64_t count) {
    return file.values(std::string("transducer.pointer.") + name, count);
  };
  const auto matrix = [&](const char* name, int outputs, int inputs) {
    return transposed(take(name, int64_t(outputs) * inputs), outputs, inputs);
  };
  const int e = w.embedding;
  w.pieces = take("pieces.weight", int64_t(vocab) * e);
  w.input = matrix("cell.weight_ih", 4 * e, e);
  w.recurrent = matrix("cell.weight_hh", 4 * e, e);
  w.bias = take("cell.bias_ih", 4 * e);
  const std::vector<float> more = take("cell.bias_hh", 4 * e);
  for (size_t i = 0; i < more.size(); i++) w.bias[i] += more[i];
  w.key = matrix("key.weight", w.size, 2 * e);
  for (float& value : w.key) value /= std::sqrt(float(w.size));
  w.acoustic_norm = take("acoustic_norm.weight", joint);
  w.label_norm = take("label_norm.weight", joint);
  w.acoustic_query = matrix("acoustic_query.weight", w.size, joint);
  w.label_query = matrix("label_query.weight", w.size, joint);
  w.depth = take("depth", 4);
  w.share = take("share", 1)[0];
  return made;
}

size_t PointerWeights::bytes() const {
  size_t numbers = 0;
  for (const auto* part : {&pieces, &input, &recurrent, &bias, &key, &acoustic_norm, &label_norm,
                           &acoustic_query, &label_query, &depth})
    numbers += part->size();
  return numbers * sizeof(float);
}

Listed::Listed(const PointerWeights& weights, const std::vector<Spelling>& phrases)
    : weights_(weights),
      graph_(phrases, ones(phrases.size()), std::vector<char>(size_t(weights.vocab), 0)),
      frame_(size_t(weights.size)),
      normal_(size_t(weights.joint)),
      query_(size_t(weights.size)),
      scores_(size_t(weights.vocab)) {
  const PhraseTree& tree = graph_.tree();
  const size_t nodes = size_t(tree.size());
  std::vector<double> counts(nodes);  // phrases that reach a node
  for (size_t n = 0; n < nodes; n++) counts[n] = tree.worth[n] > 0;
  for (size_t n = nodes - 1; n > 0; n--) counts[size_t(tree.parent(int(n)))] += counts[n];
  for (size_t level = 1; level + 1 < tree.levels.size(); level++) {
    const float depth = weights.depth[std::min(level, weights.depth.size()) - 1];
    for (int n = tree.levels[level]; n < tree.levels[level + 1]; n++) {
      const double share = counts[size_t(n)] / counts[size_t(tree.parent(n))];
      constants_.push_back(depth + weights.share * float(std::log(share)));
    }
  }
  read_keys();
}

// The LSTM down the tree, a level at a time.
void Listed::read_keys() {
  const PointerWeights& w = weights_;
  const PhraseTree& tree = graph_.tree();
  const size_t e = size_t(w.embedding), size = size_t(w.size), nodes = size_t(tree.size());
  const int wide = 4 * w.embedding;
  std::vector<float> hidden(nodes * e, 0.0f), memory(nodes * e, 0.0f);
  std::vector<float> gates, above, read, found;  // of a level; read: states, pieces
  keys_.resize(size * (nodes - 1));
  for (size_t level = 1; level + 1 < tree.levels.size(); level++) {
    const size_t first = size_t(tree.levels[level]), count = size_t(tree.levels[level + 1]) - first;
    gates.resize(count * 4 * e);
    above.resize(count * e);
    read.resize(count * 2 * e);
    found.resize(count * size);
    for (size_t i = 0; i < count; i++) {
      const size_t parent = size_t(tree.parent(int(first + i)));
      std::copy_n(w.bias.data(), 4 * e, gates.data() + i * 4 * e);
      std::copy_n(hidden.data() + parent * e, e, above.data() + i * e);
      std::copy_n(w.pieces.data() + size_t(tree.token(int(first + i))) * e, e,
                  read.data() + (2 * i + 1) * e);
    }
    times(read.data() + e, int64_t(2 * e), int(count), int(e), w.input.data(), wide, wide,
          gates.data(), true);
    times(above.data(), int64_t(e), int(count), int(e), w.recurrent.data(), wide, wide,
          gates.data(), true);
    for (size_t i = 0; i < count; i++) {
      const size_t parent = size_t(tree.parent(int(first + i)));
      const size_t node = first + i;
      step_cell(gates.data() + i * 4 * e, memory.data() + parent * e, e, memory.data() + node * e,
                hidden.data() + node * e);
      std::copy_n(hidden.data() + node * e, e, read.data() + 2 * i * e);
    }
    times(read.data(), int64_t(2 * e), int(count), int(2 * e), w.key.data(), w.size, w.size,
          found.data(), false);
    for (size_t i = 0; i < count; i++)
      for (size_t k = 0; k < size; k++)
        keys_[k * (nodes - 1) + first - 1 + i] = found[i * size + k];
  }
}

void Listed::ask(const float* vector, const std::vector<float>& norm,
                 const std::vector<float>& weight, std::vector<float>& query, bool more) {
  const int joint = weights_.joint, size = weights_.size;
  kernels().rms_norm(vector, nullptr, norm.data(), weights_.eps, joint, normal_.data());
  times(normal_.data(), joint, 1, joint, weight.data(), size, size, query.data(), more);
}

void Listed::hear(const float* acoustic) {
  ask(acoustic, weights_.acoustic_norm, weights_.acoustic_query, frame_, false);
}

void Listed::add(const float* label, int64_t state, const char* allowed, float* log_probs) {
  const PhraseTree& tree = graph_.tree();
  const int nodes = tree.size() - 1, vocab = weights_.vocab;
  query_ = frame_;
  ask(label, weights_.label_norm, weights_.label_query, query_, true);
  bool heard = false;
  for (int at = int(state);; at = graph_.fail(at)) {  // the children of all that the labels end in
    const int first = tree.branches[size_t(at)], count = tree.branches[size_t(at) + 1] - first;
    if (count > 0) {
      times(query_.data(), weights_.size, 1, weights_.size, keys_.data() + first - 1, nodes, count,
            scores_.data(), false);
      for (int i = 0; i < count; i++) {
        const int token = tree.token(first + i);
        if (allowed && !allowed[token]) continue;
        log_probs[token] += softplus(scores_[size_t(i)] + constants_[size_t(first - 1 + i)]);
        heard = true;
      }
    }
    if (!at) break;
  }
  if (!heard) return;
  const float total = kernels().train->log_sum(log_probs, vocab);
  for (int v = 0; v < vocab; v++) log_probs[v] -= total;
}

size_t Listed::bytes() const {
  return (keys_.size() + constants_.size() + frame_.size() + normal_.size() + query_.size() +
          scores_.size()) *
         sizeof(float);
}

}  // namespace slm
