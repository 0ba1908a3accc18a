// From a lattice of pieces to one of words; see solomonic/speech/lattice/words.py.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "lattice.h"
#include "runtime/error.h"
#include "speech/pieces.h"

namespace slm {

namespace {

constexpr int kOctaves = 24;  // by which the narrowest beam that is tried lies below the widest

// How far a word has come: no letters yet, and only a marked piece may bring them; or any piece may;
// letters so far; complete, only silence until the end of the lattice.
enum Mode { kOpen, kMarked, kLetters, kClosed };

struct Best {
  double total, acoustic, bias;
  int first, last;
};
struct Waiting {
  Mode mode;
  int text;
  Best way;
};
struct Found {
  int target, text;
  Best way;
};

class Graph {
 public:
  explicit Graph(const Lattice& lattice) : lattice_(lattice), bounds_(lattice.bounds()) {
    const bool pieces = lattice.is_pieces();
    for (const std::string& symbol : lattice.symbols) {
      const bool marked = symbol.compare(0, kWordStart.size(), kWordStart) == 0;
      marked_.push_back(marked || (!pieces && !symbol.empty()));
      letters_.push_back(marked ? symbol.substr(kWordStart.size()) : symbol);
    }
    nodes_span_ = pieces && !lattice.spans;
    last_ = lattice.nodes() - 1;
    const std::vector<double> scores = lattice.scores();
    before_ = best_from_start(lattice, scores);
    after_ = best_to_end(lattice, scores);
    slack_ = rounding(scores);
    futures();
  }

  // All words whose ways lie at most `beam` behind the best path; false: they take more than `limit`
  // steps. `arcs` have the texts of texts().
  bool words(int64_t limit, double beam, std::vector<LooseArc>& arcs) {
    texts_ = {""};
    known_ = {{"", 0}};
    waiting_.assign(lattice_.frames.size(), {});
    steps_ = 0;
    limit_ = limit;
    least_ = after_[0] - beam - slack_;
    std::vector<char> begins(lattice_.frames.size(), 0);
    arcs.clear();
    begins[0] = 1;
    for (int node = 0; node < last_; node++) {
      if (!begins[size_t(node)]) continue;
      if (!words_from(node)) return false;
      for (const Found& f : found_) {
        begins[size_t(f.target)] = 1;
        arcs.push_back(LooseArc{node, f.target, f.text, f.way.acoustic, f.way.bias,
                                f.text ? f.way.first : -1, f.text ? f.way.last : -1});
      }
    }
    return true;
  }
  const std::vector<std::string>& texts() const { return texts_; }

 private:
  // Whether a word may begin at each node, and whether nothing more may be said.
  void futures() {
    const size_t nodes = lattice_.frames.size();
    begin_.assign(nodes, 0);
    close_.assign(nodes, 0);
    std::vector<char> marked(nodes, 0);
    close_[nodes - 1] = 1;
    for (size_t a = lattice_.arcs.size(); a-- > 0;) {
      const Lattice::Arc& arc = lattice_.arcs[a];
      const size_t node = size_t(arc.source), target = size_t(arc.target);
      const bool mark = marked_[size_t(arc.label)], silent = letters_[size_t(arc.label)].empty();
      if (silent)
        begin_[node] |= mark ? marked[target] : begin_[target];
      else
        begin_[node] |= char(mark);
      marked[node] |= marked[target] || !silent;
      close_[node] |= silent && close_[target];
    }
  }

  bool words_from(int start) {
    found_.clear();
    found_at_.clear();
    waiting_at_.clear();
    // What a way must have to lie within the beam, were the rest as good as can be.
    const double least = least_ - before_[size_t(start)];
    // Whatever a lattice begins with is a word, marked or not.
    waiting_[size_t(start)].assign(1, {start ? kOpen : kMarked, 0, Best{0.0, 0.0, 0.0, -1, -1}});
    int furthest = start;
    for (int node = start; node <= furthest; node++) {
      std::vector<Waiting>& ways = waiting_[size_t(node)];
      if (node == last_) {
        for (const Waiting& w : ways)
          if (w.mode == kClosed || (start == 0 && w.mode < kLetters))
            keep_found(last_, w.mode == kClosed ? w.text : 0, w.way);
      }
      for (const Waiting& w : ways) {
        const int64_t price = 1 + int64_t(texts_[size_t(w.text)].size() / 16);
        for (int arc = bounds_[size_t(node)]; arc < bounds_[size_t(node) + 1]; arc++) {
          const Lattice::Arc& next = lattice_.arcs[size_t(arc)];
          if ((steps_ += price) > limit_) return false;
          const double total = w.way.total + double(next.acoustic) + double(next.bias);
          if (!(total + after_[size_t(next.target)] >= least)) continue;
          furthest = std::max(furthest, next.target);
          follow(next, w, total);
        }
      }
      ways.clear();
    }
    return true;
  }

  // Takes one arc where the mode allows it; `total` has its scores already.
  void follow(const Lattice::Arc& arc, const Waiting& from, double total) {
    const bool marked = marked_[size_t(arc.label)];
    const std::string& letters = letters_[size_t(arc.label)];
    const size_t target = size_t(arc.target);
    Best way = from.way;
    way.total = total;
    way.acoustic += double(arc.acoustic);
    way.bias += double(arc.bias);
    if (!letters.empty()) {
      const int end = lattice_.frames[target];
      if (way.first < 0) way.first = nodes_span_ ? end : arc.first;
      way.last = nodes_span_ ? end + 1 : arc.last;
    }
    if (from.mode == kClosed) {
      if (letters.empty() && close_[target]) keep(target, kClosed, from.text, way);
    } else if (letters.empty() && !(marked && from.mode == kLetters)) {
      if (marked)
        keep(target, kMarked, 0, way);
      else
        keep(target, from.mode, from.text, way);
    } else if (!letters.empty() &&
               (from.mode == kOpen ? marked : from.mode == kMarked || !marked)) {
      const int text = join(from.text, arc.label);
      keep(target, kLetters, text, way);
      if (begin_[target]) keep_found(arc.target, text, way);
      if (close_[target]) keep(target, kClosed, text, way);
    }
  }

  // Number of the text `text` with the letters of `label` behind it.
  int join(int text, int label) {
    const std::string joined = texts_[size_t(text)] + letters_[size_t(label)];
    const auto made = known_.emplace(joined, int(texts_.size()));
    if (made.second) texts_.push_back(joined);
    return made.first->second;
  }

  void keep(size_t node, Mode mode, int text, const Best& way) {
    std::vector<Waiting>& ways = waiting_[node];
    const auto at = waiting_at_.emplace(key(node, mode, text), ways.size());
    if (at.second)
      ways.push_back({mode, text, way});
    else if (way.total > ways[at.first->second].way.total)
      ways[at.first->second].way = way;
  }

  void keep_found(int target, int text, const Best& way) {
    const auto at = found_at_.emplace(key(size_t(target), kOpen, text), found_.size());
    if (at.second)
      found_.push_back({target, text, way});
    else if (way.total > found_[at.first->second].way.total)
      found_[at.first->second].way = way;
  }

  // Nodes and texts are ints.
  static uint64_t key(size_t node, Mode mode, int text) {
    return (uint64_t(node) << 33 | uint64_t(text) << 2) ^ uint64_t(mode);
  }

  const Lattice& lattice_;
  std::vector<int> bounds_;
  std::vector<char> marked_, begin_, close_;  // of symbols; of nodes
  std::vector<std::string> letters_, texts_;
  std::unordered_map<std::string, int> known_;
  std::vector<std::vector<Waiting>> waiting_;
  std::vector<Found> found_;
  std::unordered_map<uint64_t, size_t> waiting_at_, found_at_;  // places in these, by key
  std::vector<double> before_, after_;  // best way from the start to each node, and to the end
  double slack_ = 0, least_ = 0;
  int64_t steps_ = 0, limit_ = 0;
  bool nodes_span_ = false;
  int last_ = 0;
};

}  // namespace

Lattice word_lattice(const Lattice& pieces, int64_t limit) {
  require(limit >= 1, "limit of word_lattice must be at least 1 step.");
  const auto build = [&](const Lattice& from, const Graph& graph, std::vector<LooseArc> arcs) {
    return build_lattice(from.frames, std::move(arcs), from.nodes() - 1, graph.texts(),
                         from.frame_seconds);
  };
  Graph graph(pieces);
  std::vector<LooseArc> arcs;
  if (graph.words(limit, INFINITY, arcs)) return build(pieces, graph, std::move(arcs));
  const std::vector<double> losses = arc_losses(pieces);
  const double widest = *std::max_element(losses.begin(), losses.end());
  const auto beam = [&](int i) {
    return std::ldexp(widest * (4 + i % 4) / 4, i / 4 - kOctaves);
  };
  int low = -1, high = 4 * kOctaves + 1;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (graph.words(limit, beam(middle), arcs) ? low : high) = middle;
  }
  if (low >= 0) {
    graph.words(limit, beam(low), arcs);
    return build(pieces, graph, std::move(arcs));
  }
  // So many are exactly as good as the best that none can be chosen.
  std::vector<char> keep(pieces.arcs.size(), 0);
  for (const int arc : best_path(pieces)) keep[size_t(arc)] = 1;
  const Lattice best = take_arcs(pieces, keep);
  Graph alone(best);
  alone.words(INT64_MAX, INFINITY, arcs);
  return build(best, alone, std::move(arcs));
}

}  // namespace slm
