// From a lattice of pieces to one of words; see solomonic/speech/lattice/words.py.
#include <algorithm>
#include <unordered_map>

#include "lattice.h"
#include "speech/pieces.h"

namespace slm {

namespace {

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
    texts_ = {""};
    known_[""] = 0;
    waiting_.resize(lattice.frames.size());
    futures();
  }

  Lattice words() {
    std::vector<char> begins(lattice_.frames.size(), 0);
    std::vector<LooseArc> arcs;
    begins[0] = 1;
    for (int node = 0; node < last_; node++) {
      if (!begins[size_t(node)]) continue;
      words_from(node);
      for (const Found& f : found_) {
        begins[size_t(f.target)] = 1;
        arcs.push_back(LooseArc{node, f.target, f.text, f.way.acoustic, f.way.bias,
                                f.text ? f.way.first : -1, f.text ? f.way.last : -1});
      }
    }
    return build_lattice(lattice_.frames, std::move(arcs), last_, texts_, lattice_.frame_seconds);
  }

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

  void words_from(int start) {
    found_.clear();
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
      for (const Waiting& w : ways)
        for (int arc = bounds_[size_t(node)]; arc < bounds_[size_t(node) + 1]; arc++) {
          furthest = std::max(furthest, lattice_.arcs[size_t(arc)].target);
          follow(lattice_.arcs[size_t(arc)], w);
        }
      ways.clear();
    }
  }

  void follow(const Lattice::Arc& arc, const Waiting& from) {
    const bool marked = marked_[size_t(arc.label)];
    const std::string& letters = letters_[size_t(arc.label)];
    const size_t target = size_t(arc.target);
    Best way = from.way;
    way.total = way.total + double(arc.acoustic) + double(arc.bias);
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
    for (Waiting& w : waiting_[node]) {
      if (w.mode != mode || w.text != text) continue;
      if (way.total > w.way.total) w.way = way;
      return;
    }
    waiting_[node].push_back({mode, text, way});
  }

  void keep_found(int target, int text, const Best& way) {
    for (Found& f : found_) {
      if (f.target != target || f.text != text) continue;
      if (way.total > f.way.total) f.way = way;
      return;
    }
    found_.push_back({target, text, way});
  }

  const Lattice& lattice_;
  std::vector<int> bounds_;
  std::vector<char> marked_, begin_, close_;  // of symbols; of nodes
  std::vector<std::string> letters_, texts_;
  std::unordered_map<std::string, int> known_;
  std::vector<std::vector<Waiting>> waiting_;
  std::vector<Found> found_;
  bool nodes_span_ = false;
  int last_ = 0;
};

}  // namespace

Lattice word_lattice(const Lattice& pieces) { return Graph(pieces).words(); }

}  // namespace slm
