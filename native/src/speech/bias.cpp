#include "bias.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace slm {

namespace {

double quantised(double score) { return std::nearbyint(score / 0x1p-10) * 0x1p-10; }

}  // namespace

PhraseTree::PhraseTree(const std::vector<Spelling>& spellings, const std::vector<double>& worths,
                       int width)
    : width(width), potential{0.0}, worth{0.0}, levels{0, 1} {
  struct Row {
    int64_t key;
    int spelling;
  };
  std::vector<int> node(spellings.size(), 0);
  std::vector<Row> rows;
  for (size_t depth = 1;; depth++) {
    rows.clear();
    for (size_t i = 0; i < spellings.size(); i++)
      if (spellings[i].size() >= depth)
        rows.push_back(Row{int64_t(node[i]) * width + spellings[i][depth - 1], int(i)});
    if (rows.empty()) break;
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.key < b.key; });
    for (size_t r = 0; r < rows.size(); r++) {
      if (!r || rows[r].key != rows[r - 1].key) {
        keys.push_back(rows[r].key);
        potential.push_back(0.0);
        worth.push_back(0.0);
      }
      const size_t i = size_t(rows[r].spelling);
      const double total = quantised(worths[i]);
      const double part = quantised(total * double(depth) / double(spellings[i].size()));
      potential.back() = std::max(potential.back(), part);
      if (spellings[i].size() == depth) worth.back() = std::max(worth.back(), total);
      node[i] = int(potential.size()) - 1;
    }
    levels.push_back(int(potential.size()));
  }
  branches.resize(potential.size() + 1);
  size_t at = 0;
  for (size_t n = 0; n < branches.size(); n++) {
    while (at < keys.size() && keys[at] < int64_t(n) * width) at++;
    branches[n] = int(at) + 1;
  }
}

int PhraseTree::child(int node, int token) const {
  const int64_t key = int64_t(node) * width + token;
  const auto begin = keys.begin() + branches[size_t(node)] - 1;
  const auto end = keys.begin() + branches[size_t(node) + 1] - 1;
  const auto found = std::lower_bound(begin, end, key);
  return found != end && *found == key ? int(found - keys.begin()) + 1 : -1;
}

// PhraseGraph ----------------------------------------------------------------------------------

PhraseGraph::PhraseGraph(const std::vector<Spelling>& spellings, const std::vector<double>& worths,
                         std::vector<char> starts)
    : tree_(spellings, worths, int(starts.size())),
      starts_(std::move(starts)),
      fail_(size_t(tree_.size()), 0) {
  std::vector<double> keep = tree_.worth;  // the worth of all phrases that end in a node
  for (int node = tree_.levels.size() > 2 ? tree_.levels[2] : tree_.size(); node < tree_.size();
       node++) {
    const int parent = tree_.parent(node), token = tree_.token(node);
    int at = fail_[size_t(parent)], found = tree_.child(at, token);
    while (found < 0 && at) {
      at = fail_[size_t(at)];
      found = tree_.child(at, token);
    }
    fail_[size_t(node)] = std::max(found, 0);
    keep[size_t(node)] += keep[size_t(fail_[size_t(node)])];
  }
  for (int node = 0; node < tree_.size(); node++)
    close_.push_back(keep[size_t(node)] - tree_.potential[size_t(node)]);
}

std::pair<int64_t, double> PhraseGraph::step(int64_t state, int token) {
  int at = int(state);
  const double gain = starts_[size_t(token)] ? close_[size_t(at)] : -tree_.potential[size_t(at)];
  int node = tree_.child(at, token);
  while (node < 0 && at) {
    at = fail_[size_t(at)];
    node = tree_.child(at, token);
  }
  if (node < 0) return {0, gain};
  return {node, tree_.potential[size_t(node)] + gain};
}

void PhraseGraph::scores(int64_t state, double* row) {
  const double close = close_[size_t(state)], leave = -tree_.potential[size_t(state)];
  for (int v = 0; v < tree_.width; v++) row[v] = starts_[size_t(v)] ? close : leave;
  // The root first: what a deeper node says of a piece replaces it.
  int chain[4096], count = 0;
  for (int at = int(state); count < 4095; at = fail_[size_t(at)]) {
    chain[count++] = at;
    if (!at) break;
  }
  while (count--) {
    const size_t node = size_t(chain[count]);
    for (int below = tree_.branches[node]; below < tree_.branches[node + 1]; below++) {
      const int token = int(tree_.keys[size_t(below) - 1] - int64_t(node) * tree_.width);
      row[token] =
          tree_.potential[size_t(below)] + (starts_[size_t(token)] ? close : leave);
    }
  }
  row[0] = 0.0;
}

void PhraseGraph::next(int64_t state, char* open) {
  for (int at = int(state);; at = fail_[size_t(at)]) {
    for (int n = tree_.branches[size_t(at)]; n < tree_.branches[size_t(at) + 1]; n++)
      open[tree_.token(n)] = 1;
    if (!at) break;
  }
}

// ClassGraph -----------------------------------------------------------------------------------

ClassGraph::ClassGraph(
    const Carriers& carriers, const Words& words,
    std::vector<std::pair<std::string, std::shared_ptr<const PhraseTree>>> trees,
    std::vector<char> starts)
    : starts_(std::move(starts)), width_(int(starts_.size())) {
  for (const auto& tree : trees) trees_.push_back(tree.second);
  const size_t nodes = carriers.words.size();
  open_.resize(nodes);
  factor_.resize(nodes);
  letters_.resize(nodes);
  ends_.assign(nodes, -1);
  for (size_t q = 0; q < nodes; q++) {
    for (const auto& edge : carriers.classes[q]) {
      for (size_t c = 0; c < trees.size(); c++) {
        if (trees[c].first != edge.first) continue;
        open_[q].push_back({int(c), edge.second});
        double factor = 0.0;
        for (const auto& known : carriers.factors)
          if (std::get<0>(known) == int(q) && std::get<1>(known) == edge.first)
            factor = std::get<2>(known);
        factor_[q].push_back(factor);
      }
    }
  }
  for (size_t q = 0; q < nodes; q++) {
    for (const auto& edge : carriers.words[q]) {
      const auto known = std::find_if(words.begin(), words.end(), [&](const auto& word) {
        return word.first == edge.first;
      });
      if (known == words.end()) continue;
      for (const Spelling& way : known->second) {
        int node = int(q);
        for (const int token : way) {
          int next = letter(node, token);
          if (next < 0) {
            next = int(letters_.size());
            letters_[size_t(node)].push_back({token, next});
            letters_.emplace_back();
            ends_.push_back(-1);
          }
          node = next;
        }
        ends_[size_t(node)] = edge.second;
      }
    }
  }
  states_.reserve(4096);
  threads_.reserve(16384);
  states_.push_back(State{0, 0, 0.0});
}

int ClassGraph::letter(int node, int token) const {
  for (const auto& edge : letters_[size_t(node)])
    if (edge.first == token) return edge.second;
  return -1;
}

// Index into open_[q] of class c.
int ClassGraph::factor_at(int q, int c) const {
  for (size_t i = 0; i < open_[size_t(q)].size(); i++)
    if (open_[size_t(q)][i].first == c) return int(i);
  return 0;
}

// If a word ends here: the carrier nodes reached (nodes_), and what the entries that end are worth.
// One place in a class's tree is one entry in one place of the utterance: it is paid once.
double ClassGraph::close(int64_t state) {
  nodes_.assign(1, 0);
  worths_.clear();
  const State at = states_[size_t(state)];
  const auto reach = [&](int node) {
    if (std::find(nodes_.begin(), nodes_.end(), node) == nodes_.end()) nodes_.push_back(node);
  };
  for (int i = at.first; i < at.first + at.count; i++) {
    const Thread t = threads_[size_t(i)];
    if (t.q == kWord) {
      if (ends_[size_t(t.n)] >= 0) reach(ends_[size_t(t.n)]);
    } else if (const double worth = trees_[size_t(t.c)]->worth[size_t(t.n)]; worth != 0.0) {
      const size_t open = size_t(factor_at(t.q, t.c));
      reach(open_[size_t(t.q)][open].second);
      const double value = worth * factor_[size_t(t.q)][open];
      const auto known = std::find_if(worths_.begin(), worths_.end(), [&](const Worth& w) {
        return w.c == t.c && w.n == t.n;
      });
      if (known == worths_.end())
        worths_.push_back(Worth{t.c, t.n, std::max(value, 0.0)});
      else
        known->value = std::max(known->value, value);
    }
  }
  double sum = 0.0;
  for (const Worth& worth : worths_) sum += worth.value;
  return sum;
}

// The state that `threads` are; a new one is paid the most of what its entries have.
int64_t ClassGraph::number(std::vector<Thread>& threads) {
  std::sort(threads.begin(), threads.end());
  threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
  if (threads.empty()) return 0;
  uint64_t hash = 0;
  for (const Thread& t : threads)
    for (const int part : {t.q, t.c, t.n})
      hash = (hash ^ uint64_t(uint32_t(part))) * 0x9E3779B97F4A7C15ull ^ (hash >> 29);
  const auto range = known_.equal_range(hash);
  for (auto found = range.first; found != range.second; ++found) {
    const State& state = states_[size_t(found->second)];
    if (state.count == int(threads.size()) &&
        std::equal(threads.begin(), threads.end(), threads_.begin() + state.first))
      return found->second;
  }
  double paid = 0.0;
  bool first = true;
  for (const Thread& t : threads) {
    if (t.q < 0) continue;
    const double part = trees_[size_t(t.c)]->potential[size_t(t.n)] *
                        factor_[size_t(t.q)][size_t(factor_at(t.q, t.c))];
    paid = first ? part : std::max(paid, part);
    first = false;
  }
  const int made = int(states_.size());
  states_.push_back(State{int(threads_.size()), int(threads.size()), paid});
  threads_.insert(threads_.end(), threads.begin(), threads.end());
  known_.emplace(hash, made);
  return made;
}

std::pair<int64_t, double> ClassGraph::step(int64_t state, int token) {
  const int64_t key = state * width_ + token;
  const auto known = moves_.find(key);
  if (known != moves_.end()) return known->second;
  double kept = 0.0;
  made_.clear();
  if (starts_[size_t(token)]) {
    kept = close(state);
    for (const int q : nodes_) {
      const int word = letter(q, token);
      if (word >= 0) made_.push_back(Thread{kWord, 0, word});
      for (const auto& open : open_[size_t(q)]) {
        const int node = trees_[size_t(open.first)]->child(0, token);
        if (node >= 0) made_.push_back(Thread{q, open.first, node});
      }
    }
  }
  const State at = states_[size_t(state)];
  for (int i = at.first; i < at.first + at.count; i++) {
    const Thread t = threads_[size_t(i)];
    const int node = t.q == kWord ? letter(t.n, token) : trees_[size_t(t.c)]->child(t.n, token);
    if (node >= 0) made_.push_back(Thread{t.q, t.c, node});
  }
  const int64_t next = number(made_);
  const std::pair<int64_t, double> move{next, states_[size_t(next)].paid - at.paid + kept};
  if (moves_.size() >= kMostMoves) moves_.clear();
  moves_.emplace(key, move);
  return move;
}

double ClassGraph::final(int64_t state) { return close(state) - states_[size_t(state)].paid; }

// The pieces that begin or continue an entry that is open here.
void ClassGraph::gather(int64_t state) {
  tokens_.clear();
  const auto below = [&](int c, int node) {
    const PhraseTree& tree = *trees_[size_t(c)];
    for (int n = tree.branches[size_t(node)]; n < tree.branches[size_t(node) + 1]; n++)
      tokens_.push_back(tree.token(n));
  };
  for (const int q : nodes_)
    for (const auto& open : open_[size_t(q)]) below(open.first, 0);
  const State at = states_[size_t(state)];
  for (int i = at.first; i < at.first + at.count; i++)
    if (threads_[size_t(i)].q != kWord) below(threads_[size_t(i)].c, threads_[size_t(i)].n);
}

void ClassGraph::scores(int64_t state, double* row) {
  const double leave = -states_[size_t(state)].paid, ends = close(state);
  for (int v = 0; v < width_; v++) row[v] = starts_[size_t(v)] ? leave + ends : leave;
  gather(state);
  for (const int token : tokens_) row[token] = step(state, token).second;
  row[0] = 0.0;
}

void ClassGraph::next(int64_t state, char* open) {
  close(state);
  gather(state);
  for (const int token : tokens_) open[token] = 1;
}

// BothGraphs -----------------------------------------------------------------------------------

std::pair<int64_t, double> BothGraphs::step(int64_t state, int token) {
  const int64_t states = phrases_->size();
  const auto one = phrases_->step(state % states, token);
  const auto two = classes_->step(state / states, token);
  return {two.first * states + one.first, one.second + two.second};
}

double BothGraphs::final(int64_t state) {
  const int64_t states = phrases_->size();
  return phrases_->final(state % states) + classes_->final(state / states);
}

void BothGraphs::scores(int64_t state, double* row) {
  const int64_t states = phrases_->size();
  phrases_->scores(state % states, row);
  classes_->scores(state / states, row_.data());
  for (size_t v = 0; v < row_.size(); v++) row[v] += row_[v];
}

void BothGraphs::next(int64_t state, char* open) {
  const int64_t states = phrases_->size();
  phrases_->next(state % states, open);
  classes_->next(state / states, open);
}

}  // namespace slm
