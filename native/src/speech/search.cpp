#include "search.h"

#include <algorithm>
#include <cmath>

#include "runtime/error.h"

namespace slm {

namespace {

constexpr int kSweep = 32;      // frames
constexpr int kForget = 512;    // emissions
constexpr double kMargin = 0.5;  // nats by which a better alignment of a known alternative must win
constexpr int kLists = 4;       // spare lists of alternatives

int most_ways(const DecodeConfig& c) { return c.greedy ? 1 : c.beam + 1; }
int most_closed(const DecodeConfig& c) { return most_ways(c) * (c.max_symbols + 1); }

// What one frame may take at most: nodes (emissions; joint nodes when frames are closed, when paths
// are merged, when the record is cleared up and for a result), blocks of ways, prefixes.
int frame_nodes(const DecodeConfig& c) { return most_ways(c) * c.max_symbols + 4 * c.beam + 8; }
int frame_blocks(const DecodeConfig& c) { return 4 * c.beam + 8; }
int frame_prefixes(const DecodeConfig& c) { return (most_ways(c) + 1) * c.max_symbols; }

int most_frames(const Decoder& d) {
  return int(std::ceil(d.config.longest_seconds / d.frame_seconds));
}
int most_labels(const Decoder& d) {
  return int(std::ceil(most_frames(d) * d.config.labels_per_frame));
}
// The best path of the longest utterance, and alternatives.
int most_nodes(const Decoder& d) {
  return most_labels(d) + most_frames(d) + 16 * frame_nodes(d.config) + 512;
}
int most_blocks(const Decoder& d) { return most_frames(d) + 8 * frame_blocks(d.config); }
// The best path, and what two sweeps leave and the third finds.
int most_prefixes(const Decoder& d) {
  return most_labels(d) + 2 * kSweep * frame_prefixes(d.config) + 512;
}

}  // namespace

void DecodeConfig::check() const {
  const auto at_least = [](const char* name, double value, double least) {
    require(value >= least, std::string(name) + " = " + std::to_string(value) +
                                " must be at least " + std::to_string(int(least)) + ".");
  };
  at_least("beam", beam, 1);
  at_least("max_symbols", max_symbols, 1);
  at_least("alternatives", alternatives, 1);
  at_least("nbest", nbest, 1);
  at_least("label_context", label_context, 0);
  at_least("stable_frames", stable_frames, 0);
  const auto above = [](const char* name, double value) {
    require(value > 0, std::string(name) + " must be above 0; infinity switches it off.");
  };
  above("expand_beam", expand_beam);
  above("state_beam", state_beam);
  above("lattice_beam", lattice_beam);
  above("stable_beam", stable_beam);
  require(std::isfinite(label_bonus), "label_bonus must be a finite number.");
  require(confidence_scale > 0 && std::isfinite(confidence_scale),
          "confidence_scale must be a number above 0.");
  require(beam <= 10000 && max_symbols <= 1000, "beam and max_symbols are too large.");
  require(alternatives <= 64, "alternatives must be at most 64.");
  require(longest_seconds > 0 && longest_seconds <= 86400,
          "longest_seconds must be above 0 and at most a day.");
  require(labels_per_frame > 0 && labels_per_frame <= 1000, "labels_per_frame is out of range.");
}

Decoder::Decoder(const LabelModel& model, const WordPieces& pieces, const DecodeConfig& config,
                 double frame_seconds)
    : model(model), pieces(pieces), config(config), frame_seconds(frame_seconds) {
  config.check();
  require(pieces.size() == model.vocab(),
          "the vocabulary has " + std::to_string(pieces.size()) + " pieces and the model " +
              std::to_string(model.vocab()) + "; use the word pieces it was trained with.");
  require(frame_seconds > 0 && std::isfinite(frame_seconds), "a frame must have a length.");
}

Search::Search(const Decoder& decoder)
    : decoder_(decoder),
      config_(decoder.config),
      vocab_(decoder.model.vocab()),
      record_(most_nodes(decoder), most_blocks(decoder),
              2 * config_.beam + most_closed(config_) + kLists, config_.alternatives),
      tree_(decoder.model, most_prefixes(decoder),
            2 * (config_.beam + most_closed(config_)) + 8, config_.label_context),
      beam_(config_.beam),
      recent_(size_t(std::max(config_.stable_frames, 1))),
      need_nodes_(frame_nodes(config_)),
      need_blocks_(frame_blocks(config_)),
      need_prefixes_(frame_prefixes(config_)) {
  const size_t ways = size_t(most_ways(config_)), closed = size_t(most_closed(config_));
  const size_t rows = std::max(ways, size_t(config_.beam));
  for (Hyps* hyps : {&hyps_, &ways_, &next_, &closed_}) hyps->reserve(closed + ways);
  for (std::vector<int>* list : {&prefixes_, &ends_, &chosen_, &order_})
    list->reserve(closed + ways + recent_.size());
  held_.reserve(recent_.size() + 2);
  labels_.resize(rows);
  log_probs_.resize(rows * size_t(vocab_));
  actions_.reserve(rows * size_t(vocab_));
  totals_.reserve(closed + ways);
  ends_scores_.reserve(closed + ways);
  candidates_.reserve(rows * size_t(vocab_));
  alternatives_.reserve(size_t(config_.alternatives) + 2);
  keep_.reserve(size_t(config_.alternatives) + 2);
  const size_t labels = size_t(record_.node_capacity());
  path_.reserve(labels);
  surely_.reserve(labels);
  spoken_.tokens.reserve(labels);
  spoken_.frames.reserve(labels);
  spoken_.words.reserve(labels);
  spoken_.text.reserve(4 * labels);
  start();
}

void Search::start(Bias* bias, int first_frame, Listed* listed) {
  drop_all(hyps_);
  if (spoken_node_ >= 0) record_.release(spoken_node_);
  spoken_node_ = spoken_stable_ = -1;
  bias_ = bias;
  listed_ = listed;
  if (listed_) allowed_.resize(size_t(vocab_));
  if (bias_) actions_.resize(log_probs_.size());
  frame_ = first_frame_ = first_frame;
  beam_ = config_.beam;
  tree_.start(bias, listed, decoder_.pieces.starts().data());
  const int root = tree_.root();
  Hyp hyp;
  hyp.prefix = root;
  hyp.node = record_.node(first_frame, 0, 0.0, nullptr);
  hyp.mass = hyp.score = 0.0;
  hyps_.push_back(hyp);
  greedy_ = stable_ = root;
  recent_at_ = 0;
  emissions_ = 0;
  forget_at_ = kForget;
  forgotten_before_ = -1;
  narrowed_ = false;
}

void Search::set_beam(int beam) {
  require(beam >= 1 && beam <= config_.beam,
          "the beam can be set to 1 up to " + std::to_string(config_.beam) +
              ", which memory was taken for, not to " + std::to_string(beam) + ".");
  beam_ = beam;
}

// Hypotheses ---------------------------------------------------------------------------------

void Search::drop(Hyp& hyp) {
  record_.release(hyp.node);
  if (hyp.joint >= 0) record_.release(hyp.joint);
  record_.release_list(hyp.list);
  hyp.node = hyp.joint = hyp.list = -1;
}

void Search::drop_all(Hyps& hyps) {
  for (Hyp& hyp : hyps) drop(hyp);
  hyps.clear();
}

// The node that what follows comes from.
int Search::link(Hyp& hyp) {
  if (hyp.list < 0) return hyp.node;
  if (hyp.joint < 0) {
    const double at = hyp.joined_score;
    const Way stayed{hyp.node, at - record_[hyp.node].score, 0.0, 0.0};
    hyp.joint = record_.node(hyp.joined, 0, at, &stayed);
    const Alternative* all = record_.entries(hyp.list);
    const int count = record_.count(hyp.list);
    Way others[64];
    for (int i = 0; i < count; i++)
      others[i] =
          Way{all[i].node, at + all[i].behind - record_[all[i].node].score, 0.0, all[i].gap};
    record_.add_others(hyp.joint, others, count);
  }
  return hyp.joint;
}

// The hypothesis after a blank.
Search::Hyp Search::closed(Hyp& hyp, double blank) {
  link(hyp);
  Hyp made = hyp;
  made.mass = hyp.mass + blank;
  made.score = hyp.score + blank;
  made.blank = blank;
  record_.hold(made.node);
  if (made.joint >= 0) record_.hold(made.joint);
  if (made.list >= 0) record_.hold_list(made.list);
  return made;
}

// The hypothesis after a label, which makes it `prefix`; `blank`: the blank's log-probability.
Search::Hyp Search::emitted(Hyp& hyp, int prefix, double gain, double blank) {
  const int source = link(hyp);
  const double score = hyp.score + gain;
  const double log_prob = gain - config_.label_bonus;
  const Way way{source, score - record_[source].score, tree_[prefix].bias - tree_[hyp.prefix].bias,
                0.0};
  Hyp made;
  made.prefix = prefix;
  made.node = record_.node(frame_, tree_[prefix].token, score, &way);
  made.mass = hyp.mass + gain;
  made.score = score;
  Node& node = record_[made.node];
  node.log_prob = log_prob;
  node.surely = std::min(0.0, log_prob - std::log1p(-std::exp(std::min(blank, -1e-9))));
  return made;
}

// Take in a hypothesis of the same labels, after the same blank in this frame.
void Search::add_alignments(Hyp& hyp, const Hyp& other) {
  const double before = hyp.mass;
  hyp.mass = log_add(hyp.mass, other.mass);
  if (other.score > hyp.score) {
    hyp.score = other.score;
    record_.hold(other.node);
    record_.release(hyp.node);
    hyp.node = other.node;
  }
  if (hyp.list < 0) return;
  // These are alignments of other labels than the alternatives': they fall behind by as much.
  const double grown = hyp.mass - before;
  const Alternative* all = record_.entries(hyp.list);
  alternatives_.assign(all, all + record_.count(hyp.list));
  for (Alternative& path : alternatives_) {
    path.behind -= grown;
    path.gap -= grown;
  }
  replace(hyp, alternatives_.data(), int(alternatives_.size()));
}

// Record the path of `loser`, which path merging ends in favour of `winner`.
void Search::take_over(Hyp& winner, Hyp& loser) {
  const double behind = loser.mass - winner.mass;
  const double gap = std::min(0.0, total(loser) - total(winner));
  if (gap < -config_.lattice_beam) return;
  const uint64_t key = tree_[loser.prefix].key;
  alternatives_.clear();
  if (winner.list >= 0) {
    const Alternative* all = record_.entries(winner.list);
    alternatives_.assign(all, all + record_.count(winner.list));
  }
  size_t place = 0;
  while (place < alternatives_.size() && alternatives_[place].key != key) place++;
  const bool known = place < alternatives_.size();
  if (known && behind <= alternatives_[place].behind + kMargin) return;
  if (!known) alternatives_.emplace_back();
  alternatives_[place] = Alternative{key, link(loser), behind, gap};
  if (int(alternatives_.size()) > config_.alternatives) {
    size_t worst = 0;
    for (size_t i = 1; i < alternatives_.size(); i++)
      if (alternatives_[i].gap < alternatives_[worst].gap) worst = i;
    if (worst == place && !known) return;
    alternatives_.erase(alternatives_.begin() + ptrdiff_t(worst));
  }
  replace(winner, alternatives_.data(), int(alternatives_.size()));
}

void Search::replace(Hyp& hyp, const Alternative* paths, int count) {
  const int list = count ? record_.list(paths, count) : -1;
  record_.release_list(hyp.list);
  if (hyp.joint >= 0) record_.release(hyp.joint);
  hyp.list = list;
  hyp.joint = -1;
  hyp.joined = frame_ + 1;
  hyp.joined_score = hyp.score;
}

// A frame ------------------------------------------------------------------------------------

void Search::advance(const float* acoustic) {
  for (int i = 0; i < decoder_.model.joint(); i++)
    require(std::isfinite(acoustic[i]),
            "the model gave NaN or infinity for a frame; check the audio for samples that are not "
            "numbers, and the model.");
  make_room();
  stamp_++;
  if (config_.greedy)
    greedy_frame(acoustic);
  else
    beam_frame(acoustic);
  settle();
  frame_++;
}

// The log-probabilities after each of `ways`, and the bonus of labels.
void Search::read(const Hyps& ways, const float* acoustic) {
  prefixes_.clear();
  for (const Hyp& way : ways) prefixes_.push_back(way.prefix);
  const int n = int(ways.size());
  tree_.labels(prefixes_.data(), n, stamp_, labels_.data());
  decoder_.model.log_probs(acoustic, labels_.data(), n, log_probs_.data());
  if (listed_) attend(ways, acoustic);
  if (config_.label_bonus != 0) {
    const float bonus = float(config_.label_bonus);
    for (int row = 0; row < n; row++)
      for (int v = 1; v < vocab_; v++) log_probs_[size_t(row) * size_t(vocab_) + size_t(v)] += bonus;
  }
  if (bias_) bias_rows(ways);
}

// What the model's attention hears of the listed phrases; entries of a class behind their carriers.
void Search::attend(const Hyps& ways, const float* acoustic) {
  listed_->hear(acoustic);
  for (size_t row = 0; row < ways.size(); row++) {
    const Prefix& prefix = tree_[ways[row].prefix];
    if (bias_) {
      std::fill(allowed_.begin(), allowed_.end(), char(0));
      bias_->next(prefix.bias_state, allowed_.data());
    }
    listed_->add(labels_[row], prefix.listed, bias_ ? allowed_.data() : nullptr,
                 &log_probs_[row * size_t(vocab_)]);
  }
}

void Search::bias_rows(const Hyps& ways) {
  for (size_t row = 0; row < ways.size(); row++) {
    double* actions = &actions_[row * size_t(vocab_)];
    const float* values = &log_probs_[row * size_t(vocab_)];
    bias_->scores(tree_[ways[row].prefix].bias_state, actions);
    for (int v = 0; v < vocab_; v++) actions[v] = double(values[v]) + actions[v];
  }
}

namespace {

template <class T>
int first_largest(const T* values, int count) {
  T most = values[0];
  for (int i = 1; i < count; i++) most = values[i] > most ? values[i] : most;
  for (int i = 0;; i++)
    if (values[i] == most) return i;
}

}  // namespace

int Search::best_action(int row) const {
  const size_t at = size_t(row) * size_t(vocab_);
  return bias_ ? first_largest(&actions_[at], vocab_) : first_largest(&log_probs_[at], vocab_);
}

// Take the best symbol, biased, until it is the blank.
void Search::greedy_frame(const float* acoustic) {
  ways_.swap(hyps_);
  for (int round = 0;; round++) {
    Hyp& hyp = ways_[0];
    read(ways_, acoustic);
    const double blank = double(log_probs_[0]);
    const int token = round < config_.max_symbols ? best_action(0) : 0;
    if (!token) {
      greedy_ = hyp.prefix;
      hyps_.push_back(closed(hyp, blank));
      break;
    }
    const int prefix = tree_.child(hyp.prefix, token);
    next_.push_back(emitted(hyp, prefix, double(log_probs_[size_t(token)]), blank));
    drop_all(ways_);
    ways_.swap(next_);
  }
  drop_all(ways_);
}

// All ways through the frame that are worth following.
void Search::beam_frame(const float* acoustic) {
  closed_.clear();
  ways_.swap(hyps_);
  bool greedy_goes_on = true;
  for (int round = 0; round <= config_.max_symbols; round++) {
    read(ways_, acoustic);
    for (size_t row = 0; row < ways_.size(); row++) {
      const double blank = double(log_probs_[row * size_t(vocab_)]);
      Hyp end = closed(ways_[row], blank);
      const auto same = std::find_if(closed_.begin(), closed_.end(), [&](const Hyp& hyp) {
        return hyp.prefix == end.prefix;
      });
      if (same == closed_.end()) {
        closed_.push_back(end);
        continue;
      }
      add_alignments(*same, end);
      same->blank = blank;
      drop(end);
    }
    if (round == config_.max_symbols) break;
    int forced = -1;
    if (greedy_goes_on) {
      int row = 0;
      while (ways_[size_t(row)].prefix != greedy_) row++;
      const int token = best_action(row);
      greedy_goes_on = token != 0;
      if (token) {
        forced = row * vocab_ + token;
        greedy_ = tree_.child(greedy_, token);
      }
    }
    choose(ways_, forced);
    if (chosen_.empty()) break;
    emissions_ += int(chosen_.size());
    for (const int index : chosen_) {
      const int row = index / vocab_, token = index % vocab_;
      Hyp& way = ways_[size_t(row)];
      const int prefix = tree_.child(way.prefix, token);
      const float* values = &log_probs_[size_t(row) * size_t(vocab_)];
      next_.push_back(emitted(way, prefix, double(values[token]), double(values[0])));
    }
    drop_all(ways_);
    ways_.swap(next_);
  }
  drop_all(ways_);
  survivors();
}

// The labels to go on with, as indices into (ways, V); see beam.py's _choose.
void Search::choose(const Hyps& ways, int forced) {
  totals_.clear();
  for (const Hyp& hyp : closed_) totals_.push_back(total(hyp));
  std::sort(totals_.begin(), totals_.end(), [](double a, double b) { return a > b; });
  double floor = totals_[0] - config_.state_beam;
  if (int(totals_.size()) >= beam_) floor = std::max(floor, totals_[size_t(beam_) - 1]);
  candidates_.clear();
  for (size_t row = 0; row < ways.size(); row++) {
    const double base = total(ways[row]);
    const size_t at = row * size_t(vocab_);
    const auto take = [&](const auto* values) {
      typedef std::decay_t<decltype(*values)> Value;
      Value most = values[0];
      for (int v = 1; v < vocab_; v++) most = values[v] > most ? values[v] : most;
      const double least = std::max(double(most) + base - config_.expand_beam, floor);
      // Nearly all labels are far below: what is certain in few digits is decided by them.
      const double margin = 1e-4 * (1.0 + std::fabs(least) + std::fabs(base));
      const Value surely = Value(least - base - margin);
      for (int v = 1; v < vocab_; v++) {
        if (values[v] < surely) continue;
        const double sum = double(values[v]) + base;
        if (sum >= least && sum > -INFINITY)
          candidates_.push_back(Candidate{int(at) + v, sum});
      }
    };
    if (bias_)
      take(&actions_[at]);
    else
      take(&log_probs_[at]);
  }
  if (int(candidates_.size()) > beam_) {
    std::partial_sort(candidates_.begin(), candidates_.begin() + beam_, candidates_.end(),
                      [](const Candidate& a, const Candidate& b) {
                        return a.total != b.total ? a.total > b.total : a.index < b.index;
                      });
    candidates_.resize(size_t(beam_));
  }
  chosen_.clear();
  for (const Candidate& candidate : candidates_) chosen_.push_back(candidate.index);
  if (forced >= 0 && std::find(chosen_.begin(), chosen_.end(), forced) == chosen_.end())
    chosen_.push_back(forced);
}

// Path merging and pruning at the end of a frame, best first; the greedy path always stays.
void Search::survivors() {
  totals_.clear();
  order_.clear();
  for (size_t i = 0; i < closed_.size(); i++) {
    totals_.push_back(total(closed_[i]));
    order_.push_back(int(i));
  }
  std::sort(order_.begin(), order_.end(), [&](int a, int b) {
    const double x = totals_[size_t(a)], y = totals_[size_t(b)];
    return x != y ? x > y : a < b;
  });
  const double floor = totals_[size_t(order_[0])] - config_.state_beam;
  int guarded = -1;
  chosen_.clear();  // indices of those kept
  for (const int index : order_) {
    Hyp& hyp = closed_[size_t(index)];
    if (totals_[size_t(index)] < floor && hyp.prefix != greedy_) continue;
    if (config_.label_context) {
      const auto winner = std::find_if(chosen_.begin(), chosen_.end(), [&](int other) {
        return tree_.same_context(closed_[size_t(other)].prefix, hyp.prefix);
      });
      if (winner != chosen_.end()) {
        if (hyp.prefix == greedy_)
          guarded = index;
        else if (config_.lattice)
          take_over(closed_[size_t(*winner)], hyp);
        continue;
      }
    }
    chosen_.push_back(index);
  }
  for (size_t i = size_t(beam_); guarded < 0 && i < chosen_.size(); i++)
    if (closed_[size_t(chosen_[i])].prefix == greedy_) guarded = chosen_[i];
  if (int(chosen_.size()) > beam_) chosen_.resize(size_t(beam_));
  if (guarded >= 0) {
    if (int(chosen_.size()) > beam_ - 1) chosen_.resize(size_t(beam_) - 1);
    chosen_.push_back(guarded);
  }
  for (const int index : chosen_) {
    hyps_.push_back(closed_[size_t(index)]);
    closed_[size_t(index)].node = -1;  // it moved
  }
  for (Hyp& hyp : closed_)
    if (hyp.node >= 0) drop(hyp);
  closed_.clear();
}

// After a frame: stable words, and forgetting.
void Search::settle() {
  const double best = total(hyps_[0]);
  if (observe(best - config_.stable_beam)) {
    size_t left = 0;
    for (size_t i = 0; i < hyps_.size(); i++) {
      if (!allows(hyps_[i].prefix)) {
        drop(hyps_[i]);
        continue;
      }
      if (left != i) hyps_[left] = hyps_[i];
      left++;
    }
    hyps_.resize(left);
    if (!allows(greedy_)) greedy_ = hyps_[0].prefix;  // it goes on from the best
  }
  for (const Hyp& hyp : hyps_) tree_[hyp.prefix].used = frame_;
  if (frame_ % kSweep == 0) sweep(frame_ - kSweep);
  if (emissions_ >= forget_at_) {
    forget_at_ = std::max(kForget, 2 * forget());
    emissions_ = 0;
  }
}

// Stable words; see stability.py ---------------------------------------------------------------

bool Search::observe(double least) {
  const size_t frames = size_t(config_.stable_frames);
  if (!frames) return false;
  prefixes_.clear();
  for (const Hyp& hyp : hyps_)
    if (total(hyp) >= least) prefixes_.push_back(hyp.prefix);
  int shared = prefixes_[0];
  for (const int prefix : prefixes_) shared = tree_.common(shared, prefix);
  recent_[recent_at_++ % frames] = whole_words(shared, prefixes_.data(), int(prefixes_.size()));
  if (recent_at_ < frames) return false;
  int held = recent_[recent_at_ % frames];
  for (const int agreed : recent_) held = tree_.common(held, agreed);
  prefixes_.clear();
  for (const int agreed : recent_)
    if (agreed != held) prefixes_.push_back(agreed);
  held = whole_words(held, prefixes_.data(), int(prefixes_.size()));
  const bool grown = tree_[held].depth > tree_[stable_].depth;
  if (grown) stable_ = held;
  return grown;
}

bool Search::allows(int prefix) const {
  if (tree_[stable_].parent < 0) return true;
  return tree_.begins(stable_, prefix) && starts_word_after(stable_, prefix);
}

// `shared` without its last word, if that goes on or may go on in one of `prefixes`.
int Search::whole_words(int shared, const int* prefixes, int count) const {
  if (std::all_of(prefixes, prefixes + count,
                  [&](int prefix) { return starts_word_after(shared, prefix); }))
    return shared;
  while (tree_[shared].parent >= 0) {
    const bool start = tree_.starts(shared);
    shared = tree_[shared].parent;
    if (start) break;
  }
  return shared;
}

bool Search::starts_word_after(int shared, int prefix) const {
  if (prefix == shared) return false;
  while (tree_[prefix].parent != shared) prefix = tree_[prefix].parent;
  return tree_.starts(prefix);
}

// Forgetting -----------------------------------------------------------------------------------

void Search::sweep(int before) {
  prefixes_.clear();
  for (const Hyp& hyp : hyps_) prefixes_.push_back(hyp.prefix);
  held_.clear();
  held_.push_back(greedy_);
  const size_t filled = std::min(recent_at_, recent_.size());
  held_.insert(held_.end(), recent_.begin(), recent_.begin() + ptrdiff_t(filled));
  tree_.sweep(prefixes_.data(), int(prefixes_.size()), stable_, before, held_.data(),
              int(held_.size()));
}

// Drop from the record what lies so far behind that no result will need it; how much is left.
int Search::forget() {
  const double beam = 2 * config_.lattice_beam;
  ends_.clear();
  ends_scores_.clear();
  for (Hyp& hyp : hyps_) {
    ends_.push_back(link(hyp));
    ends_scores_.push_back(hyp.mass - record_[ends_.back()].score);
  }
  record_.through(ends_.data(), ends_scores_.data(), int(ends_.size()));
  // Which ways stay is decided before any goes: a node that is freed takes others with it.
  const std::vector<int>& nodes = record_.ordered(ends_.data(), int(ends_.size()));
  for (const int node : nodes) {
    uint64_t mask = 0;
    for (int i = 1; i < record_.ways(node); i++)
      if (record_.kept(node, i, beam)) mask |= uint64_t(1) << (i - 1);
    record_.masks()[size_t(node)] = mask;
    record_.hold(node);
  }
  for (Hyp& hyp : hyps_) {
    if (hyp.list < 0) continue;
    const int joint = link(hyp);
    const uint64_t mask = record_.masks()[size_t(joint)];
    const Alternative* all = record_.entries(hyp.list);
    const int count = record_.count(hyp.list);
    alternatives_.clear();
    for (int i = 0; i < count; i++) {
      bool left = false;
      for (int j = 1; j < record_.ways(joint); j++)
        left |= (mask >> (j - 1) & 1) && record_.way(joint, j).source == all[i].node;
      if (left) alternatives_.push_back(all[i]);
    }
    if (int(alternatives_.size()) == count) continue;
    const int joined = hyp.joined;
    const double joined_score = hyp.joined_score;
    replace(hyp, alternatives_.data(), int(alternatives_.size()));
    hyp.joined = joined;
    hyp.joined_score = joined_score;
  }
  for (const int node : nodes) {
    const int ways = record_.ways(node);
    if (ways < 2) continue;
    keep_.clear();
    for (int i = 1; i < ways; i++)
      keep_.push_back(char(record_.masks()[size_t(node)] >> (i - 1) & 1));
    record_.keep_others(node, keep_.data());
  }
  for (const int node : nodes) record_.release(node);
  ends_.clear();
  for (Hyp& hyp : hyps_) ends_.push_back(link(hyp));
  return int(record_.ordered(ends_.data(), int(ends_.size())).size());
}

// Before a frame: what it may need at most is there, or something is forgotten. First what no
// result would show, then the oldest alternatives, then all hypotheses but the best; its own path
// never.
void Search::make_room() {
  const auto fits = [&] {
    return record_.nodes_left() >= need_nodes_ && record_.blocks_left() >= need_blocks_;
  };
  if (tree_.left() < need_prefixes_) sweep(frame_);
  if (!fits()) {
    forget();
    // Making room is dear, so it is made for some time.
    const int nodes = std::max(need_nodes_, record_.node_capacity() / 8);
    const int blocks = std::max(need_blocks_, record_.block_capacity() / 8);
    forgotten_before_ = std::max(forgotten_before_, forget_oldest(nodes, blocks));
  }
  if (!fits() || tree_.left() < need_prefixes_) {
    const size_t keep = best();
    for (size_t i = 0; i < hyps_.size(); i++)
      if (i != keep) drop(hyps_[i]);
    hyps_[0] = hyps_[keep];
    hyps_.resize(1);
    greedy_ = hyps_[0].prefix;
    narrowed_ = true;
    sweep(frame_);
  }
  require(fits() && tree_.left() >= need_prefixes_,
          "the words of this utterance fill the search's memory (" +
              std::to_string(config_.longest_seconds) +
              " s were reserved); end the utterance, or set longest_seconds higher.");
}

// Drop alternatives, the oldest first, until so many nodes and blocks are free; the frame before
// which there are none left, or -1 if none had to go.
int Search::forget_oldest(int nodes, int blocks) {
  int before = -1;
  while (record_.nodes_left() < nodes || record_.blocks_left() < blocks) {
    ends_.clear();
    for (Hyp& hyp : hyps_) ends_.push_back(link(hyp));
    const std::vector<int>& all = record_.ordered(ends_.data(), int(ends_.size()));
    // Cut a sixteenth of the stretch of time that still has alternatives, at least a frame.
    int oldest = frame_ + 1;
    for (const int node : all)
      if (record_.ways(node) > 1) oldest = std::min(oldest, record_[node].frame);
    if (oldest > frame_) return before;
    const int until = oldest + std::max(1, (frame_ - oldest) / 16);
    for (const int node : all) record_.hold(node);
    for (const int node : all) {
      if (record_.ways(node) < 2 || record_[node].frame >= until) continue;
      keep_.assign(size_t(record_.ways(node)), 0);
      record_.keep_others(node, keep_.data());
    }
    for (const int node : all) record_.release(node);
    for (Hyp& hyp : hyps_) {
      if (hyp.list < 0 || hyp.joined >= until) continue;
      const int joined = hyp.joined;
      const double joined_score = hyp.joined_score;
      replace(hyp, nullptr, 0);
      hyp.joined = joined;
      hyp.joined_score = joined_score;
    }
    before = until;
  }
  return before;
}

int Search::room() const {
  const int nodes = record_.node_capacity() - need_nodes_;
  const int prefixes = tree_.capacity() - need_prefixes_;
  const int said = tree_[hyps_[best()].prefix].depth + 2;
  return std::max(0, std::min(nodes, prefixes) - said) / config_.max_symbols;
}

size_t Search::bytes() const {
  return record_.bytes() + tree_.bytes() + log_probs_.size() * sizeof(float) +
         actions_.capacity() * sizeof(double) + candidates_.capacity() * sizeof(Candidate) +
         spoken_.text.capacity() +
         (path_.capacity() + spoken_.tokens.capacity() + spoken_.frames.capacity()) * sizeof(int) +
         surely_.capacity() * sizeof(double) + spoken_.words.capacity() * sizeof(Word);
}

// Results --------------------------------------------------------------------------------------

size_t Search::best() const {
  size_t found = 0;
  for (size_t i = 1; i < hyps_.size(); i++)
    if (total(hyps_[i]) > total(hyps_[found])) found = i;
  return found;
}

int Search::frames_since_label(const Hyp& hyp) const {
  const Node& node = record_[hyp.node];
  return frame_ - (node.token ? node.frame + 1 : first_frame_);
}

// The emissions up to and including `node`, along the path that stayed.
void Search::emissions(int node, std::vector<int>& out) const {
  out.clear();
  for (; record_[node].source >= 0; node = record_[node].source)
    if (record_[node].token) out.push_back(node);
  std::reverse(out.begin(), out.end());
}

const Partial& Search::partial() {
  const Hyp& hyp = hyps_[best()];
  if (spoken_node_ != hyp.node || spoken_stable_ != stable_) {
    record_.hold(hyp.node);
    if (spoken_node_ >= 0) record_.release(spoken_node_);
    spoken_node_ = hyp.node;
    spoken_stable_ = stable_;
    emissions(hyp.node, path_);
    spoken_.tokens.clear();
    spoken_.frames.clear();
    surely_.clear();
    for (const int node : path_) {
      spoken_.tokens.push_back(record_[node].token);
      spoken_.frames.push_back(record_[node].frame);
      surely_.push_back(record_[node].surely);
    }
    const size_t count = path_.size();
    decoder_.pieces.words(spoken_.tokens.data(), spoken_.frames.data(), surely_.data(), count,
                          decoder_.frame_seconds, spoken_.text, spoken_.words);
    const size_t stable = std::min(count, size_t(tree_[stable_].depth));
    spoken_.stable_words = decoder_.pieces.count_words(spoken_.tokens.data(), stable);
  }
  spoken_.log_prob = hyp.mass;
  spoken_.blank_frames = frames_since_label(hyp);
  spoken_.blank_probability = std::exp(hyp.blank);
  const double most = total(hyp);
  double sum = 0.0, weights = 0.0;
  for (const Hyp& other : hyps_) {
    const double weight = std::exp(total(other) - most);
    sum += weight * double(frames_since_label(other));
    weights += weight;
  }
  spoken_.pause_frames = sum / weights;
  return spoken_;
}

const float* Search::label() {
  const int prefix = hyps_[best()].prefix;
  const float* found;
  tree_.labels(&prefix, 1, stamp_, &found);
  return found;
}

}  // namespace slm
