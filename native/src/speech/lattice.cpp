#include "lattice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/error.h"
#include "speech/pieces.h"
#include "speech/sums.h"

namespace slm {

bool Lattice::is_pieces() const {
  for (const std::string& symbol : symbols)
    if (symbol.compare(0, kWordStart.size(), kWordStart) == 0) return true;
  return false;
}

std::vector<int> Lattice::bounds() const {
  std::vector<int> found(frames.size() + 1, 0);
  for (const Arc& arc : arcs) found[size_t(arc.source) + 1]++;
  for (size_t n = 0; n < frames.size(); n++) found[n + 1] += found[n];
  return found;
}

std::vector<double> Lattice::scores() const {
  std::vector<double> found;
  found.reserve(arcs.size());
  for (const Arc& arc : arcs) found.push_back(double(arc.acoustic) + double(arc.bias));
  return found;
}

namespace {

// Nodes that can be reached from `origin`, over arcs by `from` and `to`.
std::vector<char> reach(const std::vector<LooseArc>& arcs, int origin, size_t nodes,
                        int LooseArc::*from, int LooseArc::*to) {
  std::vector<int> first(nodes + 1, 0), next(arcs.size());
  for (const LooseArc& arc : arcs) first[size_t(arc.*from) + 1]++;
  for (size_t n = 0; n < nodes; n++) first[n + 1] += first[n];
  std::vector<int> at(first.begin(), first.end() - 1);
  for (size_t a = 0; a < arcs.size(); a++) next[size_t(at[size_t(arcs[a].*from)]++)] = arcs[a].*to;
  std::vector<char> seen(nodes, 0);
  std::vector<int> todo{origin};
  seen[size_t(origin)] = 1;
  while (!todo.empty()) {
    const size_t node = size_t(todo.back());
    todo.pop_back();
    for (int i = first[node]; i < first[node + 1]; i++) {
      const int other = next[size_t(i)];
      if (seen[size_t(other)]) continue;
      seen[size_t(other)] = 1;
      todo.push_back(other);
    }
  }
  return seen;
}

}  // namespace

Lattice build_lattice(const std::vector<int>& frames, std::vector<LooseArc> arcs, int end,
                      const std::vector<std::string>& symbols, double frame_seconds) {
  const size_t nodes = frames.size();
  const std::vector<char> after = reach(arcs, 0, nodes, &LooseArc::source, &LooseArc::target);
  const std::vector<char> before = reach(arcs, end, nodes, &LooseArc::target, &LooseArc::source);
  arcs.erase(std::remove_if(arcs.begin(), arcs.end(),
                            [&](const LooseArc& arc) {
                              return !(after[size_t(arc.source)] && before[size_t(arc.source)] &&
                                       after[size_t(arc.target)] && before[size_t(arc.target)]);
                            }),
             arcs.end());
  require(!arcs.empty() && after[size_t(end)],
          "no path leads from the start (node 0) to an end of the lattice.");
  // The number of arcs on the longest way to each node, in a topological order.
  std::vector<int> level(nodes, -1), waiting(nodes, 0), first(nodes + 1, 0), leaving(arcs.size());
  for (const LooseArc& arc : arcs) {
    waiting[size_t(arc.target)]++;
    first[size_t(arc.source) + 1]++;
  }
  for (size_t n = 0; n < nodes; n++) first[n + 1] += first[n];
  std::vector<int> at(first.begin(), first.end() - 1);
  for (size_t a = 0; a < arcs.size(); a++)
    leaving[size_t(at[size_t(arcs[a].source)]++)] = arcs[a].target;
  std::vector<int> ready{0}, order;
  level[0] = 0;
  while (!ready.empty()) {
    const int node = ready.back();
    ready.pop_back();
    order.push_back(node);
    for (int i = first[size_t(node)]; i < first[size_t(node) + 1]; i++) {
      const size_t target = size_t(leaving[size_t(i)]);
      level[target] = std::max(level[target], level[size_t(node)] + 1);
      if (!--waiting[target]) ready.push_back(int(target));
    }
  }
  for (const LooseArc& arc : arcs)
    require(frames[size_t(arc.target)] >= frames[size_t(arc.source)],
            "an arc of a lattice leads back in time.");
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    const size_t i = size_t(a), j = size_t(b);
    return frames[i] != frames[j]  ? frames[i] < frames[j]
           : level[i] != level[j] ? level[i] < level[j]
                                  : a < b;
  });
  std::vector<int> number(nodes, -1);
  for (size_t i = 0; i < order.size(); i++) number[size_t(order[i])] = int(i);
  for (const LooseArc& arc : arcs)
    require(number[size_t(arc.source)] >= 0 && number[size_t(arc.target)] >= 0,
            "a lattice has no cycles, and this graph has one.");
  std::stable_sort(arcs.begin(), arcs.end(), [&](const LooseArc& a, const LooseArc& b) {
    const int i = number[size_t(a.source)], j = number[size_t(b.source)];
    return i != j ? i < j : number[size_t(a.target)] < number[size_t(b.target)];
  });
  Lattice made;
  made.frame_seconds = frame_seconds;
  for (const int node : order) made.frames.push_back(frames[size_t(node)]);
  made.symbols = {""};
  std::vector<int> label(symbols.size(), -1);
  label[0] = 0;
  for (const LooseArc& arc : arcs) {
    int& known = label[size_t(arc.label)];
    if (known < 0) {
      known = int(made.symbols.size());
      made.symbols.push_back(symbols[size_t(arc.label)]);
    }
    const bool span = arc.first >= 0;
    made.spans |= span;
    made.arcs.push_back(Lattice::Arc{
        number[size_t(arc.source)], number[size_t(arc.target)], known, float(arc.acoustic),
        float(arc.bias), span ? arc.first : frames[size_t(arc.source)],
        span ? arc.last : frames[size_t(arc.target)]});
  }
  return made;
}

Lattice take_arcs(const Lattice& lattice, const std::vector<char>& keep) {
  std::vector<int> node(lattice.frames.size(), -1), label(lattice.symbols.size(), -1);
  label[0] = 0;
  for (size_t a = 0; a < lattice.arcs.size(); a++) {
    if (!keep[a]) continue;
    node[size_t(lattice.arcs[a].source)] = node[size_t(lattice.arcs[a].target)] = 0;
    label[size_t(lattice.arcs[a].label)] = 0;
  }
  Lattice made;
  made.frame_seconds = lattice.frame_seconds;
  made.spans = lattice.spans;
  for (size_t n = 0; n < node.size(); n++) {
    if (node[n] < 0) continue;
    node[n] = made.nodes();
    made.frames.push_back(lattice.frames[n]);
  }
  for (size_t s = 0; s < label.size(); s++) {
    if (label[s] < 0) continue;
    label[s] = int(made.symbols.size());
    made.symbols.push_back(lattice.symbols[s]);
  }
  for (size_t a = 0; a < lattice.arcs.size(); a++) {
    if (!keep[a]) continue;
    Lattice::Arc arc = lattice.arcs[a];
    arc.source = node[size_t(arc.source)];
    arc.target = node[size_t(arc.target)];
    arc.label = label[size_t(arc.label)];
    made.arcs.push_back(arc);
  }
  return made;
}

std::vector<double> best_from_start(const Lattice& lattice, const std::vector<double>& scores) {
  std::vector<double> best(lattice.frames.size(), -INFINITY);
  best[0] = 0.0;
  for (size_t a = 0; a < lattice.arcs.size(); a++) {
    double& there = best[size_t(lattice.arcs[a].target)];
    there = std::max(there, best[size_t(lattice.arcs[a].source)] + scores[a]);
  }
  return best;
}

std::vector<double> best_to_end(const Lattice& lattice, const std::vector<double>& scores) {
  std::vector<double> best(lattice.frames.size(), -INFINITY);
  best.back() = 0.0;
  for (size_t a = lattice.arcs.size(); a-- > 0;) {
    double& here = best[size_t(lattice.arcs[a].source)];
    here = std::max(here, best[size_t(lattice.arcs[a].target)] + scores[a]);
  }
  return best;
}

std::vector<int> best_path(const Lattice& lattice) {
  const std::vector<double> scores = lattice.scores(), rest = best_to_end(lattice, scores);
  const std::vector<int> bounds = lattice.bounds();
  std::vector<int> path;
  for (int node = 0; node < lattice.nodes() - 1;) {
    const auto total = [&](int arc) {
      return scores[size_t(arc)] + rest[size_t(lattice.arcs[size_t(arc)].target)];
    };
    int best = bounds[size_t(node)];
    for (int arc = best + 1; arc < bounds[size_t(node) + 1]; arc++)
      if (total(arc) > total(best)) best = arc;
    path.push_back(best);
    node = lattice.arcs[size_t(best)].target;
  }
  return path;
}

namespace {

constexpr double kRounding = 1e-9, kEnough = 0.96;

// Arcs within the beam, less those that rounding has left without a path.
std::vector<char> whole(const Lattice& lattice, const std::vector<double>& losses, double beam) {
  const size_t arcs = lattice.arcs.size();
  std::vector<char> keep(arcs), reached(lattice.frames.size(), 0), leads(lattice.frames.size(), 0);
  reached[0] = leads.back() = 1;
  for (size_t a = 0; a < arcs; a++) {
    keep[a] = losses[a] <= beam + kRounding;
    if (keep[a]) reached[size_t(lattice.arcs[a].target)] |= reached[size_t(lattice.arcs[a].source)];
  }
  for (size_t a = arcs; a-- > 0;)
    if (keep[a]) leads[size_t(lattice.arcs[a].source)] |= leads[size_t(lattice.arcs[a].target)];
  for (size_t a = 0; a < arcs; a++)
    keep[a] = keep[a] && reached[size_t(lattice.arcs[a].source)] &&
              leads[size_t(lattice.arcs[a].target)];
  return keep;
}

}  // namespace

double rounding(const std::vector<double>& scores) {
  std::vector<double> size;
  size.reserve(scores.size());
  for (const double score : scores) size.push_back(std::fabs(score));
  return kRounding * std::max(1.0, pairwise_sum(size.data(), int(size.size())));
}

std::vector<double> arc_losses(const Lattice& lattice) {
  const std::vector<double> scores = lattice.scores(), backward = best_to_end(lattice, scores);
  const std::vector<double> forward = best_from_start(lattice, scores);
  const double least = rounding(scores);
  std::vector<double> losses(scores.size());
  for (size_t a = 0; a < scores.size(); a++) {
    const Lattice::Arc& arc = lattice.arcs[a];
    const double through = forward[size_t(arc.source)] + scores[a] + backward[size_t(arc.target)];
    losses[a] = backward[0] - through;
    if (losses[a] < least) losses[a] = 0.0;
  }
  return losses;
}

Lattice prune(const Lattice& lattice, double beam) {
  require(beam >= 0.0, "beam of prune must be at least 0 nats.");
  return take_arcs(lattice, whole(lattice, arc_losses(lattice), beam));
}

Lattice prune_to_bytes(const Lattice& lattice, int64_t limit,
                       const std::function<int64_t(const Lattice&)>& measure) {
  const int64_t all = measure(lattice);
  if (all <= limit) return lattice;
  const std::vector<double> losses = arc_losses(lattice);
  std::vector<double> sorted(losses), beams;
  std::sort(sorted.begin(), sorted.end());
  std::unique_copy(sorted.begin(), sorted.end(), std::back_inserter(beams));
  Lattice narrow = take_arcs(lattice, whole(lattice, losses, 0.0));
  const int64_t least = measure(narrow);
  require(least <= limit, "the best path alone takes " + std::to_string(least) +
                              " bytes, more than the limit of " + std::to_string(limit) +
                              "; raise the limit or cut the audio into shorter utterances.");
  std::vector<int64_t> counts;
  for (const double beam : beams)
    counts.push_back(std::upper_bound(sorted.begin(), sorted.end(), beam) - sorted.begin());
  // Bytes grow about as arcs do, so that a look or two is enough; see prune.py.
  int64_t low = 0, high = int64_t(beams.size()) - 1, small = least, large = all;
  int tries = 0;
  while (high - low > 1 && double(small) < kEnough * double(limit)) {
    const double share = (double(limit) * (1 + kEnough) / 2 - double(small)) /
                         double(std::max<int64_t>(1, large - small));
    const double wanted =
        double(counts[size_t(low)]) + share * double(counts[size_t(high)] - counts[size_t(low)]);
    tries++;
    int64_t guess = (low + high) / 2;
    if (tries % 3)
      guess = std::lower_bound(counts.begin(), counts.end(), wanted,
                               [](int64_t count, double value) { return double(count) < value; }) -
              counts.begin();
    guess = std::min(std::max(guess, low + 1), high - 1);
    Lattice wider = take_arcs(lattice, whole(lattice, losses, beams[size_t(guess)]));
    const int64_t size = measure(wider);
    if (size <= limit) {
      low = guess;
      small = size;
      narrow = std::move(wider);
    } else {
      high = guess;
      large = size;
    }
  }
  return narrow;
}

}  // namespace slm
