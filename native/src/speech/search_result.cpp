// What a search has found: N-best list, posteriors, lattice. See solomonic/speech/decode/graph.py.
#include <algorithm>
#include <cmath>
#include <queue>

#include "search.h"

namespace slm {

namespace {

constexpr int kMostPaths = 256;  // looked at for an N-best list of different texts
constexpr int kNear = 3;         // frames by which two emissions of one event may differ

struct Ending {
  int node;
  double acoustic, bias, score;
};

// The end of a path, from a node on: a linked list of what comes after.
struct Tail {
  int node, rest;
  double acoustic, bias;
};

struct Path {
  std::vector<int> emissions;
  double acoustic, bias, score;
};

// What led to the hypotheses, without what lies more than the lattice's beam behind.
class Past {
 public:
  Past(Record& record, std::vector<Ending> endings, double beam, int end_frame)
      : record_(record), end_frame_(end_frame) {
    std::stable_sort(endings.begin(), endings.end(),
                     [](const Ending& a, const Ending& b) { return a.score > b.score; });
    std::vector<int> ends;
    std::vector<double> scores;
    for (const Ending& end : endings) {
      ends.push_back(end.node);
      scores.push_back(end.acoustic + end.bias);
    }
    record.through(ends.data(), scores.data(), int(ends.size()));
    for (size_t i = 0; i < endings.size(); i++) {
      const double behind = record.best() - record.before(ends[i]) - scores[i];
      if (!i || behind <= beam) endings_.push_back(endings[i]);
    }
    for (const int node : record.ordered(ends.data(), int(ends.size()))) {
      uint64_t mask = 0;
      for (int i = 1; i < record.ways(node); i++)
        if (record.kept(node, i, beam)) mask |= uint64_t(1) << (i - 1);
      record.masks()[size_t(node)] = mask;
    }
    ends.clear();
    for (const Ending& end : endings_) ends.push_back(end.node);
    nodes_ = record.ordered(ends.data(), int(ends.size()), true);
    number_.assign(size_t(record.node_capacity()), -1);
    for (size_t i = 0; i < nodes_.size(); i++) number_[size_t(nodes_[i])] = int(i);
  }

  // Calls use(path) with paths by falling score until it returns false.
  template <class Use>
  void paths(const Use& use) const {
    struct Item {
      double score;  // times -1
      int count, node, tail;
    };
    const auto later = [](const Item& a, const Item& b) {
      return a.score != b.score ? a.score > b.score : a.count > b.count;
    };
    std::priority_queue<Item, std::vector<Item>, decltype(later)> heap(later);
    std::vector<Tail> tails;
    int count = 0;
    for (const Ending& end : endings_) {
      tails.push_back(Tail{-1, -1, end.acoustic, end.bias});
      heap.push(Item{-end.score, count++, end.node, int(tails.size()) - 1});
    }
    while (!heap.empty()) {
      const Item top = heap.top();
      heap.pop();
      int node = top.node, tail = top.tail;
      const auto before = [&](const Way& way) {
        const Tail t = tails[size_t(tail)];
        tails.push_back(Tail{node, tail, t.acoustic + way.acoustic, t.bias + way.bias});
        return int(tails.size()) - 1;
      };
      while (record_[node].source >= 0) {
        each_other(node, [&](const Way& way) {
          heap.push(Item{top.score - way.gap, count++, way.source, before(way)});
        });
        const Way stayed = record_.way(node, 0);
        tail = before(stayed);
        node = stayed.source;
      }
      Path path{{}, tails[size_t(tail)].acoustic, tails[size_t(tail)].bias, -top.score};
      for (int at = tail; at >= 0; at = tails[size_t(at)].rest) {
        const int emission = tails[size_t(at)].node;
        if (emission >= 0 && record_[emission].token) path.emissions.push_back(emission);
      }
      if (!use(path)) return;
    }
  }

  // The lattice of pieces; its only end is at the present frame.
  Lattice lattice(const WordPieces& pieces, double frame_seconds) const {
    const int end = int(nodes_.size());
    std::vector<LooseArc> arcs;
    for (const Ending& e : endings_)
      arcs.push_back(LooseArc{number(e.node), end, 0, e.acoustic, e.bias, -1, -1});
    std::vector<int> frames;
    for (size_t i = 0; i < nodes_.size(); i++) {
      const Node& node = record_[nodes_[i]];
      frames.push_back(node.frame);
      const int first = node.token ? node.frame : -1;
      each_way(nodes_[i], [&](const Way& way) {
        arcs.push_back(LooseArc{number(way.source), int(i), node.token, way.acoustic, way.bias,
                                first, first + 1});
      });
    }
    frames.push_back(end_frame_);
    std::vector<std::string> symbols = pieces.texts();
    symbols[0].clear();
    return build_lattice(frames, std::move(arcs), end, symbols, frame_seconds);
  }

  // The probability of each node, from acoustic scores times `scale` alone.
  void posteriors(double scale) {
    std::vector<double> forward(nodes_.size(), -INFINITY), backward(nodes_.size(), -INFINITY);
    forward[0] = 0.0;
    for (size_t i = 1; i < nodes_.size(); i++)
      each_way(nodes_[i], [&](const Way& way) {
        const double score = forward[size_t(number(way.source))] + scale * way.acoustic;
        forward[i] = log_add(forward[i], score);
      });
    for (const Ending& end : endings_) {
      double& here = backward[size_t(number(end.node))];
      here = log_add(here, scale * end.acoustic);
    }
    for (size_t i = nodes_.size(); i-- > 0;)
      each_way(nodes_[i], [&](const Way& way) {
        double& there = backward[size_t(number(way.source))];
        there = log_add(there, backward[i] + scale * way.acoustic);
      });
    gamma_.assign(nodes_.size(), 0.0);
    of_token_.clear();
    for (size_t i = 0; i < nodes_.size(); i++) {
      const int token = record_[nodes_[i]].token;
      if (!token) continue;
      gamma_[i] = std::exp(std::min(0.0, forward[i] + backward[i] - backward[0]));
      if (of_token_.size() <= size_t(token)) of_token_.resize(size_t(token) + 1);
      of_token_[size_t(token)].push_back(int(i));
    }
  }

  // Logarithm of the probability that `token` was said at about `frame`.
  double log_posterior(int token, int frame) const {
    double sum = 0.0;
    for (const int i : of_token_[size_t(token)])
      if (std::abs(record_[nodes_[size_t(i)]].frame - frame) <= kNear) sum += gamma_[size_t(i)];
    return std::log(std::max(1e-30, std::min(1.0, sum)));
  }

 private:
  int number(int node) const { return number_[size_t(node)]; }
  template <class Use>
  void each_other(int node, const Use& use) const {
    const uint64_t mask = record_.masks()[size_t(node)];
    for (int i = 1; mask >> (i - 1) && i <= 64; i++) {
      if (mask >> (i - 1) & 1) use(record_.way(node, i));
      if (i == 64) break;
    }
  }
  template <class Use>
  void each_way(int node, const Use& use) const {
    if (record_[node].source < 0) return;
    use(record_.way(node, 0));
    each_other(node, use);
  }

  Record& record_;
  int end_frame_;
  std::vector<Ending> endings_;
  std::vector<int> nodes_, number_;
  std::vector<double> gamma_;
  std::vector<std::vector<int>> of_token_;
};

}  // namespace

DecodeResult Search::finish() {
  std::vector<Ending> endings;
  for (Hyp& hyp : hyps_) {
    const int node = link(hyp);
    const double paid = final(hyp.prefix);
    endings.push_back(Ending{node, hyp.mass - record_[node].score, paid, total(hyp) + paid});
  }
  Past past(record_, std::move(endings), config_.lattice_beam, frame_);
  DecodeResult made;
  made.end_frame = frame_;
  made.forgotten_before = forgotten_before_;
  made.narrowed = narrowed_;
  made.has_lattice = config_.lattice;
  const bool sure = config_.lattice && !config_.greedy;  // greedy has no alternatives
  if (sure) past.posteriors(config_.confidence_scale);
  if (config_.lattice) made.lattice = past.lattice(decoder_.pieces, decoder_.frame_seconds);
  int count = 0;
  past.paths([&](const Path& path) {
    Hypothesis found;
    for (const int node : path.emissions) found.tokens.push_back(record_[node].token);
    decoder_.pieces.spell(found.tokens.data(), found.tokens.size(), found.text);
    const bool known = std::any_of(made.nbest.begin(), made.nbest.end(), [&](const Hypothesis& h) {
      return h.text == found.text;
    });
    if (!known) {
      std::vector<double> surely;
      for (const int emission : path.emissions) {
        const Node& node = record_[emission];
        found.frames.push_back(node.frame);
        found.log_probs.push_back(node.log_prob);
        surely.push_back(sure ? past.log_posterior(node.token, node.frame) : node.surely);
      }
      decoder_.pieces.words(found.tokens.data(), found.frames.data(), surely.data(),
                            surely.size(), decoder_.frame_seconds, found.text, found.words);
      found.acoustic = path.acoustic;
      found.bias = path.bias;
      found.log_prob = path.score - path.bias;
      made.nbest.push_back(std::move(found));
    }
    return int(made.nbest.size()) < config_.nbest && count++ < kMostPaths;
  });
  return made;
}

}  // namespace slm
