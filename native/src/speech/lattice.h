// Lattices: of pieces, as the decoder makes them, and of words; pruning. The twin of
// solomonic/speech/lattice (build, graph, words, paths, prune).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace slm {

// See lattice/graph.py: node 0 is the start, the last node the end, frames never fall, arcs are
// sorted by source and lead to higher nodes. Scores are nats.
struct Lattice {
  struct Arc {
    int source, target, label;
    float acoustic, bias;
    int first, last;  // span: first frame of the label, and the one after its last
  };
  std::vector<int> frames;
  std::vector<Arc> arcs;
  std::vector<std::string> symbols;  // symbols[0] is ""
  double frame_seconds = 0;
  bool spans = false;

  int nodes() const { return int(frames.size()); }
  bool is_pieces() const;             // whether a symbol begins with the word mark
  std::vector<int> bounds() const;    // (N + 1): the arcs of node n are bounds[n] .. bounds[n + 1]
  std::vector<double> scores() const;  // acoustic + bias of every arc
};

// An arc between nodes of any numbering; label 0 is the empty one.
struct LooseArc {
  int source, target, label;
  double acoustic, bias;
  int first, last;  // span; first < 0: none
};

// Trim to what lies between node 0 and `end`, number by time, sort. `symbols` are the texts of the
// loose arcs' labels; the lattice has those that are used, by first use.
Lattice build_lattice(const std::vector<int>& frames, std::vector<LooseArc> arcs, int end,
                      const std::vector<std::string>& symbols, double frame_seconds);

// The arcs where `keep` says so; nodes keep their order.
Lattice take_arcs(const Lattice& lattice, const std::vector<char>& keep);

// One arc per word between two moments at which words meet; of several ways the best one. What takes
// more than `limit` steps is built within a narrower beam; see words.py.
constexpr int64_t kMostWordSteps = 1 << 15;
Lattice word_lattice(const Lattice& pieces, int64_t limit = kMostWordSteps);

std::vector<double> best_from_start(const Lattice& lattice, const std::vector<double>& scores);
std::vector<double> best_to_end(const Lattice& lattice, const std::vector<double>& scores);
std::vector<int> best_path(const Lattice& lattice);  // arcs; of equal ones the lower

// Nats by which sums of arcs' scores may differ for the order they were taken in.
double rounding(const std::vector<double>& scores);
// How far the best path over each arc lies below the best of all, nats >= 0.
std::vector<double> arc_losses(const Lattice& lattice);
// Arcs whose best path is at most `beam` nats below the best.
Lattice prune(const Lattice& lattice, double beam);
// A beam whose lattice takes at most `limit` bytes by `measure`, and little less.
Lattice prune_to_bytes(const Lattice& lattice, int64_t limit,
                       const std::function<int64_t(const Lattice&)>& measure);

}  // namespace slm
