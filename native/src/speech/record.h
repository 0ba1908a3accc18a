// The recorder: how each hypothesis came about, and what path merging left aside. The twin of
// solomonic/speech/decode/record.py and graph.py, in memory of fixed size.
#pragma once

#include <vector>

#include "pool.h"

namespace slm {

// log(exp(first) + exp(second)).
double log_add(double first, double second);

// A way into a node: the model's score along it, what biasing paid, and how far the path was behind
// by the beam's scores when it was merged (0 for the path that stayed); nats.
struct Way {
  int source;
  double acoustic, bias, gap;
};

// A moment of the search: an emission, or (token 0) a joint node, or the start, which has no way.
struct Node {
  int frame, token;
  int refs;
  int others;   // block of the ways in but the first, or -1
  int source;   // of the first way in, or -1
  int unused;
  double acoustic, bias;  // of the first way
  double score;           // acoustic score from the start, along the path that stayed
  double log_prob;        // of the label
  double surely;          // the same, given that it is no blank
};

// A path that was merged: its last node, the key of its labels, and how far it is behind:
// without bias, and with it (at most 0).
struct Alternative {
  uint64_t key;
  int node;
  double behind, gap;
};

// Nodes and ways with counted references; a node that nothing reaches is freed at once.
class Record {
 public:
  // `most`: alternatives in one place.
  Record(int nodes, int blocks, int lists, int most);

  Node& operator[](int node) { return nodes_[node]; }
  const Node& operator[](int node) const { return nodes_[node]; }
  int ways(int node) const {
    const Node& n = nodes_[node];
    return (n.source >= 0) + (n.others >= 0 ? blocks_.at(n.others)->count : 0);
  }
  Way way(int node, int index) const {
    const Node& n = nodes_[node];
    if (!index) return Way{n.source, n.acoustic, n.bias, 0.0};
    return reinterpret_cast<const Way*>(blocks_.at(n.others) + 1)[index - 1];
  }

  // A node with one reference, the caller's; it holds one to its source.
  int node(int frame, int token, double score, const Way* first);
  // Add ways to a new node.
  void add_others(int node, const Way* ways, int count);
  void hold(int node) { nodes_[node].refs++; }
  void release(int node);
  // Keep of the ways but the first those that `keep[i]` says.
  void keep_others(int node, const char* keep);

  // Lists of alternatives, shared between hypotheses and not changed: a new one with one reference,
  // whose entries' nodes are held by it.
  struct List {
    int refs, count;
  };
  int list(const Alternative* entries, int count);
  int count(int list) const { return lists_.at(list)->count; }
  const Alternative* entries(int list) const {
    return reinterpret_cast<const Alternative*>(lists_.at(list) + 1);
  }
  void hold_list(int list) { lists_.at(list)->refs++; }
  void release_list(int list);

  int nodes_left() const { return nodes_.left(); }
  int blocks_left() const { return blocks_.left(); }
  int nodes_taken() const { return nodes_.taken(); }
  int node_capacity() const { return nodes_.capacity(); }
  int block_capacity() const { return blocks_.capacity(); }
  int most() const { return most_; }
  size_t bytes() const;

  // All nodes behind `ends`, each after those it comes from, the start first; valid until the next
  // call. `filter`: of the ways into each node only those that count.
  const std::vector<int>& ordered(const int* ends, int count, bool filtered = false);
  // Where `filtered` looks: bit i of masks is whether way i + 1 of the node counts. (most <= 64)
  Zeroed<uint64_t>& masks() { return masks_; }

  // The best path (acoustic and bias) through every node of `ordered`; see graph.py's _Through.
  // `scores` of ending in each end.
  void through(const int* ends, const double* scores, int count);
  double before(int node) const { return before_[size_t(node)]; }
  double after(int node) const { return after_[size_t(node)]; }
  double best() const { return best_; }
  // Whether way `index` (not 0) into the node is within `beam` of the best path.
  bool kept(int node, int index, double beam) const;

 private:
  struct Block {  // followed by `most` ways
    int count, unused;
  };
  Pool<Node> nodes_;
  Pool<Block> blocks_;
  Pool<List> lists_;
  int most_;
  std::vector<int> order_, stack_, dead_;
  Zeroed<int> mark_;
  int epoch_ = 0;
  Zeroed<double> before_, after_;
  Zeroed<uint64_t> masks_;
  double best_ = 0;
};

}  // namespace slm
