// The search over a transducer, frame by frame: by beam, with prefix merging and path merging, or
// greedily. The twin of solomonic/speech/decode: given the same log-probabilities the same texts,
// times, confidences and lattices, bit for bit. docs/decoding.md says what the numbers mean.
#pragma once

#include <string>
#include <vector>

#include "lattice.h"
#include "pieces.h"
#include "prefix.h"
#include "record.h"

namespace slm {

// As `DecodeConfig` in Python; differences of scores are in nats.
struct DecodeConfig {
  bool greedy = false;
  int beam = 8;                 // hypotheses kept after a frame
  int max_symbols = 5;          // most labels in one frame
  double expand_beam = 5.0;     // a hypothesis goes on only with labels so near to its best step
  double label_bonus = 0.0;     // added to the score of every label; part of acoustic scores
  double state_beam = 8.0;      // hypotheses further behind the best are dropped
  int label_context = 4;        // path merging: so many last labels are compared; 0: it is off
  bool lattice = true;          // keep what is left aside
  double lattice_beam = 8.0;    // so near
  int alternatives = 8;         // so many in one place, at most 64
  int nbest = 8;                // hypotheses in a result
  double confidence_scale = 1.0;
  double stable_beam = 4.0;
  int stable_frames = 5;
  // Of this side only: the longest utterance that memory is taken for, and how many labels a frame
  // it may have in the mean (2 are 33 a second; people say 10).
  double longest_seconds = 60.0;
  double labels_per_frame = 2.0;

  void check() const;
};

// What any number of searches share; it holds none of their state.
class Decoder {
 public:
  // Both outlive it. Raises BadArgument: a setting out of range, or sizes that do not fit.
  Decoder(const LabelModel& model, const WordPieces& pieces, const DecodeConfig& config,
          double frame_seconds);

  const LabelModel& model;
  const WordPieces& pieces;
  const DecodeConfig config;
  const double frame_seconds;
};

// The best hypothesis at this moment.
struct Partial {
  std::string text;
  std::vector<int> tokens, frames;
  std::vector<Word> words;    // of `text`
  int stable_words = 0;       // that will not be taken back
  double log_prob = 0;        // summed over alignments, without bias
  double pause_frames = 0;    // expected number of frames since the last label
  int blank_frames = 0;       // since the last label of the best hypothesis
  double blank_probability = 1;
};

// One possible reading.
struct Hypothesis {
  std::string text;
  std::vector<int> tokens, frames;
  std::vector<double> log_probs;  // of each token
  std::vector<Word> words;        // of `text`
  double acoustic = 0;            // log-probability, summed over the alignments that were followed
  double bias = 0;                // what biasing paid
  double log_prob = 0;            // `acoustic` without the rounding of a path's sum
};

struct DecodeResult {
  std::vector<Hypothesis> nbest;  // different texts, the best first; never empty
  bool has_lattice = false;
  Lattice lattice;  // of pieces
  int end_frame = 0;
  // When the record was full: alternatives to what was said before this frame are gone (else -1).
  int forgotten_before = -1;
  bool narrowed = false;  // even that was not enough: once all hypotheses but the best were dropped
};

// One stream's search. All memory is taken by the constructor; `start` begins an utterance.
class Search {
 public:
  explicit Search(const Decoder& decoder);
  ~Search() = default;
  Search(const Search&) = delete;
  Search& operator=(const Search&) = delete;

  // A new utterance. `bias`: personal words for the search, `listed`: for the model's attention;
  // both outlive it, or are null. `first_frame`: number of its first frame in the stream, from
  // which times are counted.
  void start(Bias* bias = nullptr, int first_frame = 0, Listed* listed = nullptr);

  // Decode the next frame, (J). Raises BadArgument, and changes nothing, when it is not finite or
  // when the words of the best hypothesis alone fill the record.
  void advance(const float* acoustic);
  // How many hypotheses are kept from the next frame on, 1 (greedy) to config.beam.
  void set_beam(int beam);
  int beam() const { return beam_; }

  // The best hypothesis now; good until the search is changed.
  const Partial& partial();
  // The prediction network's vector (J) for it; good until the search is changed.
  const float* label();
  // The result if the utterance ended here; the search may go on, undisturbed.
  DecodeResult finish();

  int frame() const { return frame_; }
  int first_frame() const { return first_frame_; }
  int hypotheses() const { return int(hyps_.size()); }
  // Frames that can still be decoded whatever is said: as if each had `max_symbols` labels.
  int room() const;
  size_t bytes() const;  // reserved; pages that were never needed take no memory

 private:
  // A hypothesis between two frames; see record.py. It holds its node, its joint node and its list
  // of alternatives.
  struct Hyp {
    int prefix, node;
    int joint = -1, list = -1, joined = 0;
    double mass, score, joined_score = 0.0, blank = 0.0;
  };
  struct Candidate {
    int index;
    double total;
  };
  typedef std::vector<Hyp> Hyps;

  double total(const Hyp& hyp) const { return hyp.mass + tree_[hyp.prefix].bias; }
  void drop(Hyp& hyp);
  void drop_all(Hyps& hyps);
  int link(Hyp& hyp);
  Hyp closed(Hyp& hyp, double blank);
  Hyp emitted(Hyp& hyp, int prefix, double gain, double blank);
  void add_alignments(Hyp& hyp, const Hyp& other);
  void take_over(Hyp& winner, Hyp& loser);
  void replace(Hyp& hyp, const Alternative* paths, int count);

  void read(const Hyps& ways, const float* acoustic);
  void attend(const Hyps& ways, const float* acoustic);
  void bias_rows(const Hyps& ways);
  int best_action(int row) const;
  void greedy_frame(const float* acoustic);
  void beam_frame(const float* acoustic);
  void choose(const Hyps& ways, int forced);
  void survivors();
  void settle();
  bool observe(double least);
  bool allows(int prefix) const;
  int whole_words(int shared, const int* prefixes, int count) const;
  bool starts_word_after(int shared, int prefix) const;
  void sweep(int before);
  int forget();
  void make_room();
  int forget_oldest(int nodes, int blocks);

  size_t best() const;
  double final(int prefix) const { return bias_ ? bias_->final(tree_[prefix].bias_state) : 0.0; }
  int frames_since_label(const Hyp& hyp) const;
  void emissions(int node, std::vector<int>& out) const;

  const Decoder& decoder_;
  const DecodeConfig& config_;
  int vocab_;
  Bias* bias_ = nullptr;
  Listed* listed_ = nullptr;
  std::vector<char> allowed_;  // pieces that may be heard, of one hypothesis
  Record record_;
  PrefixTree tree_;
  int beam_, frame_ = 0, first_frame_ = 0;
  int64_t stamp_ = 0;
  Hyps hyps_, ways_, next_, closed_;
  int greedy_ = 0;
  // Stability: the stable prefix, and a ring of what was agreed on in the last frames.
  int stable_ = 0;
  std::vector<int> recent_;
  size_t recent_at_ = 0;
  int emissions_ = 0, forget_at_ = 0;
  int need_nodes_, need_blocks_, need_prefixes_;
  int forgotten_before_ = -1;
  bool narrowed_ = false;
  // What `partial` last read, and from where.
  Partial spoken_;
  int spoken_node_ = -1, spoken_stable_ = -1;
  // Scratch.
  std::vector<int> prefixes_, ends_, chosen_, path_, held_;
  std::vector<const float*> labels_;
  std::vector<float> log_probs_;  // (ways, V)
  std::vector<double> actions_;   // (ways, V), with bias only
  std::vector<double> totals_, ends_scores_, surely_;
  std::vector<Candidate> candidates_;
  std::vector<Alternative> alternatives_;
  std::vector<char> keep_;
  std::vector<int> order_;
};

}  // namespace slm
