// Personal words as the search sees them: an automaton over word pieces that pays and takes back.
// The twin of solomonic/speech/biasing; the same scores to the last bit.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace slm {

// Scores the pieces of a hypothesis one after the other; blanks are never passed. All scores are
// multiples of 2^-16 nats, so that sums are exact in any order. Read by one thread at a time
// (`ClassGraph` makes its states as it is walked).
class Bias {
 public:
  virtual ~Bias() = default;
  // The next state and the score to add, nats. The first state is 0.
  virtual std::pair<int64_t, double> step(int64_t state, int token) = 0;
  // The score to add at the end, nats.
  virtual double final(int64_t state) = 0;
  // `step`'s score for every piece, (V); that of the blank is 0.
  virtual void scores(int64_t state, double* row) = 0;
  // Sets open[v] of the pieces (V) that begin or continue a phrase here; leaves the others alone.
  virtual void next(int64_t state, char* open) = 0;
};

// Another's scores, times a factor.
class ScaledBias final : public Bias {
 public:
  ScaledBias(Bias& bias, int width, double factor) : bias_(bias), width_(width), factor_(factor) {}
  std::pair<int64_t, double> step(int64_t state, int token) override {
    const auto found = bias_.step(state, token);
    return {found.first, factor_ * found.second};
  }
  double final(int64_t state) override { return factor_ * bias_.final(state); }
  void scores(int64_t state, double* row) override {
    bias_.scores(state, row);
    for (int v = 0; v < width_; v++) row[v] *= factor_;
  }
  void next(int64_t state, char* open) override { bias_.next(state, open); }

 private:
  Bias& bias_;
  int width_;
  double factor_;
};

typedef std::vector<int> Spelling;

// A prefix tree of spellings in flat arrays; nodes are numbered level by level, the root is 0.
// See biasing/trie.py: `potential` and `worth` are in nats, multiples of 2^-10.
struct PhraseTree {
  int width = 0;                  // pieces, the blank included
  std::vector<int64_t> keys;      // of node i + 1: parent * width + token; ascending
  std::vector<double> potential;  // paid in advance at a node
  std::vector<double> worth;      // of the phrase that ends here, or 0
  std::vector<int> levels;        // where each begins, and the number of nodes
  std::vector<int> branches;      // children of node n are branches[n] .. branches[n + 1]

  PhraseTree(const std::vector<Spelling>& spellings, const std::vector<double>& worths, int width);
  int size() const { return int(potential.size()); }
  int token(int node) const { return int(keys[size_t(node) - 1] % width); }
  int parent(int node) const { return int(keys[size_t(node) - 1] / width); }
  // The child of `node` by `token`, or -1.
  int child(int node, int token) const;
};

// A list of phrases: Aho and Corasick's automaton with subtractive failure costs.
class PhraseGraph final : public Bias {
 public:
  PhraseGraph(const std::vector<Spelling>& spellings, const std::vector<double>& worths,
              std::vector<char> starts);
  std::pair<int64_t, double> step(int64_t state, int token) override;
  double final(int64_t state) override { return close_[size_t(state)]; }
  void scores(int64_t state, double* row) override;
  void next(int64_t state, char* open) override;
  int size() const { return tree_.size(); }
  const PhraseTree& tree() const { return tree_; }
  // The longest part that the pieces of `state` end in and some phrase begins with.
  int fail(int state) const { return fail_[size_t(state)]; }

 private:
  PhraseTree tree_;
  std::vector<char> starts_;
  std::vector<int> fail_;
  std::vector<double> close_;
};

// Carrier sentences as a prefix tree over words and classes; node 0 is where all begin.
struct Carriers {
  typedef std::vector<std::pair<std::string, int>> Edges;  // in order of first use
  std::vector<Edges> words, classes;
  std::vector<std::tuple<int, std::string, double>> factors;  // (node, class): factor

  // Raises BadArgument: a bracket without its pair, no class, a wrong factor, too many sentences.
  static Carriers read(const std::vector<std::string>& lines);
};

// Classes whose entries are paid only behind their carriers; states are made as they are met.
class ClassGraph final : public Bias {
 public:
  typedef std::vector<std::pair<std::string, std::vector<Spelling>>> Words;
  // `trees` by class, sorted by name.
  ClassGraph(const Carriers& carriers, const Words& words,
             std::vector<std::pair<std::string, std::shared_ptr<const PhraseTree>>> trees,
             std::vector<char> starts);
  std::pair<int64_t, double> step(int64_t state, int token) override;
  double final(int64_t state) override;
  void scores(int64_t state, double* row) override;
  void next(int64_t state, char* open) override;
  int size() const { return int(states_.size()); }

 private:
  // A place in a carrier's word (q == kWord), or in the tree of class c that carrier node q opened.
  struct Thread {
    int q, c, n;
    bool operator<(const Thread& o) const {
      return q != o.q ? q < o.q : c != o.c ? c < o.c : n < o.n;
    }
    bool operator==(const Thread& o) const { return q == o.q && c == o.c && n == o.n; }
  };
  struct State {
    int first, count;  // threads
    double paid;
  };
  static constexpr int kWord = -1;
  static constexpr size_t kMostMoves = 100000;

  double close(int64_t state);  // fills nodes_
  void gather(int64_t state);   // after `close`: fills tokens_ with what is open
  int64_t number(std::vector<Thread>& threads);
  int factor_at(int q, int c) const;
  int letter(int node, int token) const;

  std::vector<char> starts_;
  int width_;
  std::vector<std::shared_ptr<const PhraseTree>> trees_;
  std::vector<std::vector<std::pair<int, int>>> open_;  // carrier node: (class, where to return)
  std::vector<std::vector<double>> factor_;             // alongside open_
  std::vector<std::vector<std::pair<int, int>>> letters_;  // word node: (token, word node)
  std::vector<int> ends_;                                  // word node: carrier node, or -1
  std::vector<State> states_;
  std::vector<Thread> threads_;
  std::unordered_multimap<uint64_t, int> known_;
  std::unordered_map<int64_t, std::pair<int64_t, double>> moves_;
  // Scratch.
  std::vector<int> nodes_, tokens_;
  std::vector<Thread> made_;
  struct Worth {
    int c, n;
    double value;
  };
  std::vector<Worth> worths_;
};

// The sum of both; a state is a pair in one number.
class BothGraphs final : public Bias {
 public:
  BothGraphs(std::unique_ptr<PhraseGraph> phrases, std::unique_ptr<ClassGraph> classes, int width)
      : phrases_(std::move(phrases)), classes_(std::move(classes)), row_(size_t(width)) {}
  std::pair<int64_t, double> step(int64_t state, int token) override;
  double final(int64_t state) override;
  void scores(int64_t state, double* row) override;
  void next(int64_t state, char* open) override;

 private:
  std::unique_ptr<PhraseGraph> phrases_;
  std::unique_ptr<ClassGraph> classes_;
  std::vector<double> row_;
};

}  // namespace slm
