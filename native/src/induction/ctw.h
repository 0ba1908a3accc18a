// Context-tree weighting in sequential form, over any small alphabet (exact) and over bytes.
#pragma once

#include "induction/numbers.h"

namespace slm::induction {

// Mixes every tree of contexts up to `depth`, 1/2 a split, with Dirichlet(alpha) estimators.
// What came before the first symbol counts as zeros.
class ContextTree {
 public:
  ContextTree(int alphabet, int depth, double alpha);
  int alphabet() const { return alphabet_; }
  void predict(double* out) const;  // alphabet probabilities
  void learn(int symbol);
  void write(Writer& writer) const;
  // Throws std::invalid_argument and changes nothing if it is no state of such a tree.
  void read(Reader& reader);

 private:
  int path(std::vector<int32_t>& nodes) const;  // nodes that exist, from the root
  int32_t add();

  int alphabet_, depth_;
  double alpha_;
  std::vector<int32_t> children_;  // alphabet a node, 0: none
  std::vector<double> counts_;     // alphabet a node
  std::vector<double> totals_, ratios_;
  std::vector<uint8_t> past_;  // the last `depth` symbols, newest first
};

// Bytes bit by bit (Volf): a binary tree of contexts (previous bytes) for each partial byte.
class ByteTree {
 public:
  struct Node {
    double ratio;
    uint16_t zeros, ones;
    uint32_t check;
  };
  static constexpr int kDeepest = 16;
  ByteTree(int depth, int bits);
  double bit() const { return mixed_[0]; }  // probability that the next bit is a one
  void learn(int bit);
  void distribution(double* out) const;  // 256, at the beginning of a byte
  bool whole() const { return partial_ == 1; }
  void write(Writer& writer) const;
  void read(Reader& reader);  // as ContextTree's

 private:
  uint64_t place(int level, int partial) const;
  const Node* find(uint64_t key) const;
  Node* seat(uint64_t key);
  double mix(const Node* const* nodes, double* estimates, double* mixed) const;
  void begin_byte();
  void look();

  int depth_, bits_;
  int partial_ = 1;
  uint64_t history_[2] = {0, 0};  // the last 16 bytes
  uint64_t contexts_[kDeepest + 1] = {};
  double estimates_[kDeepest + 1] = {}, mixed_[kDeepest + 2] = {};
  Table<Node> table_;
};

}  // namespace slm::induction
