#include "prefix.h"

#include <algorithm>
#include <tuple>

namespace slm {

namespace {

// What `mark` says: in use; on the way to a hypothesis; kept for a while; remembered by someone.
enum { kUsed = 1, kAlive = 2, kKept = 3, kHeld = 4 };

uint64_t mix(uint64_t hash, uint64_t value) {
  uint64_t x = hash * 0x9E3779B97F4A7C15ull + value + 0x632BE59BD9B4E019ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

PrefixTree::PrefixTree(const LabelModel& model, int capacity, int slots, int label_context)
    : model_(model),
      pool_(capacity),
      label_context_(label_context),
      slots_(size_t(slots), Slot{-1, -1}),
      label_bytes_(rounded(size_t(model.joint()) * sizeof(float))),
      stride_(label_bytes_ + rounded(model.state_bytes())),
      memory_(size_t(slots) * stride_ + 64) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(memory_.get());
  aligned_ = memory_.get() + (64 - address % 64) % 64;
  from_.reserve(size_t(slots));
  to_.reserve(size_t(slots));
  vectors_.reserve(size_t(slots));
  tokens_.reserve(size_t(slots));
}

void PrefixTree::start(Bias* bias, Listed* listed, const char* starts) {
  bias_ = bias;
  listed_ = listed;
  starts_ = starts;
  for (int item = 0; item < pool_.top(); item++) pool_[item].mark = 0;
  pool_.clear();
  for (Slot& slot : slots_) slot = Slot{-1, -1};
  root_ = pool_.take();
  pool_[root_] = Prefix{-1, 0, 0, -1, -1, 0, -1, kUsed, mix(0, 0), 0, 0, 0, 0.0};
}

int PrefixTree::child(int parent, int token) {
  for (int at = pool_[parent].child; at >= 0; at = pool_[at].sibling)
    if (pool_[at].token == token) return at;
  const Prefix& above = pool_[parent];
  int64_t state = 0;
  double paid = 0.0;
  if (bias_) std::tie(state, paid) = bias_->step(above.bias_state, token);
  const int64_t listed = listed_ ? listed_->step(above.listed, token) : 0;
  uint64_t context = mix(uint64_t(state), uint64_t(token));
  for (int n = 1, at = parent; n < label_context_ && pool_[at].parent >= 0;
       n++, at = pool_[at].parent)
    context = mix(context, uint64_t(pool_[at].token));
  const int made = pool_.take();
  pool_[made] = Prefix{parent,    token,
                       pool_[parent].depth + 1,
                       -1,        pool_[parent].child,
                       0,         -1,
                       kUsed,     mix(pool_[parent].key, uint64_t(token)),
                       context,   state,
                       listed,
                       pool_[parent].bias + paid};
  pool_[parent].child = made;
  return made;
}

bool PrefixTree::same_context(int first, int second) const {
  const Prefix *a = &pool_[first], *b = &pool_[second];
  if (a->context != b->context || a->bias_state != b->bias_state || a->listed != b->listed)
    return false;
  for (int n = 0; n < label_context_; n++) {
    if (a->parent < 0 || b->parent < 0) return a->parent < 0 && b->parent < 0;
    if (a->token != b->token) return false;
    a = &pool_[a->parent];
    b = &pool_[b->parent];
  }
  return true;
}

bool PrefixTree::begins(int start, int prefix) const {
  while (pool_[prefix].depth > pool_[start].depth) prefix = pool_[prefix].parent;
  return prefix == start;
}

int PrefixTree::common(int first, int second) const {
  while (first != second) {
    if (pool_[first].depth >= pool_[second].depth)
      first = pool_[first].parent;
    else
      second = pool_[second].parent;
  }
  return first;
}

void PrefixTree::mark_up(int prefix, int value) {
  for (; prefix >= 0 && pool_[prefix].mark == kUsed; prefix = pool_[prefix].parent)
    pool_[prefix].mark = value;
}

void PrefixTree::sweep(const int* alive, int count, int top, int before, const int* others,
                       int others_count) {
  for (int i = 0; i < count; i++) {
    for (int at = alive[i]; pool_[at].mark != kAlive; at = pool_[at].parent) {
      pool_[at].mark = kAlive;
      if (at == top || pool_[at].parent < 0) break;
    }
  }
  // Of what branches off the ways to the hypotheses, all that was needed lately stays.
  const int most = pool_.top();
  for (int item = 0; item < most; item++) {
    if (pool_[item].mark != kAlive) continue;
    for (int branch = pool_[item].child; branch >= 0; branch = pool_[branch].sibling) {
      if (pool_[branch].mark != kUsed || pool_[branch].used < before) continue;
      int at = branch;  // its whole subtree, from parent to child and on
      while (true) {
        pool_[at].mark = kKept;
        if (pool_[at].child >= 0) {
          at = pool_[at].child;
          continue;
        }
        while (at != branch && pool_[at].sibling < 0) at = pool_[at].parent;
        if (at == branch) break;
        at = pool_[at].sibling;
      }
    }
  }
  for (int i = 0; i < count; i++) {  // above `top` only the way up stays
    mark_up(pool_[top].parent, kHeld);
    mark_up(alive[i], kHeld);
  }
  for (int i = 0; i < others_count; i++) mark_up(others[i], kHeld);
  // What is only remembered hangs on its parents and is found no more: if a hypothesis says the same
  // again, that is another prefix.
  for (int item = 0; item < most; item++) {
    if (pool_[item].mark == kHeld) pool_[item].child = -1;
    if (pool_[item].mark != kAlive) continue;
    int* link = &pool_[item].child;
    while (*link >= 0) {
      Prefix& below = pool_[*link];
      if (below.mark == kAlive || below.mark == kKept)
        link = &below.sibling;
      else
        *link = below.sibling;
    }
  }
  for (int item = 0; item < most; item++) {
    Prefix& prefix = pool_[item];
    if (!prefix.mark) continue;
    if (prefix.mark != kUsed) {
      prefix.mark = kUsed;
      continue;
    }
    if (prefix.slot >= 0) slots_[size_t(prefix.slot)] = Slot{-1, -1};
    prefix.mark = 0;
    pool_.give(item);
  }
}

int PrefixTree::take_slot(int prefix, int64_t stamp) {
  size_t oldest = 0;
  for (size_t i = 0; i < slots_.size(); i++)
    if (slots_[i].stamp < slots_[oldest].stamp) oldest = i;
  Slot& slot = slots_[oldest];
  if (slot.prefix >= 0) pool_[slot.prefix].slot = -1;
  slot = Slot{prefix, stamp};
  pool_[prefix].slot = int(oldest);
  return int(oldest);
}

// The label vector of one prefix, and of those above it that are missing too.
void PrefixTree::fill(int prefix, int64_t stamp) {
  Prefix& p = pool_[prefix];
  if (p.slot >= 0) {
    slots_[size_t(p.slot)].stamp = stamp;
    return;
  }
  if (p.parent < 0) {
    const int slot = take_slot(prefix, stamp);
    model_.start(state(slot), label(slot));
    return;
  }
  // From the nearest one above that is there, down again: at each step the two last ones are fresh.
  int top = p.parent;
  while (pool_[top].slot < 0 && pool_[top].parent >= 0) top = pool_[top].parent;
  fill(top, stamp);
  while (top != prefix) {
    int next = prefix;
    while (pool_[next].parent != top) next = pool_[next].parent;
    const int from = pool_[top].slot, to = take_slot(next, stamp);
    model_.step(state(from), pool_[next].token, state(to), label(to));
    top = next;
  }
}

// Take the steps that have been gathered.
void PrefixTree::flush() {
  if (!tokens_.empty())
    model_.steps(from_.data(), tokens_.data(), int(tokens_.size()), to_.data(), vectors_.data());
  from_.clear();
  to_.clear();
  vectors_.clear();
  tokens_.clear();
}

void PrefixTree::labels(const int* prefixes, int n, int64_t stamp, const float** out) {
  for (int i = 0; i < n; i++) {  // what is there may not make room for what is not
    Prefix& p = pool_[prefixes[i]];
    if (p.slot >= 0) slots_[size_t(p.slot)].stamp = stamp;
    if (p.parent >= 0 && pool_[p.parent].slot >= 0)
      slots_[size_t(pool_[p.parent].slot)].stamp = stamp;
  }
  for (int i = 0; i < n; i++) {
    const int prefix = prefixes[i];
    const Prefix& p = pool_[prefix];
    if (p.slot >= 0) continue;
    if (p.parent < 0 || pool_[p.parent].slot < 0) {
      flush();
      fill(prefix, stamp);
      continue;
    }
    void* const above = state(pool_[p.parent].slot);
    if (std::find(to_.begin(), to_.end(), above) != to_.end()) flush();
    const int from = pool_[p.parent].slot, to = take_slot(prefix, stamp);
    from_.push_back(state(from));
    to_.push_back(state(to));
    vectors_.push_back(label(to));
    tokens_.push_back(p.token);
  }
  flush();
  for (int i = 0; i < n; i++) out[i] = label(pool_[prefixes[i]].slot);
}

}  // namespace slm
