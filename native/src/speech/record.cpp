#include "record.h"

#include <algorithm>
#include <cmath>

namespace slm {

double log_add(double first, double second) {
  if (first < second) std::swap(first, second);
  if (second == -INFINITY) return first;
  return first + std::log1p(std::exp(second - first));
}

// Ways lie behind a block's head, alternatives behind a list's.
Record::Record(int nodes, int blocks, int lists, int most)
    : nodes_(nodes),
      blocks_(blocks, 1 + size_t(most) * sizeof(Way) / sizeof(Block)),
      lists_(lists, 1 + size_t(most + 1) * sizeof(Alternative) / sizeof(List)),
      most_(most),
      mark_(size_t(nodes)),
      before_(size_t(nodes)),
      after_(size_t(nodes)),
      masks_(size_t(nodes)) {
  static_assert(sizeof(Way) % sizeof(Block) == 0 && sizeof(Alternative) % sizeof(List) == 0, "");
  order_.reserve(size_t(nodes));
  dead_.reserve(size_t(nodes));
  stack_.reserve(2 * size_t(nodes) + size_t(blocks) * size_t(most) + size_t(lists));
}

int Record::node(int frame, int token, double score, const Way* first) {
  const int made = nodes_.take();
  Node& n = nodes_[made];
  n = Node{frame, token, 1, -1, -1, 0, 0.0, 0.0, score, 0.0, 0.0};
  if (first) {
    n.source = first->source;
    n.acoustic = first->acoustic;
    n.bias = first->bias;
    hold(n.source);
  }
  return made;
}

void Record::add_others(int node, const Way* ways, int count) {
  if (!count) return;
  const int block = blocks_.take();
  blocks_.at(block)->count = count;
  Way* to = reinterpret_cast<Way*>(blocks_.at(block) + 1);
  for (int i = 0; i < count; i++) {
    to[i] = ways[i];
    hold(ways[i].source);
  }
  nodes_[node].others = block;
}

void Record::release(int node) {
  if (node < 0 || --nodes_[node].refs) return;
  const size_t base = dead_.size();
  dead_.push_back(node);
  while (dead_.size() > base) {
    const int item = dead_.back();
    dead_.pop_back();
    const Node n = nodes_[item];
    nodes_.give(item);
    if (n.others >= 0) {
      const Way* ways = reinterpret_cast<const Way*>(blocks_.at(n.others) + 1);
      for (int i = 0; i < blocks_.at(n.others)->count; i++)
        if (!--nodes_[ways[i].source].refs) dead_.push_back(ways[i].source);
      blocks_.give(n.others);
    }
    if (n.source >= 0 && !--nodes_[n.source].refs) dead_.push_back(n.source);
  }
}

void Record::keep_others(int node, const char* keep) {
  Node& n = nodes_[node];
  if (n.others < 0) return;
  const int block = n.others, count = blocks_.at(block)->count;
  Way* ways = reinterpret_cast<Way*>(blocks_.at(block) + 1);
  int left = 0;
  for (int i = 0; i < count; i++) {
    const Way way = ways[i];
    if (keep[i]) {
      ways[left++] = way;
    } else {
      release(way.source);
    }
  }
  blocks_.at(block)->count = left;
  if (left) return;
  blocks_.give(block);
  n.others = -1;
}

int Record::list(const Alternative* entries, int count) {
  const int made = lists_.take();
  *lists_.at(made) = List{1, count};
  Alternative* to = reinterpret_cast<Alternative*>(lists_.at(made) + 1);
  for (int i = 0; i < count; i++) {
    to[i] = entries[i];
    hold(entries[i].node);
  }
  return made;
}

void Record::release_list(int list) {
  if (list < 0 || --lists_.at(list)->refs) return;
  const Alternative* all = entries(list);
  const int count = lists_.at(list)->count;
  for (int i = 0; i < count; i++) release(all[i].node);
  lists_.give(list);
}

size_t Record::bytes() const {
  return nodes_.bytes() + blocks_.bytes() + lists_.bytes() + mark_.bytes() + before_.bytes() +
         after_.bytes() + masks_.bytes() +
         (order_.capacity() + stack_.capacity() + dead_.capacity()) * sizeof(int);
}

const std::vector<int>& Record::ordered(const int* ends, int count, bool filtered) {
  // Marks: 2 epoch + 1 when a node is in the order. A number below 0 on the stack is a node whose
  // sources have been seen to.
  epoch_++;
  order_.clear();
  stack_.clear();
  for (int i = count; i-- > 0;) stack_.push_back(ends[i]);
  while (!stack_.empty()) {
    const int top = stack_.back(), item = top < 0 ? ~top : top;
    stack_.pop_back();
    if (mark_[size_t(item)] == epoch_) continue;
    if (top < 0) {
      mark_[size_t(item)] = epoch_;
      order_.push_back(item);
      continue;
    }
    stack_.push_back(~item);
    const int all = ways(item);
    for (int i = 0; i < all; i++) {
      if (i && filtered && !(masks_[size_t(item)] >> (i - 1) & 1)) continue;
      const int source = way(item, i).source;
      if (mark_[size_t(source)] != epoch_) stack_.push_back(source);
    }
  }
  return order_;
}

void Record::through(const int* ends, const double* scores, int count) {
  ordered(ends, count);
  for (const int node : order_) {
    const int all = ways(node);
    double best = all ? -INFINITY : 0.0;
    for (int i = 0; i < all; i++) {
      const Way w = way(node, i);
      best = std::max(best, before_[size_t(w.source)] + w.acoustic + w.bias);
    }
    before_[size_t(node)] = best;
    after_[size_t(node)] = -INFINITY;
  }
  for (int i = 0; i < count; i++) after_[size_t(ends[i])] = scores[i];
  for (size_t k = order_.size(); k-- > 0;) {
    const int node = order_[k];
    const int all = ways(node);
    for (int i = 0; i < all; i++) {
      const Way w = way(node, i);
      const double score = after_[size_t(node)] + w.acoustic + w.bias;
      after_[size_t(w.source)] = std::max(after_[size_t(w.source)], score);
    }
  }
  best_ = -INFINITY;
  for (int i = 0; i < count; i++) best_ = std::max(best_, before_[size_t(ends[i])] + scores[i]);
}

bool Record::kept(int node, int index, double beam) const {
  const double least = best_ - beam - after_[size_t(node)];
  const Way w = way(node, index);
  return before_[size_t(w.source)] + w.acoustic + w.bias >= least;
}

}  // namespace slm
